//! Runners in places that are neither apart nor together: behind two routers, behind the same one, with one protocol each.

use mesh_netns_tests::{
    Instance, Nat, Runner, Stack, Turn, isolated,
    traffic::{Answer, ping},
    wait,
};

use crate::reach::{Lab, MEETINGS, path_to, wait_relayed};

/// They reach each other, by this path in the end. With what is returned they go on with it.
fn reach_by(runners: [&Runner; 2], path: &str) -> [Instance; 2] {
    let (app, db) = (runners[0].attach("shop/app"), runners[1].attach("shop/db"));
    let _server = db.serve(7, Answer::Echo);
    let mut stream = app.connect(db.service_address, 7).expect("a connection");
    wait::true_within(MEETINGS, &format!("the path to be {path}"), || {
        ping(&mut stream, b"are you there?").expect("an echo");
        path_to(runners[0], "birch") == path && path_to(runners[1], "alder") == path
    });
    [app, db]
}

fn of_two_families(turn: Turn) {
    let lab = Lab::new(turn);
    let runners = [("alder", Stack::V4), ("birch", Stack::V6)]
        .map(|(name, stack)| lab.world.runner(&lab.coordinator, name, stack));
    runners.iter().for_each(wait_relayed);
    drop(reach_by(runners.each_ref(), "relay"));
}

#[test]
fn ipv4_alone_and_ipv6_alone_meet_at_coturn() {
    isolated(|| of_two_families(Turn::Coturn));
}

#[test]
fn ipv4_alone_and_ipv6_alone_meet_at_a_relay_of_the_mesh() {
    isolated(|| of_two_families(Turn::Enrolled));
}

fn behind_two_routers(inner: Nat, path: &str) {
    let lab = Lab::new(Turn::Coturn);
    let outer = lab.world.router("outer", Nat::Home, Stack::V4);
    let inner = lab.world.router_behind(&outer, "inner", inner);
    let one = lab.runner_behind(&inner, "alder");
    let other = lab.site("birch", Nat::Home);
    drop(reach_by([&one, &other.runner], path));
}

#[test]
fn h_behind_h_is_reached_directly() {
    isolated(|| behind_two_routers(Nat::Home, "direct"));
}

#[test]
fn s_behind_h_is_reached_by_the_relay() {
    isolated(|| behind_two_routers(Nat::Symmetric, "relay"));
}

fn networks_of_one_router(hairpin: bool, path: &str) {
    let lab = Lab::new(Turn::Coturn);
    let router = lab.world.router("router", Nat::Home, Stack::V4);
    if hairpin {
        router.hairpin();
    }
    // A hairpin leads back by ports that stay as they are: each runner has its own.
    let runners = [("alder", "51820"), ("birch", "51821")].map(|(name, port)| {
        let (mut runner, url) = (lab.world.machine_behind(&router, name), lab.coordinator.url(false));
        runner.start(&[&url, &lab.coordinator.token(&["--any"]), "--name", name, "--provider", name, "--listen", port]);
        wait_relayed(&runner);
        runner
    });
    drop(reach_by(runners.each_ref(), path));
}

#[test]
fn two_networks_of_one_router_meet_at_its_hairpin() {
    isolated(|| networks_of_one_router(true, "direct"));
}

#[test]
fn two_networks_of_one_router_without_hairpin_meet_at_the_relay() {
    isolated(|| networks_of_one_router(false, "relay"));
}

#[test]
fn neighbours_in_one_network_reach_each_other_there() {
    isolated(|| {
        let lab = Lab::new(Turn::Coturn);
        let router = lab.world.router("router", Nat::Symmetric, Stack::V4);
        let one = lab.runner_behind(&router, "alder");
        let other = lab.world.runner_beside(&router, 1, &lab.coordinator, "birch");
        wait_relayed(&other);
        let _instances = reach_by([&one, &other], "direct");
        assert!(one.peer("birch").expect("a peer")["endpoint"].as_str().is_some_and(|at| at.starts_with("192.168.")));
    });
}
