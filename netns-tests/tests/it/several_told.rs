//! Agents are told of coordinators that come and go, and find them by that. The key that they have pinned tells them from
//! impostors.

use mesh_netns_tests::{Coordinator, Etcd, Stack, World, isolated, wait};

use crate::{
    common::{SHOP, declare},
    several_coordinators::state,
};

/// A coordinator on this etcd that advertises its own URL and these.
fn advertising(world: &World, name: &str, etcd: &Etcd, more: &[&str]) -> Coordinator {
    let coordinator = world.coordinator_to_start(name, &[]);
    let own = coordinator.url(false);
    let urls = [&[&*own], more].concat().join(",");
    coordinator.with_flags(&["--store", &etcd.store(), "--advertise", &urls])
}

#[test]
fn an_agent_is_told_of_a_coordinator_that_comes_later_and_finds_it_after_a_restart() {
    isolated(|| {
        let world = World::new();
        let etcd = world.etcd(1);
        let impostor = world.coordinator_named("impostor", &[]);
        let mut one = advertising(&world, "one", &etcd, &[&impostor.url(false)]);
        let mut two = advertising(&world, "two", &etcd, &[]);
        one.start();
        one.command(&["keys", "export", "/run/keys"]).done();
        two.command(&["keys", "import", "/run/keys"]).done();
        declare(&one, &[SHOP]);
        let mut aws = world.machine("aws", Stack::Dual);
        let token = one.command(&["token", "create", "--any", "--json"]).json()["token"].clone();
        aws.start(&[&one.url(false), token.as_str().expect("a token"), "--name", "aws"]);
        let knows =
            |url: &str| aws.command(&["status", "--json"]).json()["coordinator"]["url"].to_string().contains(url);
        assert!(!knows(&two.url(false)));
        two.start();
        wait::until_true("the agent to be told", || knows(&two.url(false)) && knows(&one.url(false)));

        one.kill();
        wait::until_true("the runner at the second one", || state(&two, "aws") == "online");
        aws.stop();
        aws.start_alone(&[]);
        wait::until_true("the restarted runner there", || two.log().matches("stream began").count() == 2);
        aws.wait_connected();
        let _app = aws.attach("shop/app");

        // It was told of the impostor too, by one that has the key; but that one hasn't.
        two.kill();
        wait::until_true("all to be tried", || aws.log().contains(&impostor.url(false)));
        assert!(!impostor.log().contains("stream began"));
        two.start();
        aws.wait_connected();
    });
}
