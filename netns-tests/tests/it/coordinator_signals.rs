//! The signals that an operator may send to a working coordinator.

use std::process::Command;

use mesh_netns_tests::{Crowd, Stack, World, isolated, wait};

use crate::common::{SHOP, declare};

#[test]
fn sighup_reads_the_certificate_again_and_ends_nothing() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let one = world.runner(&coordinator, "one", Stack::Dual);
        let (db, app) = (one.attach("shop/db"), one.attach("shop/app"));
        let _server = db.serve_named(9000);
        let mut standing = Crowd::gather(&app.namespace, db.service_address, 9000, 3);
        let hangup = || {
            let sent = Command::new("kill").args(["-HUP", &coordinator.pid().to_string()]).status();
            assert!(sent.is_ok_and(|status| status.success()));
        };
        hangup();
        wait::until_true("the signal to be heard", || coordinator.log().contains("the certificate was made anew"));
        std::fs::write(coordinator.data().join("tls-key.pem"), "rubbish").expect("a file");
        hangup();
        wait::until_true("the mistake to be named", || coordinator.log().contains("tls-key.pem is damaged"));
        // New connections get the certificate that was valid.
        let _two = world.runner(&coordinator, "two", Stack::Dual);
        assert!(!coordinator.log().contains("stream ended"), "{}", coordinator.log());
        standing.assert_all_answer();
    });
}
