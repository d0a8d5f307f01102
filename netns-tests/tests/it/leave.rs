//! A runner leaves the mesh without a trace; tokens and offloads that end.

use mesh_netns_tests::{Condition, Crowd, Instance, Pace, Runner, Stack, World, isolated, traffic::Answer, wait};

use crate::common::{SHOP, declare, is_refused};

fn has_mesh0(instance: &Instance) -> bool {
    instance.namespace.interface("mesh0").is_some()
}

/// The content of a state directory apart from the lock.
fn left_behind(runner: &Runner) -> Vec<String> {
    let names = std::fs::read_dir(runner.state()).expect("the state directory");
    let names = names.map(|entry| entry.expect("an entry").file_name().into_string().expect("an ASCII name"));
    names.filter(|name| name != "lock").collect()
}

#[test]
fn a_runner_that_leaves_removes_everything() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let mut ovh = world.runner(&coordinator, "ovh", Stack::Dual);
        let (app, db) = (aws.attach("shop/app"), ovh.attach("shop/db"));
        let _server = db.serve_named(5432);
        let mut standing = Crowd::gather(&app.namespace, db.service_address, 5432, 5);
        let said = ovh.json(&["leave"]);
        assert_eq!((&said["runner"]["name"], &said["instances"][0]["id"]), (&"ovh".into(), &db.id.as_str().into()));
        assert_eq!(ovh.ended().code(), Some(0), "the agent ends by itself, and systemd leaves it so");
        standing.wait_all(Condition::Reset);
        is_refused(&app, db.service_address, 5432);
        assert_eq!(left_behind(&ovh), Vec::<String>::new());
        let state = coordinator.node("ovh").expect("it is listed")["state"].clone();
        assert_eq!(state, "removed");
        assert!(!has_mesh0(&db), "the namespace is as it was");
        assert!(!db.hosts_lines().iter().any(|line| line.contains("warp")));
        // Its name is free, and the machine can come back as another runner.
        let token = coordinator.token(&["--any"]);
        ovh.start(&[&coordinator.url(false), &token, "--name", "ovh"]);
        let db = ovh.attach("shop/db");
        let _server = db.serve(5432, Answer::Echo);
        wait::until_true("the new instance to be known", || app.connect(db.service_address, 5432).is_ok());
    });
}

#[test]
fn without_an_agent_it_leaves_too_and_without_a_coordinator_it_does_not() {
    isolated(|| {
        let world = World::new();
        let mut coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let mut aws = world.runner(&coordinator, "aws", Stack::Dual);
        let db = aws.attach("shop/db");
        coordinator.stop();
        aws.command(&["leave"]).refused(&["coordinator", "node remove aws"]);
        assert!(has_mesh0(&db), "nothing has changed");
        aws.stop();
        aws.command(&["leave"]).refused(&["coordinator", "node remove aws"]);
        assert!(has_mesh0(&db), "nor now");
        coordinator.start();
        aws.command(&["leave"]).done();
        assert!(!has_mesh0(&db));
        assert_eq!(left_behind(&aws), Vec::<String>::new());
        assert_eq!(coordinator.node("aws").expect("it is listed")["state"], "removed");
        aws.command(&["leave"]).refused(&["has not joined"]);
    });
}

#[test]
fn a_runner_that_was_removed_leaves_by_itself() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let mut aws = world.runner(&coordinator, "aws", Stack::Dual);
        let ovh = world.runner(&coordinator, "ovh", Stack::Dual);
        let (db, _app) = (aws.attach("shop/db"), ovh.attach("shop/app"));
        aws.command(&["why", "shop/db", "shop/app", "80"]).done();
        coordinator.command(&["node", "remove", "aws", "--force"]).done();
        wait::until_true("the agent to hear that it is unknown", || {
            aws.json(&["status"])["coordinator"]["error"].as_str().is_some_and(|error| error.contains("does not know"))
        });
        let why = aws.command(&["why", "shop/db", "shop/app", "80"]).expect_code(1);
        assert!(
            why.stdout.contains("cut off from all other runners") && why.stdout.contains("mesh-node leave"),
            "{}",
            why.stdout
        );
        assert!(!aws.log().contains("opened again"), "{}", aws.log());
        aws.command(&["leave"]).done();
        assert_eq!(aws.ended().code(), Some(0));
        assert!(!has_mesh0(&db) && left_behind(&aws).is_empty());
    });
}

#[test]
fn a_token_can_take_the_nodes_along_that_it_enrolled() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        let token = coordinator.token(&["--any", "--uses", "2", "--ephemeral"]);
        let mut machines = ["a", "b"].map(|name| world.machine(name, Stack::V4));
        for (machine, name) in machines.iter_mut().zip(["a", "b"]) {
            machine.start(&[&coordinator.url(false), &token, "--name", name]);
        }
        let other = world.runner(&coordinator, "other", Stack::V4);
        assert_eq!(coordinator.node("a").expect("it is listed")["ephemeral"], true);
        let tokens = coordinator.json(&["token", "list"]);
        let id = tokens["tokens"][0]["id"].as_str().expect("an identifier").to_owned();
        coordinator.command(&["token", "revoke", &id]).done();
        assert_eq!(coordinator.node("a").expect("it is listed")["state"], "online", "it stays");
        let said = coordinator.command(&["token", "revoke", &id, "--with-nodes"]).done();
        assert!(said.stdout.contains("a, b"), "{}", said.stdout);
        for name in ["a", "b"] {
            assert_eq!(coordinator.node(name).expect("it is listed")["state"], "removed");
        }
        assert_eq!(other.json(&["status"])["map"]["connected"], true);
    });
}

#[test]
fn offloads_are_switched_under_load_without_losing_a_byte() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let (aws, ovh) =
            (world.runner(&coordinator, "aws", Stack::Dual), world.runner(&coordinator, "ovh", Stack::Dual));
        let (app, db) = (aws.attach("shop/app"), ovh.attach("shop/db"));
        let _server = db.serve_named(5432);
        let transfers = Crowd::gather(&app.namespace, db.service_address, 5432, 2).transfer(Pace::Full);
        for (offload, node) in
            [("tun-gso", "aws"), ("udp-gso", "aws"), ("udp-gro", "aws"), ("tun-gso", "ovh"), ("udp-gso", "ovh")]
        {
            for state in ["off", "on"] {
                coordinator.command(&["switch", offload, state, "--node", node]).done();
                let runner = if node == "aws" { &aws } else { &ovh };
                wait::until_true("the agent to have switched", || {
                    runner.json(&["status"])["offloads"][offload]["on"] == (state == "on")
                });
                transfers.iter().for_each(|transfer| transfer.wait_more(1 << 20));
            }
        }
        for transfer in transfers {
            transfer.finish().expect("every byte as it was sent");
        }
        coordinator.command(&["switch", "udp-gso", "off"]).done();
        assert_eq!(coordinator.node("aws").expect("it is listed")["off"], serde_json::json!(["udp-gso"]));
        coordinator.command(&["switch", "udp-gso", "off", "--node", "ghost"]).refused(&["ghost"]);
        Crowd::gather(&app.namespace, db.service_address, 5432, 3).assert_all_answer();
    });
}
