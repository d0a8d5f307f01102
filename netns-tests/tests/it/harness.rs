//! The harness itself, almost without mesh: a world that carries no packets, or a capture that sees none, would let
//! every refusal pass.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, TcpStream},
    panic::{catch_unwind, resume_unwind},
    path::Path,
    thread,
};

use mesh_netns_tests::{
    Capture, Census, Injector, Namespace, Stack, World, isolated,
    packet::{Ipv4, Seen, Segment, echo_request, flag, protocol, udp},
    traffic::{Answer, Server, connect, exchange},
    wait,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    common::reaches,
    replicas::{PORT, shop},
};

#[test]
fn a_test_has_a_world_of_its_own() {
    isolated(|| {
        let _one = Namespace::create("one");
        assert_eq!(std::fs::read_dir("/run/netns").expect("our own").count(), 1);
        assert_eq!(std::process::id(), 1);
        assert!(!Path::new("/run/lock").exists());
    });
}

#[test]
fn a_failure_inside_is_a_failure_outside() {
    let outcome = catch_unwind(|| isolated(|| panic!("the reason of the test")));
    let panic = outcome.expect_err("it fails");
    if std::process::id() == 1 {
        resume_unwind(panic);
    }
    let text = panic.downcast_ref::<String>().expect("a message");
    assert!(text.contains("the reason of the test"), "{text}");
}

#[test]
fn machines_reach_each_other_through_the_router_by_both_protocols() {
    isolated(|| {
        let world = World::new();
        let (a, b) = (Namespace::create("a"), Namespace::create("b"));
        let (_, to) = (world.plug(&a, Stack::Dual), world.plug(&b, Stack::Dual));
        let capture = Capture::here();
        let server = Server::start(&b, 80, Answer::Exchange(200_000));
        let mut stream = a.enter(|| connect(to.v4(2), 80)).expect("a connection");
        exchange(&mut stream, 200_000).expect("all bytes, both ways");
        assert_eq!(server.accepted(), 1);
        let refused = a.enter(|| TcpStream::connect((to.v6(2), 81))).expect_err("a closed port");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let seen = capture.received(|p| p.protocol == protocol::TCP && p.ports().is_some_and(|(_, to)| to == 80));
        assert!(seen > 10, "the router sees what passes: {}", capture.text());
        let census = Census::take(&capture.frames(), (to.v4(0), 24), &[]);
        assert!(census.of_the_range >= seen && census.neighbours > 0 && census.wireguard == 0, "{census}");
        assert_eq!(census.other.keys().collect::<Vec<_>>(), ["IP protocol 6"], "{census}");

        drop(server);
        assert_eq!(a.enter(|| connect(to.v4(2), 80)).expect_err("closed").kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn packets_made_by_hand_arrive_as_made() {
    isolated(|| {
        // The far end's kernel checks all checksums.
        let (a, b) = (Namespace::create("a"), Namespace::create("b"));
        a.ip(&["link add v type veth peer name v netns b", "link set v up", "addr add 10.1.0.1/24 dev v"]);
        b.ip(&["link set v address 02:00:00:00:00:02 up", "addr add 10.1.0.2/24 dev v"]);
        a.wait_up("v");
        b.wait_up("v");
        let (from, to) = (Ipv4Addr::new(10, 1, 0, 1), Ipv4Addr::new(10, 1, 0, 2));
        let (back, there) = (Capture::interface(&a, "v"), Capture::interface(&b, "v"));
        let injector = Injector::new(&a, "v").to_station([2, 0, 0, 0, 0, 2]);
        let syn =
            Segment { source: (from, 1000), destination: (to, 2000), seq: 7, ack: 0, flags: flag::SYN, payload: &[] };
        injector.send(&syn.packet());
        injector.send(&Ipv4::new(from, to, protocol::UDP, udp((from, 1000), (to, 2000), b"hello")));
        let mut ping = Ipv4::new(from, to, protocol::ICMP, echo_request());
        ping.options = vec![0x94, 4, 0, 0]; // router alert
        injector.send(&ping);

        there.wait_received(3, "three packets to arrive", |p| p.source == from);
        back.wait_received(1, "a RST", |p| {
            p.flags().is_some_and(|f| f & flag::RST != 0) && p.ports() == Some((2000, 1000))
        });
        back.wait_received(1, "port unreachable", |p| p.icmp() == Some((3, 3)));
        back.wait_received(1, "an echo reply", |p| p.icmp() == Some((0, 0)));
        let is_from = |p: &Seen<'_>| p.source == from;
        assert_eq!(there.received(is_from), 3, "{}", there.text());
    });
}

#[test]
fn what_is_attached_is_known_to_those_as_well_that_were_too_slow_for_its_agent() {
    isolated(|| {
        let (_world, _coordinator, [aws, ovh]) = shop(["aws", "ovh"]);
        let app = ovh.attach("shop/app");
        ovh.pause();
        let agent = Pid::from_raw(i32::try_from(ovh.pid()).expect("a process"));
        let resumed = thread::spawn(move || {
            // It continues when the agent on aws has given up, and the harness waits.
            wait::until_true("it to be waited for", || asks("trust\0--app\0shop\0--wait"));
            kill(agent, Signal::SIGCONT).expect("cannot send a signal");
        });
        let db = aws.attach("shop/db");
        resumed.join().expect("it goes on");
        let _server = db.serve(PORT, Answer::Echo);
        reaches(&app, db.service_address, PORT);
    });
}

/// Whether a process has these arguments, separated by NULs.
fn asks(arguments: &str) -> bool {
    let all = std::fs::read_dir("/proc").expect("processes").flatten();
    let mut lines = all.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
    lines.any(|line| line.contains(arguments))
}
