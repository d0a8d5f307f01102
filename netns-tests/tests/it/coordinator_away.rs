//! Without the coordinator everything goes on with the last map. When it is back, with an older or newer database, its
//! state applies.

use std::{fs, path::Path, process::Command};

use mesh_netns_tests::{
    Coordinator, Namespace, Runner, Stack, World, isolated, run,
    traffic::{Answer, ping},
    wait,
};

use crate::common::{BILLING, SHOP, declare, is_refused, reaches, wait_refused_at_home};

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    let mut command = Command::new("cp");
    command.arg("-a").arg(from).arg(to);
    run(command).done();
}

/// Waits until each of the runners has applied the coordinator's state.
fn agree(coordinator: &Coordinator, runners: &mut [&mut Runner]) {
    for runner in runners {
        runner.wait_connected();
        wait::until_true("the runner to apply what the coordinator has", || {
            let status = runner.json(&["status"]);
            let node = coordinator.node(status["runner"]["name"].as_str().expect("a name"));
            node.is_some_and(|node| node["revision"].is_u64() && node["revision"] == status["map"]["revision"])
        });
    }
}

#[test]
fn agents_restart_and_old_and_new_connections_work() {
    isolated(|| {
        let world = World::new();
        let mut coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP, BILLING]);
        let mut aws = world.runner(&coordinator, "aws", Stack::Dual);
        let mut ovh = world.runner(&coordinator, "ovh", Stack::Dual);
        let (app, db) = (aws.attach("shop/app"), ovh.attach("shop/db"));
        let api = aws.attach("billing/api");
        let _server = db.serve(5432, Answer::Echo);
        let mut old = app.connect(db.service_address, 5432).expect("a connection");
        ping(&mut old, b"before").expect("an echo");

        coordinator.kill();
        wait::until_true("the agent to notice", || aws.json(&["status"])["map"]["connected"] == false);
        let check = |old: &mut std::net::TcpStream| {
            ping(old, b"still there?").expect("the old connection");
            reaches(&app, db.service_address, 5432);
            is_refused(&api, db.service_address, 5432);
        };
        check(&mut old);
        for runner in [&mut aws, &mut ovh] {
            runner.stop();
            runner.start_alone(&[]);
            check(&mut old);
            runner.kill();
            runner.start_alone(&[]);
            check(&mut old);
        }
        let status = aws.json(&["status"]);
        assert!(status["map"]["connected"] == false && status["map"]["age_seconds"].is_u64(), "{status:#}");
        assert_eq!(status["instances"].as_array().map(Vec::len), Some(2), "{status:#}");
        // Commands that need the coordinator say so.
        aws.command(&["detach", "i-4711"]).refused(&[]);
        coordinator.command(&["services"]).refused(&["mesh-coord serve"]);

        coordinator.start();
        agree(&coordinator, &mut [&mut aws, &mut ovh]);
        check(&mut old);
        let instances = coordinator.json(&["instances"]);
        assert_eq!(instances["instances"].as_array().map(Vec::len), Some(3), "the same as before: {instances:#}");
    });
}

#[test]
fn a_restarted_container_is_attached_again_without_a_coordinator() {
    isolated(|| {
        let world = World::new();
        let mut coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let mut aws = world.runner(&coordinator, "aws", Stack::Dual);
        let ovh = world.runner(&coordinator, "ovh", Stack::Dual);
        let (app, db) = (aws.attach("shop/app"), ovh.attach("shop/db"));
        coordinator.kill();
        wait::until_true("the agent to notice", || ovh.json(&["status"])["map"]["connected"] == false);
        ovh.command(&["detach", &db.id]).done();
        let again = ovh.attach("shop/db");
        assert_eq!(
            (again.address, again.service_address),
            (db.address, db.service_address),
            "the address of the one that ended"
        );
        let _server = again.serve(5432, Answer::Echo);
        reaches(&app, db.service_address, 5432);
        coordinator.start();
        aws.wait_connected();
        reaches(&app, db.service_address, 5432);
    });
}

#[test]
fn a_restarted_container_is_attached_again_before_the_coordinators_silence_is_noticed() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let ovh = world.runner(&coordinator, "ovh", Stack::Dual);
        let (db, next) = (ovh.attach("shop/db"), Namespace::create("next"));
        let path = next.path();
        coordinator.frozen(|| {
            let detach = ovh.prepare(&["detach", &db.id]);
            std::thread::scope(|scope| {
                scope.spawn(|| run(detach).done());
                wait::until_true("its end to begin", || ovh.json(&["status"])["instances"] == serde_json::json!([]));
                let attach = ["attach", "shop/db", "--netns", path.to_str().expect("ASCII")];
                let attached = ovh.command(&[&attach[..], &["--json"]].concat()).done().json();
                assert_eq!(attached["instance"]["id"], db.id.as_str(), "the one that ended: {attached:#}");
            });
            assert_eq!(ovh.json(&["status"])["map"]["connected"], false);
        });
    });
}

#[test]
fn back_with_an_older_database() {
    isolated(|| {
        let world = World::new();
        let mut coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP, BILLING]);
        let mut aws = world.runner(&coordinator, "aws", Stack::Dual);
        let mut ovh = world.runner(&coordinator, "ovh", Stack::Dual);
        let app = aws.attach("shop/app");
        let backup = Path::new("/run/backup");
        coordinator.stop();
        copy(coordinator.data(), backup);
        coordinator.start();
        agree(&coordinator, &mut [&mut aws, &mut ovh]);

        // The backup has none of these: an instance, a trust, a service.
        let api = ovh.attach("billing/api");
        coordinator.command(&["trust", "shop", "--app", "billing"]).done();
        declare(&coordinator, &["deployment = \"shop\"\n[services.app]\n[services.cache]\n[services.db]\n"]);
        let _server = api.serve(80, Answer::Echo);
        wait::until_true("the trust", || app.connect(api.service_address, 80).is_ok());
        let hosts = |name: &str| app.hosts_lines().iter().any(|line| line.ends_with(&format!(" {name}")));
        wait::until_true("the name", || hosts("cache.warp") && hosts("api.billing.warp"));

        coordinator.kill();
        copy(backup, coordinator.data());
        coordinator.start();
        agree(&coordinator, &mut [&mut aws, &mut ovh]);
        assert_eq!(put_back(&coordinator), 1);
        // The agents end with its state: no trust, no such service. The instance, which exists, is added.
        wait_refused_at_home(&app, api.service_address, 80);
        wait::until_true("the names to be gone", || !hosts("cache.warp") && !hosts("api.billing.warp"));
        wait::until_true("the instance to be taken in", || {
            coordinator.json(&["instances"]).to_string().contains(&api.address.to_string())
        });
        coordinator.command(&["trust", "shop", "--app", "billing"]).done();
        wait::until_true("the trust given anew", || app.connect(api.service_address, 80).is_ok());
    });
}

/// How often the coordinator has found out that its database was put back.
fn put_back(coordinator: &Coordinator) -> usize {
    coordinator.json(&["audit"]).to_string().matches("database-put-back").count()
}

#[test]
fn back_with_a_newer_database_that_has_another_history() {
    isolated(|| {
        let world = World::new();
        let mut coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP, BILLING]);
        let mut aws = world.runner(&coordinator, "aws", Stack::Dual);
        let mut ovh = world.runner(&coordinator, "ovh", Stack::Dual);
        let (app, api) = (aws.attach("shop/app"), ovh.attach("billing/api"));
        let _server = api.serve(80, Answer::Echo);
        let backup = Path::new("/run/backup");
        coordinator.stop();
        copy(coordinator.data(), backup);
        coordinator.start();
        // The agents follow one history...
        coordinator.command(&["trust", "shop", "--app", "billing"]).done();
        wait::until_true("the trust", || app.connect(api.service_address, 80).is_ok());
        agree(&coordinator, &mut [&mut aws, &mut ovh]);
        let seen = aws.json(&["status"])["map"]["revision"].as_u64().expect("a revision");
        coordinator.stop();
        aws.stop();
        ovh.stop();
        // ...and then another one from the same backup, which goes further while they are away.
        copy(backup, coordinator.data());
        coordinator.start();
        let service = |n: u64| format!("deployment = \"other\"\n[services.s{n}]\n");
        for n in 0..seen + 5 {
            declare(&coordinator, &[&service(n)]);
        }
        aws.start(&[]);
        ovh.start(&[]);
        agree(&coordinator, &mut [&mut aws, &mut ovh]);
        assert!(aws.json(&["status"])["map"]["revision"].as_u64() > Some(seen));
        // Its revision alone tells nothing. A restart of the same database is none of these.
        assert_eq!(put_back(&coordinator), 1);
        coordinator.stop();
        coordinator.start();
        agree(&coordinator, &mut [&mut aws, &mut ovh]);
        assert_eq!(put_back(&coordinator), 1);
        is_refused(&app, api.service_address, 80);
    });
}
