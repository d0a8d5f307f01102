//! Where runners are found: at the addresses from the operator, at another one after a move, and nowhere once they are
//! removed.

use std::{
    fs::{self, DirBuilder},
    net::TcpStream,
    os::unix::fs::DirBuilderExt as _,
    time::Duration,
};

use mesh_netns_tests::{
    Stack, World, isolated,
    traffic::{Answer, ping},
    wait,
};

use crate::common::{SHOP, declare, is_refused, reaches};

#[test]
fn a_runner_whose_address_changes_is_found_again() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let mut ovh = world.runner(&coordinator, "ovh", Stack::Dual);
        let (app, db) = (aws.attach("shop/app"), ovh.attach("shop/db"));
        let _server = db.serve(5432, Answer::Echo);
        let mut old = app.connect(db.service_address, 5432).expect("a connection");
        ping(&mut old, b"before").expect("an echo");
        let endpoint = aws.peer("ovh").expect("a peer")["endpoint"].clone();

        world.unplug(ovh.namespace());
        world.plug(ovh.namespace(), Stack::Dual);
        // The kernel retransmits by itself until the runner is found; the limit is that of the read.
        ping(&mut old, b"after").expect("the same connection goes on");
        reaches(&app, db.service_address, 5432);
        let now = aws.peer("ovh").expect("a peer")["endpoint"].clone();
        assert_ne!(now, endpoint);
        ovh.wait_connected();
    });
}

#[test]
fn a_runner_whose_address_changes_while_the_coordinator_is_away_is_found_again() {
    isolated(|| {
        let world = World::new();
        let mut coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let ovh = world.runner(&coordinator, "ovh", Stack::Dual);
        let (app, db) = (aws.attach("shop/app"), ovh.attach("shop/db"));
        let _server = db.serve(5432, Answer::Echo);
        let mut old = app.connect(db.service_address, 5432).expect("a connection");
        ping(&mut old, b"before").expect("an echo");
        coordinator.kill();
        world.unplug(ovh.namespace());
        world.plug(ovh.namespace(), Stack::Dual);
        // Only the runner itself can notify its peer.
        ping(&mut old, b"after").expect("the same connection goes on");
        reaches(&app, db.service_address, 5432);
    });
}

#[test]
fn a_runner_that_loses_ipv4_is_found_by_ipv6() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let mut ovh = world.machine("ovh", Stack::Dual);
        ovh.start(&[&coordinator.url(true), &coordinator.token(&["--any"]), "--name", "ovh", "--provider", "ovh"]);
        let (app, db) = (aws.attach("shop/app"), ovh.attach("shop/db"));
        let _server = db.serve(5432, Answer::Echo);
        let mut old = app.connect(db.service_address, 5432).expect("a connection");
        ping(&mut old, b"before").expect("an echo");
        world.unplug(ovh.namespace());
        world.plug(ovh.namespace(), Stack::V6);
        ping(&mut old, b"after").expect("the same connection goes on");
        assert!(aws.peer("ovh").expect("a peer")["endpoint"].as_str().is_some_and(|e| e.starts_with('[')));
    });
}

#[test]
fn a_runner_is_where_its_operator_says() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let mut ovh = world.machine("ovh", Stack::Dual);
        let (url, token) = (coordinator.url(false), coordinator.token(&["--any"]));
        ovh.start(&[&url, &token, "--name", "ovh", "--listen", "4000", "--endpoint", "10.0.3.2:4000"]);
        assert_eq!(coordinator.node("ovh").expect("a node")["endpoints"], serde_json::json!(["10.0.3.2:4000"]));
        let (app, db) = (aws.attach("shop/app"), ovh.attach("shop/db"));
        let _server = db.serve(5432, Answer::Echo);
        reaches(&app, db.service_address, 5432);
        assert_eq!(aws.peer("ovh").expect("a peer")["endpoint"], "10.0.3.2:4000");
    });
}

#[test]
fn the_configuration_says_where_a_runner_is_and_a_flag_wins() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        let mut ovh = world.machine("ovh", Stack::Dual);
        DirBuilder::new().recursive(true).mode(0o700).create(ovh.state()).expect("a directory");
        fs::write(ovh.state().join("config.toml"), "[agent]\nlisten = 4001\nendpoints = [\"10.0.3.2:4001\"]\n")
            .expect("the configuration");
        let (url, token) = (coordinator.url(false), coordinator.token(&["--any"]));
        ovh.start(&[&url, &token, "--name", "ovh"]);
        let is_at = |endpoint: &str| {
            let told = || coordinator.node("ovh").expect("a node")["endpoints"] == serde_json::json!([endpoint]);
            wait::until_true("the coordinator to be told", told);
        };
        is_at("10.0.3.2:4001");
        assert!(ovh.stop().success());
        ovh.start(&["--listen", "4000", "--endpoint", "10.0.3.2:4000"]);
        is_at("10.0.3.2:4000");
        assert!(ovh.log().contains("--listen counts for this start only"), "{}", ovh.log());
        assert!(ovh.stop().success());
        ovh.start(&[]);
        is_at("10.0.3.2:4001");
        assert!(ovh.log().contains("not the --endpoint of an earlier start"), "{}", ovh.log());
    });
}

#[test]
fn a_runner_that_is_removed_is_dropped_by_its_peers() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let ovh = world.runner(&coordinator, "ovh", Stack::Dual);
        let (app, db) = (aws.attach("shop/app"), ovh.attach("shop/db"));
        let (_calls, server) = (app.serve(80, Answer::Echo), db.serve(5432, Answer::Echo));
        let mut standing = app.connect(db.service_address, 5432).expect("a connection");
        ping(&mut standing, b"before").expect("an echo");
        coordinator.command(&["node", "remove", "ovh", "--force"]).done();
        wait::until_true("the peer to drop it", || aws.peer("ovh").is_none());
        assert_eq!(coordinator.node("ovh").expect("a node")["state"], "removed");
        is_refused(&app, db.service_address, 5432);
        assert!(ping(&mut standing, b"after").is_err(), "nothing passes that stood on it");
        assert_eq!(server.accepted(), 1);
        // It goes on with its map, but no other runner answers. Silence is a valid answer, so the limit is short.
        let (to, limit) = ((app.service_address, 80).into(), Duration::from_millis(300));
        assert!(db.namespace.enter(|| TcpStream::connect_timeout(&to, limit)).is_err());
        coordinator.command(&["node", "remove", "ghost"]).refused(&["ghost"]);
    });
}
