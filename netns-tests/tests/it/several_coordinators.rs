//! Several coordinators on one etcd serve at once. Any machine may go, of etcd's and of the coordinators'; what was
//! confirmed stays, and the agents find another coordinator by themselves.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use mesh_netns_tests::{
    Coordinator, Etcd, Runner, Stack, World, isolated, run,
    traffic::{Answer, ping},
    wait,
};
use serde_json::Value;

use crate::common::{BILLING, SHOP, declare, is_refused, reaches};

/// An etcd of three members, and two coordinators on it.
pub(crate) fn on_etcd(world: &World) -> (Etcd, Coordinator, Coordinator) {
    let etcd = world.etcd(3);
    let flags = ["--store", &etcd.store()];
    let one = world.coordinator_named("one", &flags);
    let mut two = world.coordinator_to_start("two", &flags);
    one.command(&["keys", "export", "/run/keys"]).done();
    two.command(&["keys", "import", "/run/keys"]).done();
    two.start();
    (etcd, one, two)
}

/// A runner that knows these coordinators.
pub(crate) fn runner(world: &World, name: &str, known: &[&Coordinator]) -> Runner {
    let mut runner = world.machine(name, Stack::Dual);
    let urls: Vec<String> = known.iter().map(|coordinator| coordinator.url(false)).collect();
    runner.start(&[&urls.join(","), &known[0].token(&["--any"]), "--name", name]);
    runner
}

fn deployments(coordinator: &Coordinator) -> Vec<String> {
    let all = coordinator.json(&["deployments"]);
    let name = |row: &Value| row["deployment"].as_str().expect("a name").to_owned();
    let mut names: Vec<_> = all["deployments"].as_array().expect("an array").iter().map(name).collect();
    names.sort();
    names
}

pub(crate) fn deployment(name: &str) -> String {
    format!("deployment = \"{name}\"\n[services.app]\n")
}

/// How often the audit has noted this.
pub(crate) fn noted(coordinator: &Coordinator, action: &str) -> usize {
    coordinator.json(&["audit", "--action", action])["audit"].as_array().expect("an array").len()
}

pub(crate) fn state(coordinator: &Coordinator, runner: &str) -> String {
    coordinator.node(runner).expect("it is known")["state"].as_str().expect("a state").to_owned()
}

/// The states of the coordinators and their numbers of runners, as one of them tells.
pub(crate) fn members(coordinator: &Coordinator) -> Vec<(String, u64)> {
    let all = coordinator.json(&["members"]);
    let member = |row: &Value| {
        assert!(row["id"].is_string() && row["version"].is_string() && row["urls"].is_array(), "{row}");
        assert!(row["revision"].is_u64() && row["age_seconds"].is_u64(), "{row}");
        (row["state"].as_str().expect("a state").to_owned(), row["runners"].as_u64().expect("a number"))
    };
    let mut members: Vec<_> = all["members"].as_array().expect("an array").iter().map(member).collect();
    members.sort();
    members
}

#[test]
fn two_coordinators_serve_at_once_and_each_answers_for_the_whole_mesh() {
    isolated(|| {
        let world = World::new();
        let (_etcd, one, two) = on_etcd(&world);
        declare(&one, &[SHOP]);
        declare(&two, &[BILLING]);
        let aws = runner(&world, "aws", &[&one]);
        let gcp = runner(&world, "gcp", &[&two]);
        let (app, api) = (aws.attach("shop/app"), gcp.attach("billing/api"));
        let _server = api.serve(80, Answer::Echo);
        for coordinator in [&one, &two] {
            assert_eq!((state(coordinator, "aws"), state(coordinator, "gcp")), ("online".into(), "online".into()));
            assert_eq!(deployments(coordinator), ["billing", "shop"]);
            let fresh = |runners| ("fresh".to_owned(), runners);
            wait::until_true("both to know of each other", || members(coordinator) == [fresh(1), fresh(1)]);
        }

        // Who waits at one waits for the runners of the other.
        for _ in 0..3 {
            one.command(&["trust", "shop", "--app", "billing", "--wait"]).done();
            reaches(&app, api.service_address, 80);
            two.command(&["trust", "--clear", "--app", "billing", "--wait"]).done();
            is_refused(&app, api.service_address, 80);
        }
        gcp.pause();
        let waiting = two.command(&["trust", "shop", "--app", "billing", "--wait", "--timeout", "1s", "--json"]);
        assert_eq!(waiting.json()["pending"], serde_json::json!(["gcp"]));
        let waiting = one.command(&["trust", "shop", "--app", "billing", "--wait", "--timeout", "1s", "--json"]);
        assert_eq!(waiting.json()["pending"], serde_json::json!(["gcp"]));
        gcp.resume();

        // A runner is removed wherever it is connected.
        one.command(&["node", "remove", "gcp", "--force"]).done();
        wait::until_true("the removed one to know", || gcp.log().contains("was removed"));
        assert_eq!(state(&two, "aws"), "online");
    });
}

#[test]
fn a_coordinator_that_dies_or_hangs_costs_its_agents_a_moment_and_nothing_else() {
    isolated(|| {
        let world = World::new();
        let (_etcd, mut one, mut two) = on_etcd(&world);
        declare(&one, &[SHOP]);
        let known = [&one, &two];
        let (mut aws, mut gcp) = (runner(&world, "aws", &known), runner(&world, "gcp", &known));
        let (app, db) = (aws.attach("shop/app"), gcp.attach("shop/db"));
        let _server = db.serve(5432, Answer::Echo);
        let mut standing = app.connect(db.service_address, 5432).expect("a connection");

        one.kill();
        for name in ["a", "b"] {
            two.apply(&deployment(name)).done();
        }
        for runner in ["aws", "gcp"] {
            wait::until_true("the runner at the other one", || state(&two, runner) == "online");
        }
        let a = aws.attach("a/app");
        ping(&mut standing, b"still there").expect("the connection stands");
        one.start();
        two.frozen(|| {
            for runner in ["aws", "gcp"] {
                wait::until_true("the runner at the first one", || state(&one, runner) == "online");
            }
            wait::until_true("its end to be known", || members(&one).iter().any(|(state, _)| state == "gone"));
            one.apply(&deployment("c")).done();
            let _b = gcp.attach("b/app");
            ping(&mut standing, b"and now").expect("the connection stands");
        });
        aws.wait_connected();
        gcp.wait_connected();
        for coordinator in [&one, &two] {
            assert_eq!(deployments(coordinator), ["a", "b", "c", "shop"]);
            assert!(coordinator.json(&["instances"]).to_string().contains(&a.address.to_string()));
            assert_eq!((noted(coordinator, "stream-taken-over"), noted(coordinator, "runners-silent")), (0, 0));
        }
        assert!(two.stop().success());
        assert!(one.stop().success());
    });
}

#[test]
fn a_coordinator_that_lags_never_brings_a_revoked_grant_back() {
    isolated(|| {
        let world = World::new();
        let (_etcd, mut one, two) = on_etcd(&world);
        declare(&one, &[SHOP, BILLING]);
        let known = [&two, &one];
        let (mut aws, mut gcp) = (runner(&world, "aws", &known), runner(&world, "gcp", &known));
        let (app, api) = (aws.attach("shop/app"), gcp.attach("billing/api"));
        let _server = api.serve(80, Answer::Echo);
        one.command(&["trust", "shop", "--app", "billing", "--wait"]).done();
        reaches(&app, api.service_address, 80);
        let passed = AtomicBool::new(false);
        let done = AtomicBool::new(false);
        two.frozen(|| {
            one.command(&["trust", "--clear", "--app", "billing", "--wait", "--timeout", "30s"]).done();
            is_refused(&app, api.service_address, 80);
            one.kill();
        });
        // The one that lags is the only one now.
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    passed.fetch_or(app.connect(api.service_address, 80).is_ok(), Ordering::Relaxed);
                }
            });
            aws.wait_connected();
            gcp.wait_connected();
            two.apply(&deployment("later")).done();
            let _later = aws.attach("later/app");
            done.store(true, Ordering::Relaxed);
        });
        assert!(!passed.load(Ordering::Relaxed), "a revoked grant was used");
        is_refused(&app, api.service_address, 80);
    });
}

#[test]
fn writers_at_different_coordinators_lose_nothing_and_nothing_is_given_twice() {
    isolated(|| {
        let world = World::new();
        let (_etcd, one, mut two) = on_etcd(&world);
        let coordinators = [&one, &two];
        let writers: Vec<Vec<(String, std::process::Command)>> = (0..4)
            .map(|writer| {
                let prepared = (0..12).map(|number| {
                    let (name, at) = (format!("w{writer}-{number}"), coordinators[(writer + number) % 2]);
                    let command = at.prepare(&["apply", &at.file(&format!("{name}.toml"), &deployment(&name))]);
                    (name, command)
                });
                prepared.collect()
            })
            .collect();
        let confirmed: Vec<String> = thread::scope(|scope| {
            let writers: Vec<_> = writers
                .into_iter()
                .map(|commands| {
                    scope.spawn(move || {
                        let done = commands
                            .into_iter()
                            .filter_map(|(name, command)| (run(command).code == Some(0)).then_some(name));
                        done.collect::<Vec<_>>()
                    })
                })
                .collect();
            wait::until_true("some to be written", || deployments(&one).len() > 8);
            two.kill();
            writers.into_iter().flat_map(|writer| writer.join().expect("a writer")).collect()
        });
        assert!(confirmed.len() > 20, "{confirmed:?}");
        let there: BTreeSet<String> = deployments(&one).into_iter().collect();
        let lost: Vec<_> = confirmed.iter().filter(|name| !there.contains(*name)).collect();
        assert!(lost.is_empty(), "confirmed and not there: {lost:?}");
        two.start();
        assert_eq!(deployments(&two), deployments(&one));
        let services = one.json(&["services"]);
        let services = services["services"].as_array().expect("an array");
        let addresses: BTreeSet<&str> =
            services.iter().map(|row| row["address"].as_str().expect("an address")).collect();
        assert_eq!((services.len(), addresses.len()), (there.len(), there.len()), "each has its own address");
        let all = one.json(&["deployments"]);
        let ids: BTreeSet<&str> = all["deployments"]
            .as_array()
            .expect("an array")
            .iter()
            .map(|row| row["id"].as_str().expect("an id"))
            .collect();
        assert_eq!(ids.len(), there.len());
    });
}

#[test]
fn the_end_of_etcds_leader_costs_a_moment() {
    isolated(|| {
        let world = World::new();
        let (mut etcd, one, two) = on_etcd(&world);
        declare(&one, &[SHOP]);
        let mut written = vec!["shop".to_owned()];
        for round in 0..2 {
            let leader = etcd.leader();
            etcd.kill(leader);
            for number in 0..3 {
                let name = format!("d{round}-{number}");
                // Refused while etcd has no leader; never lost once it was confirmed.
                let at = if number % 2 == 0 { &one } else { &two };
                wait::until_true("a commit", || at.apply(&deployment(&name)).code == Some(0));
                written.push(name);
            }
            etcd.start(leader);
            written.sort();
            assert_eq!(deployments(&one), written);
        }
    });
}

#[test]
fn a_coordinator_that_is_cut_off_from_etcd_says_so_and_its_agents_leave_it() {
    isolated(|| {
        let world = World::new();
        let (etcd, mut one, two) = on_etcd(&world);
        declare(&one, &[SHOP]);
        let mut aws = runner(&world, "aws", &[&one, &two]);
        let (app, db) = (aws.attach("shop/app"), aws.attach("shop/db"));
        let _server = db.serve(5432, Answer::Echo);
        let mut standing = app.connect(db.service_address, 5432).expect("a connection");
        wait::until_true("it to know of the other one", || members(&one).len() == 2);
        for member in etcd.namespaces() {
            world.cut_between(one.namespace(), member);
        }
        wait::until_true("commands to be refused", || {
            let outcome = one.command(&["deployments"]);
            outcome.code == Some(1) && outcome.stderr.contains("the database cannot be reached")
        });
        wait::until_true("a word in the log", || one.log().contains("the way to the database is lost"));
        wait::until_true("its end to be known", || {
            members(&two).contains(&("gone".to_owned(), 0)) || members(&two).contains(&("gone".to_owned(), 1))
        });
        wait::until_true("the runner at the other one", || members(&two).contains(&("fresh".to_owned(), 1)));
        two.apply(&deployment("later")).done();
        let _later = aws.attach("later/app");
        ping(&mut standing, b"still there").expect("the connection stands");
        for member in etcd.namespaces() {
            world.mend_between(one.namespace(), member);
        }
        wait::until_true("it to serve again", || one.command(&["deployments"]).code == Some(0));
        assert_eq!(deployments(&one), ["later", "shop"]);
        wait::until_true("both to be fresh", || {
            members(&two).iter().filter(|(state, _)| state == "fresh").count() == 2
        });
        one.apply(&deployment("again")).done();
        aws.wait_connected();
        assert!(one.stop().success());
        let _again = aws.attach("again/app");
        reaches(&app, db.service_address, 5432);
    });
}

#[test]
fn coordinators_with_other_keys_or_of_a_version_that_serves_alone_exclude_each_other() {
    isolated(|| {
        let world = World::new();
        let etcd = world.etcd(1);
        let flags = ["--store", &etcd.store()];
        let other = world.coordinator_to_start("other", &flags);
        // As a coordinator of version 0.3 keeps it, without an end.
        let holder = r#"{"host":"old","urls":["https://192.0.2.9:7443"],"version":"0.3.0"}"#;
        etcd.put_with_lease("mesh/active", holder, 600);
        other.start_in_vain().refused(&["the coordinator on old (https://192.0.2.9:7443) uses this database alone"]);
        etcd.delete("mesh/active");
        let one = world.coordinator_named("one", &flags);
        assert!(etcd.get("mesh/active").contains("a later version that serves together"), "none of those begins now");
        other.start_in_vain().refused(&["has other keys", "keys export", "keys import"]);
        assert_eq!(members(&one).iter().filter(|(state, _)| state == "fresh").count(), 1);
    });
}

#[test]
fn records_move_to_three_coordinators_and_back_and_no_agent_notices() {
    isolated(|| {
        let world = World::new();
        let etcd = world.etcd(3);
        let mut one = world.coordinator_named("one", &[]);
        declare(&one, &[SHOP]);
        let mut aws = world.machine("aws", Stack::Dual);
        aws.start(&[&one.url(false), &one.token(&["--any"]), "--name", "aws"]);
        let (app, db) = (aws.attach("shop/app"), aws.attach("shop/db"));
        let _server = db.serve(5432, Answer::Echo);
        let mut standing = app.connect(db.service_address, 5432).expect("a connection");
        let data = one.data().display().to_string();
        let migrate = |one: &Coordinator, from: &str, to: &str| one.command(&["migrate", "--from", from, "--to", to]);

        migrate(&one, &data, &etcd.store()).refused(&["another coordinator is running"]);
        assert!(one.stop().success());
        migrate(&one, &data, &etcd.store()).done();
        one.start_in_vain().refused(&["were moved to an etcd", "--store"]);
        let mut there = one.with_flags(&["--store", &etcd.store()]);
        there.start();
        aws.wait_connected();
        there.command(&["keys", "export", "/run/keys"]).done();
        let mut others = ["two", "three"].map(|name| world.coordinator_to_start(name, &["--store", &etcd.store()]));
        for other in &mut others {
            other.command(&["keys", "import", "/run/keys"]).done();
            other.start();
            assert_eq!(deployments(other), ["shop"]);
        }
        declare(&others[1], &[BILLING]);
        let _api = aws.attach("billing/api");
        ping(&mut standing, b"still there").expect("the connection stands");
        assert!(there.stop().success() && others.iter_mut().all(|other| other.stop().success()));

        migrate(&there, &data, &etcd.store()).refused(&["holds no coordinator's database"]);
        migrate(&there, &etcd.store(), &data).done();
        there.start_in_vain().refused(&["were moved away from here"]);
        let mut back = there.with_flags(&[]);
        back.start();
        aws.wait_connected();
        assert_eq!(deployments(&back), ["billing", "shop"]);
        assert_eq!(back.json(&["instances"])["instances"].as_array().expect("an array").len(), 3);
        ping(&mut standing, b"still there").expect("the connection stands");
        reaches(&app, db.service_address, 5432);
    });
}
