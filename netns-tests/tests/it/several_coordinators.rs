//! Records in an etcd: any machine may go, of etcd's and of the coordinators'. Another coordinator goes on, with all that
//! was confirmed, and the agents find it by themselves.

use std::thread;

use mesh_netns_tests::{
    Coordinator, Etcd, Runner, Stack, World, isolated, run,
    traffic::{Answer, ping},
    wait,
};

use crate::common::{BILLING, SHOP, declare, is_refused, reaches, wait_refused_at_home};

/// An etcd of three members, a coordinator on it, and another one with its keys that isn't started yet.
fn on_etcd(world: &World) -> (Etcd, Coordinator, Coordinator) {
    let etcd = world.etcd(3);
    let flags = ["--store", &etcd.store()];
    let one = world.coordinator_named("one", &flags);
    let two = world.coordinator_to_start("two", &flags);
    one.command(&["keys", "export", "/run/keys"]).done();
    two.command(&["keys", "import", "/run/keys"]).done();
    (etcd, one, two)
}

/// A runner that knows both.
fn runner(world: &World, name: &str, [one, two]: [&Coordinator; 2]) -> Runner {
    let mut runner = world.machine(name, Stack::Dual);
    let urls = format!("{},{}", one.url(false), two.url(false));
    runner.start(&[&urls, &one.token(&["--any"]), "--name", name]);
    runner
}

fn deployments(coordinator: &Coordinator) -> Vec<String> {
    let all = coordinator.json(&["deployments"]);
    let name = |row: &serde_json::Value| row["deployment"].as_str().expect("a name").to_owned();
    let mut names: Vec<_> = all["deployments"].as_array().expect("an array").iter().map(name).collect();
    names.sort();
    names
}

fn deployment(name: &str) -> String {
    format!("deployment = \"{name}\"\n[services.app]\n")
}

#[test]
fn where_a_coordinator_dies_another_one_goes_on_with_all_that_was_confirmed() {
    isolated(|| {
        let world = World::new();
        let (_etcd, mut one, mut two) = on_etcd(&world);
        declare(&one, &[SHOP, BILLING]);
        let mut aws = runner(&world, "aws", [&one, &two]);
        let mut gcp = runner(&world, "gcp", [&one, &two]);
        let (app, db) = (aws.attach("shop/app"), gcp.attach("shop/db"));
        let api = gcp.attach("billing/api");
        one.command(&["trust", "shop", "--app", "billing", "--wait"]).done();
        let (_server, _other) = (db.serve(5432, Answer::Echo), api.serve(80, Answer::Echo));
        let mut standing = app.connect(db.service_address, 5432).expect("a connection");
        reaches(&app, api.service_address, 80);
        // One at a time.
        two.start_in_vain().refused(&["the coordinator on", "only one may at a time"]);

        for name in ["a", "b", "c"] {
            one.apply(&deployment(name)).done();
        }
        one.kill();
        two.start();
        aws.wait_connected();
        gcp.wait_connected();
        assert_eq!(deployments(&two), ["a", "b", "billing", "c", "shop"]);
        ping(&mut standing, b"still there").expect("the connection stands");
        reaches(&app, api.service_address, 80);
        // Commands go on, and what is revoked at one isn't there again at the other.
        let cache = aws.attach("a/app");
        assert_eq!(two.node("gcp").expect("it is known")["instances"], 2);
        two.command(&["trust", "--clear", "--app", "billing", "--wait"]).done();
        wait_refused_at_home(&app, api.service_address, 80);
        assert!(two.stop().success());
        one.start();
        aws.wait_connected();
        gcp.wait_connected();
        is_refused(&app, api.service_address, 80);
        ping(&mut standing, b"and now").expect("the connection stands");
        assert!(one.json(&["instances"]).to_string().contains(&cache.address.to_string()));
    });
}

#[test]
fn the_end_of_etcds_leader_costs_a_moment() {
    isolated(|| {
        let world = World::new();
        let (mut etcd, one, _two) = on_etcd(&world);
        declare(&one, &[SHOP]);
        let mut written = vec!["shop".to_owned()];
        for round in 0..2 {
            let leader = etcd.leader();
            etcd.kill(leader);
            for number in 0..3 {
                let name = format!("d{round}-{number}");
                // Refused while etcd has no leader; never lost once it was confirmed.
                wait::until_true("a commit", || one.apply(&deployment(&name)).code == Some(0));
                written.push(name);
            }
            etcd.start(leader);
            written.sort();
            assert_eq!(deployments(&one), written);
        }
    });
}

#[test]
fn a_coordinator_that_is_cut_off_from_etcd_says_so_and_gives_way() {
    isolated(|| {
        let world = World::new();
        let (etcd, mut one, mut two) = on_etcd(&world);
        declare(&one, &[SHOP]);
        let mut aws = runner(&world, "aws", [&one, &two]);
        let (app, db) = (aws.attach("shop/app"), aws.attach("shop/db"));
        let _server = db.serve(5432, Answer::Echo);
        let mut standing = app.connect(db.service_address, 5432).expect("a connection");
        for member in etcd.namespaces() {
            world.cut_between(one.namespace(), member);
        }
        wait::until_true("commands to be refused", || {
            let outcome = one.command(&["deployments"]);
            outcome.code == Some(1) && outcome.stderr.contains("the database cannot be reached")
        });
        wait::until_true("a word in the log", || one.log().contains("the way to the database is lost"));
        // The right to coordinate ends with its lease.
        two.start();
        wait::until_true("the runner to find the other one", || {
            two.node("aws").is_some_and(|node| node["state"] == "online")
        });
        two.apply(&deployment("later")).done();
        let _later = aws.attach("later/app");
        ping(&mut standing, b"still there").expect("the connection stands");
        for member in etcd.namespaces() {
            world.mend_between(one.namespace(), member);
        }
        let log = one.log();
        assert!(!one.ended().success(), "it was replaced: {log}");
        reaches(&app, db.service_address, 5432);
        aws.wait_connected();
    });
}

#[test]
fn one_that_hangs_while_another_takes_over_changes_nothing_when_it_goes_on() {
    isolated(|| {
        let world = World::new();
        let (_etcd, mut one, mut two) = on_etcd(&world);
        declare(&one, &[SHOP]);
        let aws = runner(&world, "aws", [&one, &two]);
        let (app, db) = (aws.attach("shop/app"), aws.attach("shop/db"));
        let _server = db.serve(5432, Answer::Echo);
        let late = one.prepare(&["apply", &one.file("mesh.toml", &deployment("late"))]);
        let late = one.frozen(|| {
            let late = thread::spawn(|| run(late));
            two.start();
            wait::until_true("the runner to find the other one", || {
                two.node("aws").is_some_and(|node| node["state"] == "online")
            });
            two.apply(&deployment("later")).done();
            late
        });
        let late = late.join().expect("it ends");
        assert_ne!(late.code, Some(0), "{late:?}");
        assert!(!one.ended().success());
        assert_eq!(deployments(&two), ["later", "shop"]);
        let _later = aws.attach("later/app");
        reaches(&app, db.service_address, 5432);
    });
}

#[test]
fn records_move_into_an_etcd_and_back_and_no_agent_notices() {
    isolated(|| {
        let world = World::new();
        let etcd = world.etcd(1);
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
        declare(&there, &[BILLING]);
        let _api = aws.attach("billing/api");
        assert!(there.stop().success());

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
