//! A runner that comes back at another address is found again, by those that knew it at the old one.

use mesh_netns_tests::{
    Stack, World, isolated,
    traffic::{Answer, ping},
};

use crate::common::{SHOP, declare, reaches};

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
