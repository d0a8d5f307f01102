//! Permitted traffic: on one runner, across two, across three on different networks. Every byte arrives, and the
//! underlay sees none of it.

use mesh_netns_tests::{
    Capture, Census, Instance, Stack, World, isolated,
    traffic::{Answer, exchange, ping},
    wait,
};

use crate::common::{RANGE, SHOP, declare, reaches};

const MUCH: u64 = 100_000_000;

/// 100 MB in each direction. Both ends check every byte.
#[track_caller]
fn exchanges_much(caller: &Instance, callee: &Instance, port: u16) {
    let server = callee.serve(port, Answer::Exchange(MUCH));
    let mut stream = caller.connect(callee.service_address, port).expect("a connection");
    exchange(&mut stream, MUCH).expect("every byte, both ways");
    assert_eq!(server.accepted(), 1);
}

#[test]
fn on_one_runner_nothing_leaves_the_machine() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let (app, db) = (aws.attach("shop/app"), aws.attach("shop/db"));
        let underlay = Capture::here();
        exchanges_much(&app, &db, 5432);
        exchanges_much(&db, &app, 80);
        let census = Census::take(&underlay.frames(), RANGE, &[]);
        assert_eq!((census.wireguard, census.of_the_range, census.other.len()), (0, 0, 0), "{census}");
    });
}

#[test]
fn across_two_runners_on_any_port() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let ovh = world.runner(&coordinator, "ovh", Stack::Dual);
        let (app, db) = (aws.attach("shop/app"), ovh.attach("shop/db"));
        for port in [1, 22, 80, 5432, 51820, 65535] {
            let server = db.serve(port, Answer::Echo);
            reaches(&app, db.service_address, port);
            reaches(&app, db.address, port);
            assert_eq!(server.accepted(), 2);
        }
        exchanges_much(&app, &db, 5432);
        exchanges_much(&db, &app, 5432);
    });
}

#[test]
fn across_three_runners_one_of_them_without_ipv4() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &["deployment = \"shop\"\n[services.a]\n[services.b]\n[services.c]\n"]);
        let runners = [("aws", Stack::Dual), ("ovh", Stack::Dual), ("basement", Stack::V6)]
            .map(|(name, stack)| world.runner(&coordinator, name, stack));
        let [a, b, c] = [(0, "shop/a"), (1, "shop/b"), (2, "shop/c")].map(|(i, s): (usize, _)| runners[i].attach(s));
        for (caller, callee) in [(&a, &b), (&b, &c), (&c, &a)] {
            exchanges_much(caller, callee, 8080);
        }
        for runner in &runners {
            let status = runner.json(&["status"]);
            let peers = status["peers"].as_array().expect("an array");
            assert_eq!(peers.len(), 2, "{status:#}");
            for peer in peers {
                assert_eq!(peer["path"], "direct", "{status:#}");
                let endpoint: std::net::SocketAddr =
                    peer["endpoint"].as_str().and_then(|e| e.parse().ok()).expect("an endpoint");
                let without_v4 = peer["name"] == "basement" || status["runner"]["name"] == "basement";
                assert!(endpoint.is_ipv6() || !without_v4, "{status:#}");
                assert!(peer["rx_bytes"].as_u64() > Some(MUCH) && peer["tx_bytes"].as_u64() > Some(MUCH), "{status:#}");
                assert!(peer["handshake_age_seconds"].as_u64() < Some(180), "{status:#}");
            }
        }
    });
}

#[test]
fn without_ipv6_on_the_underlay_too() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let aws = world.runner(&coordinator, "aws", Stack::V4);
        let ovh = world.runner(&coordinator, "ovh", Stack::V4);
        let (app, db) = (aws.attach("shop/app"), ovh.attach("shop/db"));
        let _server = db.serve(5432, Answer::Echo);
        reaches(&app, db.service_address, 5432);
    });
}

#[test]
fn the_underlay_sees_wireguard_and_tls_only() {
    isolated(|| {
        const SECRETS: [&[u8]; 2] = [b"what the app says to the db", b"SELECT * FROM customers --"];
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        // From the first packet on: enrolment, stream, attachment, and every handshake.
        let underlay = Capture::here();
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let ovh = world.runner(&coordinator, "ovh", Stack::Dual);
        let (app, db) = (aws.attach("shop/app"), ovh.attach("shop/db"));
        let inside = Capture::interface(&db.namespace, "mesh0");
        let _server = db.serve(5432, Answer::Echo);
        let mut stream = app.connect(db.service_address, 5432).expect("a connection");
        for round in 0..200usize {
            // One round trip at a time, so that the capture keeps up.
            ping(&mut stream, &SECRETS[round % 2].repeat(1 + round * 3)).expect("an echo");
        }
        let census = Census::take(&inside.frames(), RANGE, &SECRETS);
        assert!(census.with_pattern > 200 && census.of_the_range > 200, "the patterns can be found at all: {census}");

        let census = Census::take(&underlay.frames(), RANGE, &SECRETS);
        assert!(census.wireguard > 400 && census.control > 0, "{census}");
        assert_eq!((census.with_pattern, census.of_the_range), (0, 0), "{census}");
        assert!(census.other.is_empty(), "{census}");
    });
}

#[test]
fn an_instance_that_dials_its_own_service_reaches_itself() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let db = aws.attach("shop/db");
        let _server = db.serve(5432, Answer::Echo);
        reaches(&db, db.service_address, 5432);
        reaches(&db, db.address, 5432);
        reaches(&db, std::net::Ipv4Addr::LOCALHOST, 5432);
    });
}

#[test]
fn a_closed_port_and_a_service_without_instances_refuse() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let ovh = world.runner(&coordinator, "ovh", Stack::Dual);
        let app = aws.attach("shop/app");
        // Allowed, but no live instance: the same errno as for a rejection, with another ICMP code.
        let back = Capture::interface(&app.namespace, "mesh0");
        crate::common::is_refused(&app, coordinator.address_of("shop/db"), 5432);
        back.wait_refused(|_| true, |p| p.icmp() == Some((3, 1)));

        let db = ovh.attach("shop/db");
        let error = app.connect(db.service_address, 5432).expect_err("a closed port");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);

        // After its end there is none again, as soon as the runners know.
        aws.command(&["detach", &db.id]).refused(&[]);
        ovh.command(&["detach", &db.id]).done();
        assert!(db.namespace.interface("mesh0").is_none());
        wait::until_true("the caller's runner to hear of the end", || {
            app.connect(db.service_address, 5432).is_err_and(|e| e.kind() == std::io::ErrorKind::HostUnreachable)
        });
    });
}
