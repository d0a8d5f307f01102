//! Runners between which no packets pass, as when a firewall drops UDP: everything that an operator looks at says so,
//! and nothing hangs.

use std::{collections::BTreeSet, io::ErrorKind, net::Ipv4Addr};

use mesh_netns_tests::{
    Coordinator, Faults, Instance, Runner, Stack, World, isolated,
    traffic::{Answer, Server, ping},
    wait,
};
use serde_json::Value;

use crate::common::{SHOP, declare, reaches};

/// The connection is refused as one to an unreachable host, by the engine's own limit.
#[track_caller]
fn is_out_of_reach(caller: &Instance, to: Ipv4Addr, port: u16) {
    let error = caller.connect(to, port).expect_err("nothing passes");
    assert_eq!(error.kind(), ErrorKind::HostUnreachable, "{error}");
}

fn steps(why: &Value) -> Vec<(&str, bool, &str)> {
    why["steps"]
        .as_array()
        .expect("an array")
        .iter()
        .map(|s| (s["step"].as_str().expect("a step"), s["ok"] == true, s["code"].as_str().expect("a code")))
        .collect()
}

/// How often the log has said so.
fn said(runner: &Runner, words: &str) -> usize {
    runner.log().lines().filter(|line| line.contains(words)).count()
}

#[test]
fn a_path_that_is_blocked_says_so_everywhere_and_heals() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let ovh = world.runner(&coordinator, "ovh", Stack::Dual);
        // Before the two have had a session.
        world.cut_between(aws.namespace(), ovh.namespace());
        let (app, db) = (aws.attach("shop/app"), ovh.attach("shop/db"));
        let _server = db.serve(5432, Answer::Echo);
        is_out_of_reach(&app, db.service_address, 5432);

        let peer = aws.peer("ovh").expect("a peer");
        assert!(peer["path"] == "none" && peer["tries"].as_u64() >= Some(3), "{peer:#}");
        assert!(peer["failed_seconds"].as_u64() >= Some(15), "{peer:#}");
        let status = aws.command(&["status"]).done().stdout;
        assert!(status.contains("no answer (") && status.contains(" tries)"), "{status}");

        let why = aws.command(&["why", "shop/app", "shop/db", "5432", "--json"]).expect_code(1).json();
        assert_eq!(why["verdict"], "deny", "{why:#}");
        assert_eq!(
            steps(&why)[2..],
            [("runner", true, "runs"), ("path", false, "no-answer"), ("verdict", false, "unanswered")]
        );
        let words = aws.command(&["why", "shop/app", "shop/db", "5432"]).expect_code(1).stdout;
        assert!(words.contains("went unanswered at") && words.contains("UDP 51820"), "{words}");

        let denied = aws.json(&["denied"]);
        let reasons: BTreeSet<&str> =
            denied["denied"].as_array().expect("an array").iter().filter_map(|d| d["reason"].as_str()).collect();
        assert_eq!(reasons, ["no-handshake"].into(), "{denied:#}");

        is_out_of_reach(&app, db.service_address, 5432);
        let log = aws.log();
        assert_eq!(said(&aws, "went unanswered at"), 1, "{log}");
        assert!(log.lines().any(|l| l.contains("WARN") && l.contains("ovh") && l.contains("unanswered")), "{log}");
        assert!(!log.contains("boringtun"), "{log}");

        world.mend_between(aws.namespace(), ovh.namespace());
        wait::until_true("the path to heal", || app.connect(db.service_address, 5432).is_ok());
        reaches(&app, db.service_address, 5432);
        assert_eq!(aws.peer("ovh").expect("a peer")["tries"], 0);
        aws.command(&["why", "shop/app", "shop/db", "5432"]).done();
        assert_eq!((said(&aws, "went unanswered at"), said(&aws, "answers again")), (1, 1));
    });
}

#[test]
fn a_path_that_breaks_and_heals_takes_the_next_connection_at_once() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let ovh = world.runner(&coordinator, "ovh", Stack::Dual);
        let (app, db) = (aws.attach("shop/app"), ovh.attach("shop/db"));
        let _server = db.serve(5432, Answer::Echo);
        reaches(&app, db.service_address, 5432);
        world.cut_between(aws.namespace(), ovh.namespace());
        is_out_of_reach(&app, db.service_address, 5432);
        is_out_of_reach(&app, db.service_address, 5432);
        world.mend_between(aws.namespace(), ovh.namespace());
        reaches(&app, db.service_address, 5432);
    });
}

#[test]
fn an_instance_on_a_runner_that_answers_takes_what_another_cannot() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let [aws, ovh, cellar] = ["aws", "ovh", "cellar"].map(|name| world.runner(&coordinator, name, Stack::Dual));
        world.cut_between(aws.namespace(), ovh.namespace());
        let (app, out, there) = (aws.attach("shop/app"), ovh.attach("shop/db"), cellar.attach("shop/db"));
        let _servers = [out.serve(5432, Answer::Echo), there.serve(5432, Answer::Echo)];
        (0..10).for_each(|_| reaches(&app, there.service_address, 5432));
        aws.command(&["why", "shop/app", "shop/db", "5432"]).done();
    });
}

/// A machine with two addresses is asked at the second one, and answers from it: a firewall by addresses lets nothing
/// else through.
#[test]
fn a_runner_answers_from_the_address_that_was_asked() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let app = aws.attach("shop/app");
        let _calls = app.serve(80, Answer::Echo);
        for (name, asked, prefix, endpoint) in
            [("ovh", "10.77.0.1", 32, "10.77.0.1:51820"), ("cellar", "fd77::1", 128, "[fd77::1]:51820")]
        {
            let mut runner = world.machine(name, Stack::Dual);
            runner.namespace().ip(&[&format!("addr add {asked}/{prefix} dev lo")]);
            world.route(&format!("{asked}/{prefix}"), runner.namespace());
            let (url, token) = (coordinator.url(false), coordinator.token(&["--any"]));
            runner.start(&[&url, &token, "--name", name, "--endpoint", endpoint]);
            let db = runner.attach("shop/db");
            let _server = db.serve(5432, Answer::Echo);
            for _ in 0..3 {
                reaches(&app, db.address, 5432);
                assert_eq!(aws.peer(name).expect("a peer")["endpoint"], endpoint);
            }
            // By the callee's own handshake as well.
            reaches(&db, app.service_address, 80);
            assert_eq!(aws.peer(name).expect("a peer")["endpoint"], endpoint);
        }
    });
}

/// Two runners, of which one has a clock that can be set, and a service on each.
struct Clocked {
    aws: Runner,
    faults: Faults,
    app: Instance,
    db: Instance,
    _others: (Coordinator, Runner, [Server; 2]),
}

impl Clocked {
    fn new(world: &World) -> Self {
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let mut aws = world.machine("aws", Stack::Dual);
        let faults = Faults::of(&mut aws);
        aws.start(&[&coordinator.url(false), &coordinator.token(&["--any"]), "--name", "aws"]);
        let ovh = world.runner(&coordinator, "ovh", Stack::Dual);
        let (app, db) = (aws.attach("shop/app"), ovh.attach("shop/db"));
        let servers = [db.serve(5432, Answer::Echo), app.serve(80, Answer::Echo)];
        Self { aws, faults, app, db, _others: (coordinator, ovh, servers) }
    }
}

/// The other runner remembers a later time stamp of its handshakes, and may refuse earlier ones (WireGuard §5.4.2).
#[test]
fn a_runner_whose_clock_was_set_back_is_reached_again() {
    isolated(|| {
        let world = World::new();
        let Clocked { mut aws, faults, app, db, _others } = Clocked::new(&world);
        reaches(&app, db.service_address, 5432);
        aws.stop();
        faults.set_clock(-5);
        aws.start_alone(&[]);
        // The limit is the kernel's, which retransmits SYNs for two minutes, and the runner's, which rejects after
        // three handshakes: one of them is answered.
        reaches(&app, db.service_address, 5432);
        reaches(&db, app.service_address, 80);
    });
}

/// After a jump forward, other runners remember a time stamp of the future; after a jump back, all handshakes are older
/// than that.
#[test]
fn a_runner_whose_clock_jumps_is_reached_before_and_after() {
    isolated(|| {
        let world = World::new();
        let Clocked { mut aws, faults, app, db, _others } = Clocked::new(&world);
        let both = || {
            reaches(&app, db.service_address, 5432);
            reaches(&db, app.service_address, 80);
        };
        both();
        let mut standing = app.connect(db.service_address, 5432).expect("a connection");
        for hours in [100, 0, -100, 0] {
            // While it runs, and at a start, when there are new handshakes.
            faults.set_clock(hours);
            ping(&mut standing, b"still there?").expect("the old connection");
            both();
            aws.stop();
            aws.start_alone(&[]);
            both();
            ping(&mut standing, b"still there?").expect("the old connection");
            wait::until_true("it to follow the coordinator", || aws.command(&["status", "--json"]).is_connected());
        }
    });
}
