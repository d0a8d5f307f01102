//! `mesh-coord status`, and a backup that is made while the coordinator runs and put back elsewhere.

use std::{fs, os::unix::fs::PermissionsExt as _};

use mesh_netns_tests::{Stack, World, isolated, wait};

use crate::common::{SHOP, declare};

#[test]
fn a_restored_coordinator_goes_on_with_its_agents_and_status_says_what_is_missing() {
    isolated(|| {
        let world = World::new();
        let mut coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let mut gcp = world.runner(&coordinator, "gcp", Stack::Dual);
        let (app, db) = (aws.attach("shop/app"), gcp.attach("shop/db"));
        let server = db.serve_named(5432);
        let connection = app.connect(db.service_address, 5432).expect("a connection");
        wait::until_true("nothing to be needed", || {
            coordinator.command(&["status", "--check"]).stdout.trim_end() == "ok"
        });
        let whole = coordinator.json(&["status"]);
        assert_eq!((&whole["ready"], &whole["instances"]["live"]), (&true.into(), &2.into()), "{whole:#}");

        let data = coordinator.data().display().to_string();
        let file = "/run/backup.tar";
        let made = coordinator.json(&["backup", file]);
        assert!(made["revision"].as_u64() > Some(1), "{made:#}");
        assert_eq!(fs::metadata(file).expect("the backup").permissions().mode() & 0o777, 0o600);
        coordinator.command(&["backup", file]).refused(&["exists"]);
        coordinator.command(&["restore", file]).refused(&["empty data directory only"]);
        // A change after the backup is lost with it.
        coordinator.apply("deployment = \"late\"\n[services.x]\n").done();
        let late = aws.attach("shop/app");

        // The machine is lost, and so is its disk.
        coordinator.kill();
        fs::rename(&data, format!("{data}.lost")).expect("cannot move the directory");
        coordinator.command(&["restore", file]).done();
        coordinator.start();
        wait::until_true("the agents to be back", || coordinator.json(&["status"])["needs"] == serde_json::json!([]));
        let deployments = coordinator.json(&["deployments"]).to_string();
        assert!(deployments.contains("shop") && !deployments.contains("late"), "{deployments}");
        let instances = coordinator.json(&["instances"]).to_string();
        for instance in [&app, &db, &late] {
            assert!(instances.contains(&format!("\"{}\"", instance.id)), "{} in {instances}", instance.id);
        }
        assert_eq!(gcp.connections(&db.id), 1, "the connection stands");
        drop(app.connect(db.service_address, 5432).expect("a new connection"));

        gcp.kill();
        let needs = wait::until("the loss to be noticed", || {
            let needs = coordinator.json(&["status"])["needs"].clone();
            (needs.as_array()?.len() == 2).then_some(needs)
        });
        assert_eq!(needs[0]["code"], "services-unreachable", "{needs:#}");
        assert_eq!(needs[1]["objects"][0], "gcp", "{needs:#}");
        coordinator.command(&["status", "--check"]).expect_code(1);
        drop((connection, server));
    });
}
