//! For tests: network namespaces, and `ip` (iproute2) to inspect them independently.

use std::{
    fs,
    os::fd::AsFd,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use super::{Addressing, Namespace};
use crate::sys::netns;

/// Longer than everything takes. Only a failure takes as long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// An empty namespace with lo up.
pub(crate) fn namespace() -> Namespace {
    let fd = netns::make().expect(
        "network namespaces can't be made here, and without them nothing is tested: \
         run the tests as root, or with `unshare --user --map-root-user`",
    );
    let ns = Namespace::from_fd(fd).unwrap();
    ip(&ns, "link set lo up");
    ns
}

/// Two namespaces with interface `veth` each, 192.0.2.1/24 in the first and 192.0.2.2/24 in the second.
pub(crate) fn neighbours() -> [Namespace; 2] {
    let pair = [namespace(), namespace()];
    // `ip` names a namespace by a process in it or by a path, here of this thread's descriptor.
    let other = std::os::fd::AsRawFd::as_raw_fd(&pair[1].as_fd());
    let path = format!("/proc/{}/fd/{other}", std::process::id());
    ip(&pair[0], &format!("link add veth type veth peer name veth netns {path}"));
    for (ns, host) in pair.iter().zip(1..) {
        ip(ns, &format!("addr add 192.0.2.{host}/24 dev veth"));
        ip(ns, "link set veth up");
    }
    pair
}

/// Runs `work` in a namespace.
pub(crate) fn within<T: Send>(ns: &Namespace, work: impl FnOnce() -> T + Send) -> T {
    netns::within(ns, work).unwrap()
}

/// Runs `ip` in a namespace, and returns its output.
pub(crate) fn ip(ns: &Namespace, arguments: &str) -> String {
    let run = || Command::new("ip").args(arguments.split(' ')).output();
    let output = within(ns, run).expect("`ip` is needed: install iproute2");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Waits until no process serves `mesh0`: another test's child has copies of our descriptors until it executes its
/// program.
pub(crate) fn abandoned(ns: &Namespace) {
    eventually("mesh0 is abandoned", || ip(ns, "link show mesh0").contains("NO-CARRIER"));
}

/// Waits until a condition holds.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "it never came that {what}");
        thread::yield_now();
    }
}

/// Everything visible of a namespace's network.
pub(crate) fn picture(ns: &Namespace) -> String {
    let all = ["-o link", "-o addr", "rule", "-4 route show table all"].map(|what| ip(ns, what)).join("\n\n");
    // A device whose carrier never changed is in "state UNKNOWN", and in "state UP" later.
    all.replace("state UNKNOWN", "state UP")
}

/// The owner of our devices: in a user namespace that doesn't know our owner, the test's own user.
pub(crate) fn owner() -> String {
    if all_users() { super::link::OWNER.to_string() } else { "root".to_owned() }
}

/// Whether all users are known here: this is the initial user namespace.
pub(super) fn all_users() -> bool {
    fs::read_to_string("/proc/self/uid_map").unwrap().trim_end().ends_with(&u32::MAX.to_string())
}

/// The `n`-th instance of service 100.112.0.1.
pub(crate) fn addressing(n: u8) -> Addressing {
    Addressing {
        instance: [100, 112, 1, n].into(),
        service: [100, 112, 0, 1].into(),
        range: mesh_proto::Range::DEFAULT,
        mtu: 1344,
        mark: None,
    }
}
