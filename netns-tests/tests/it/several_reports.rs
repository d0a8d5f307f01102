//! Every answer of every coordinator is about the whole mesh: who talks to whom, who is refused, when a runner was last
//! heard. It says which part is missing.

use mesh_netns_tests::{
    Coordinator, World, isolated,
    traffic::{Answer, ping},
    wait,
};
use serde_json::{Value, json};

use crate::{
    common::{BILLING, SHOP, declare, is_refused},
    several_coordinators::{members, on_etcd, runner},
};

fn rows(answer: &Value, of: &str) -> Vec<Value> {
    answer[of].as_array().expect("an array").clone()
}

/// The connections of one service to another one, as a coordinator tells: how many stand and were opened.
fn edge(coordinator: &Coordinator, from: &str, to: &str) -> (u64, u64) {
    let edges = rows(&coordinator.json(&["top"]), "edges");
    let edge = edges.into_iter().find(|edge| edge["from"] == from && edge["to"] == to);
    edge.map_or((0, 0), |edge| (edge["open"].as_u64().expect("a number"), edge["opened"].as_u64().expect("a number")))
}

fn reporting(coordinator: &Coordinator) -> u64 {
    coordinator.json(&["top"])["reporting"].as_u64().expect("a number")
}

#[test]
fn what_is_reported_to_one_coordinator_is_known_by_the_other() {
    isolated(|| {
        let world = World::new();
        let (_etcd, one, mut two) = on_etcd(&world);
        let both = || [&one, &two];
        declare(&one, &[SHOP, BILLING]);
        let (mut aws, gcp) = (runner(&world, "aws", &[&one]), runner(&world, "gcp", &[&two]));
        let (app, db) = (aws.attach("shop/app"), gcp.attach("shop/db"));
        let api = gcp.attach("billing/api");
        let _server = db.serve(5432, Answer::Echo);
        let _other = api.serve(80, Answer::Echo);
        let mut standing = app.connect(db.service_address, 5432).expect("a connection");
        ping(&mut standing, b"hello").expect("an echo");
        is_refused(&app, api.service_address, 80);

        for coordinator in [&one, &two] {
            wait::until_true("both to report", || reporting(coordinator) == 2);
            wait::until_true("the connection", || edge(coordinator, "shop/app", "shop/db") == (1, 1));
            let is_there = |row: &Value| row["from"] == "shop/app" && row["count"].as_u64() > Some(0);
            wait::until_true("the refusal", || rows(&coordinator.json(&["refused"]), "refused").iter().any(is_there));
            for name in ["aws", "gcp"] {
                wait::until_true("what each runner has confirmed and when it was heard", || {
                    let node = coordinator.node(name).expect("it is known");
                    node["revision"].is_u64() && node["last_seen_seconds"].as_u64().is_some_and(|seconds| seconds < 60)
                });
            }
            let tried = coordinator.command(&["delete", "shop", "--force", "--dry-run"]).done().stdout;
            assert!(tried.contains("1 connection would end"), "{tried}");
        }

        // A runner that moves is counted once.
        aws.stop();
        aws.start(&[&two.url(false), &one.token(&["--any"]), "--name", "aws"]);
        wait::until_true("the runner at the second one", || members(&one).contains(&("fresh".to_owned(), 2)));
        for coordinator in both() {
            wait::until_true("the connection once", || edge(coordinator, "shop/app", "shop/db") == (1, 1));
            wait::until_true("both to report", || reporting(coordinator) == 2);
        }

        // One that hangs is named, until it counts as gone.
        two.frozen(|| {
            let answer = one.json(&["nodes"]);
            let is_gone = members(&one).iter().any(|(state, _)| state == "gone");
            assert!(is_gone || rows(&answer, "lacking").len() == 1, "{answer}");
        });
        wait::until_true("it to answer", || one.json(&["nodes"])["lacking"] == json!(null));
        assert!(two.stop().success());
    });
}

#[test]
fn a_relay_is_online_for_both_whichever_it_is_connected_to() {
    isolated(|| {
        let world = World::new();
        let (_etcd, one, two) = on_etcd(&world);
        let _relay = world.own_relay(&two, "fra");
        for coordinator in [&one, &two] {
            wait::until_true("the relay", || {
                let relays = rows(&coordinator.json(&["relays"]), "relays");
                relays.len() == 1 && relays[0]["state"] == "online"
            });
        }
    });
}
