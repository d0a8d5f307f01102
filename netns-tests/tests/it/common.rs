//! Common declarations and steps of the tests.

use std::{io::ErrorKind, net::Ipv4Addr};

use mesh_netns_tests::{Coordinator, Instance, traffic, wait};

/// The default range of a coordinator.
pub(crate) const RANGE: (Ipv4Addr, u8) = (Ipv4Addr::new(100, 112, 0, 0), 12);

/// The routing table in which an instance's namespace has the routes of the range.
pub(crate) const MESH_TABLE: u32 = u32::from_be_bytes(*b"mesh");

/// An address of the range without an owner.
pub(crate) const UNOWNED: Ipv4Addr = Ipv4Addr::new(100, 120, 0, 1);

/// The path of the helper program.
pub(crate) const HELPER: &str = env!("CARGO_BIN_EXE_mesh-netns-helper");

/// Two services that may call each other.
pub(crate) const SHOP: &str = "deployment = \"shop\"\n[services.app]\n[services.db]\n";

/// Another deployment without trust, for callers that are refused until they get it.
pub(crate) const REPORTS: &str = "deployment = \"reports\"\n[services.sales]\n";

/// A deployment without trust in either direction.
pub(crate) const BILLING: &str = "deployment = \"billing\"\n[services.api]\n";

/// Applies a coordinator's deployments, which must be accepted.
#[track_caller]
pub(crate) fn declare(coordinator: &Coordinator, files: &[&str]) {
    for file in files {
        coordinator.apply(file).done();
    }
}

/// `caller` opens a connection to an [`traffic::Answer::Echo`] and gets its text back.
#[track_caller]
pub(crate) fn reaches(caller: &Instance, to: Ipv4Addr, port: u16) {
    let mut stream = caller.connect(to, port).unwrap_or_else(|e| panic!("{} -> {to}:{port}: {e}", caller.address));
    traffic::ping(&mut stream, b"are you there?").expect("an echo");
}

/// Waits until the caller's own runner rejects: until then the callee's rejects, and `caller` gets a RST.
#[track_caller]
pub(crate) fn wait_refused_at_home(caller: &Instance, to: Ipv4Addr, port: u16) {
    wait::until_true("the caller's own runner to refuse", || {
        caller.connect(to, port).is_err_and(|error| error.kind() == ErrorKind::HostUnreachable)
    });
}

/// `caller` is refused at once.
#[track_caller]
pub(crate) fn is_refused(caller: &Instance, to: Ipv4Addr, port: u16) {
    let error = caller.connect(to, port).expect_err("a connection that must be refused");
    assert_eq!(error.kind(), ErrorKind::HostUnreachable, "{} -> {to}:{port}: {error}", caller.address);
}
