//! Real engines, real TUNs, real sockets, and the kernel's own TCP.

use std::{net::Ipv4Addr, os::fd::OwnedFd};

use mesh_engine::{Sink, Switches};

use super::{
    counters::Counter,
    io::Reading,
    lab::{At, Plane, connect, endpoint, exchange, receive, send, turn::Turn, view, view_by_relay},
    report::Calls,
    *,
};
use crate::attach::{
    self, Namespace, Staging,
    lab::{abandoned, eventually, ip, namespace, within},
};

mod lanes;

const MEGABYTE: usize = 1 << 20;

/// Two instances on one runner.
fn local() -> [At; 2] {
    [At { n: 1, runner: 1 }, At { n: 2, runner: 1 }]
}

/// Two instances on two runners.
fn remote() -> [At; 2] {
    [At { n: 1, runner: 1 }, At { n: 2, runner: 2 }]
}

fn service(at: At) -> Ipv4Addr {
    at.addressing().service
}

fn create(staging: &Staging, ns: &Namespace, at: At) -> OwnedFd {
    attach::create(
        staging,
        ns,
        &at.addressing(),
        attach::prepare(staging, ns, mesh_lifecycle::Birthplace::Staging).unwrap(),
    )
    .unwrap()
    .queue
}

/// Two runners with an instance each. Their sockets are in `host` or in the test's own namespace.
struct Pair {
    planes: [Plane; 2],
    namespaces: [Namespace; 2],
}

impl Pair {
    fn new(host: Option<&Namespace>) -> Self {
        Self::with_lanes(host, 1)
    }

    fn with_lanes(host: Option<&Namespace>, lanes: usize) -> Self {
        let (staging, at) = (Staging::new().unwrap(), remote());
        let mut planes = [1, 2].map(|runner| Plane::with_lanes(runner, host, lanes));
        let runners = [(1, endpoint(&planes[0])), (2, endpoint(&planes[1]))];
        let namespaces = [namespace(), namespace()];
        for i in 0..2 {
            planes[i].set_map(&view(i as u64 + 1, &at, &runners));
            planes[i].attach(create(&staging, &namespaces[i], at[i]), at[i]);
        }
        Self { planes, namespaces }
    }

    fn exchange(&self, bytes: usize) {
        let (caller, callee) = connect(&self.namespaces[0], &self.namespaces[1], service(remote()[1]));
        exchange(&caller, &callee, bytes);
    }

    /// Each gets another address at the relay than it had, and the other is told of it, as the coordinator does that.
    fn learn_places(&mut self) {
        let places: Vec<_> = (1..).zip(&mut self.planes).map(|(runner, plane)| (runner, plane.next_place())).collect();
        for (plane, runner) in self.planes.iter_mut().zip(1..) {
            plane.set_map(&view_by_relay(runner, &remote(), &places));
        }
    }

    fn switch(&self, switches: Switches) {
        self.planes.iter().for_each(|plane| plane.dataplane.set_switches(switches));
    }
}

/// Two runners that know only of each other that they are at one relay, and the relay.
fn relayed() -> (Pair, Turn) {
    let (turn, staging, at) = (Turn::start(0), Staging::new().unwrap(), remote());
    let planes = [1, 2].map(|runner| Plane::start(runner, None));
    let mut pair = Pair { planes, namespaces: [namespace(), namespace()] };
    for (plane, runner) in pair.planes.iter().zip(1..) {
        plane.dataplane.set_relays(vec![turn.config(runner)]);
    }
    pair.learn_places();
    for (i, plane) in pair.planes.iter().enumerate() {
        plane.attach(create(&staging, &pair.namespaces[i], at[i]), at[i]);
    }
    (pair, turn)
}

/// Two instances on one runner.
fn neighbours() -> (Plane, [Namespace; 2]) {
    let (staging, at) = (Staging::new().unwrap(), local());
    let mut plane = Plane::start(1, None);
    plane.set_map(&view(1, &at, &[(1, endpoint(&plane))]));
    let namespaces = [namespace(), namespace()];
    for (ns, at) in namespaces.iter().zip(at) {
        plane.attach(create(&staging, ns, at), at);
    }
    (plane, namespaces)
}

/// Bytes a call.
fn mean(calls: Calls) -> u64 {
    calls.bytes / calls.count.max(1)
}

#[test]
fn two_instances_of_one_runner_talk_and_nothing_leaves_the_machine() {
    let (plane, [a, b]) = neighbours();
    for to in [service(local()[1]), local()[1].addressing().instance] {
        let (caller, callee) = connect(&a, &b, to);
        assert_eq!(callee.peer_addr().unwrap().ip(), local()[0].addressing().instance);
        exchange(&caller, &callee, 50 * MEGABYTE);
    }
    let traffic = plane.report().traffic;
    assert_eq!(traffic.udp_sends, Calls::default());
    assert!(mean(traffic.tun_reads) > 5000, "no super-packets are read: {traffic:?}");
    assert!(mean(traffic.tun_writes) > 5000, "no super-packets are written: {traffic:?}");
}

#[test]
fn two_runners_carry_the_same_bytes_by_wireguard() {
    let pair = Pair::new(None);
    pair.exchange(50 * MEGABYTE);
    for plane in &pair.planes {
        let report = plane.report();
        assert!(report.traffic.udp_sends.bytes > 50 * MEGABYTE as u64);
        for calls in [report.traffic.tun_reads, report.traffic.udp_sends, report.traffic.udp_receives] {
            assert!(mean(calls) > 5000, "an offload is missing: {:?}", report.traffic);
        }
        assert_eq!(plane.count("udp-gso-refused") + plane.count("udp-gso-unsupported"), 0);
        assert_eq!(
            report.engine.peers[0].endpoint,
            Some(endpoint(&pair.planes[usize::from(report.engine.peers[0].runner.0 == 2)]))
        );
    }
}

#[test]
fn from_descriptor_to_descriptor_no_packet_costs_an_allocation() {
    let pair = Pair::new(None);
    let (caller, callee) = connect(&pair.namespaces[0], &pair.namespaces[1], service(remote()[1]));
    exchange(&caller, &callee, MEGABYTE);
    let all_off = Switches { tun_gso: false, udp_gso: false, udp_gro: false };
    for (switches, bytes, least) in [(Switches::default(), 60 * MEGABYTE, 1000), (all_off, 20 * MEGABYTE, 10_000)] {
        pair.switch(switches);
        let before = pair.planes.each_ref().map(Plane::report);
        exchange(&caller, &callee, bytes);
        for (plane, before) in pair.planes.iter().zip(before) {
            let after = plane.report();
            let calls = after.traffic.udp_sends.count - before.traffic.udp_sends.count;
            let allocations = after.allocations - before.allocations;
            assert!(calls > least, "{calls} sends only");
            // The report itself allocates a few times.
            assert!(allocations < 100, "{allocations} allocations with {calls} sends");
        }
    }
}

#[test]
fn every_offload_can_be_switched_off_while_traffic_flows() {
    let pair = Pair::new(None);
    let (caller, callee) = connect(&pair.namespaces[0], &pair.namespaces[1], service(remote()[1]));
    for bits in (0..8).rev() {
        let switches = Switches { tun_gso: bits & 1 != 0, udp_gso: bits & 2 != 0, udp_gro: bits & 4 != 0 };
        pair.switch(switches);
        // Commands are executed in order: after its answer the switch has been made.
        let before = pair.planes.each_ref().map(Plane::report)[0].traffic;
        exchange(&caller, &callee, 2 * MEGABYTE);
        let after = pair.planes[0].report().traffic;
        if !switches.tun_gso {
            // The largest possible read, if all others were empty.
            let reads = after.tun_reads.bytes - before.tun_reads.bytes;
            assert!(reads <= (after.tun_reads.count - before.tun_reads.count) * 1400, "{switches:?}");
        }
        if !switches.udp_gso {
            let sends = after.udp_sends.bytes - before.udp_sends.bytes;
            assert!(sends <= (after.udp_sends.count - before.udp_sends.count) * 1400, "{switches:?}");
        }
    }
}

#[test]
fn a_path_that_takes_no_batches_is_slow_and_not_broken() {
    let host = namespace();
    let pair = Pair::new(Some(&host));
    pair.exchange(MEGABYTE);
    // Datagrams of 1376 bytes don't fit: the kernel refuses batches of them, and cuts single ones into fragments.
    ip(&host, "link set lo mtu 1300");
    pair.exchange(5 * MEGABYTE);
    assert!(pair.planes.iter().any(|plane| plane.count("udp-gso-refused") > 0));
    let refused = pair.planes[0].count("udp-gso-refused");
    ip(&host, "link set lo mtu 65536");
    pair.exchange(5 * MEGABYTE);
    assert!(pair.planes[0].count("udp-gso-refused") <= refused + 1, "batches work again, and are tried");
}

#[test]
fn two_runners_that_only_a_relay_connects_carry_the_same_bytes_in_batches_and_without_an_allocation() {
    let (pair, _turn) = relayed();
    pair.exchange(MEGABYTE);
    let (caller, callee) = connect(&pair.namespaces[0], &pair.namespaces[1], service(remote()[1]));
    exchange(&caller, &callee, MEGABYTE);
    let before = pair.planes.each_ref().map(Plane::report);
    exchange(&caller, &callee, 10 * MEGABYTE);
    for (plane, before) in pair.planes.iter().zip(before) {
        let after = plane.report();
        let path = after.engine.peers[0].path.expect("a session");
        assert!(path.hop.is_relayed(), "{path:?}");
        assert_eq!(after.engine.peers[0].endpoint, None);
        assert!(mean(after.traffic.udp_sends) > 2000, "no batches: {:?}", after.traffic);
        // Signs of life to the relay, and the report itself.
        assert!(after.allocations - before.allocations < 200, "{}", after.allocations - before.allocations);
    }
}

#[test]
fn a_connection_outlives_the_relay_that_carries_it() {
    let (mut pair, turn) = relayed();
    let (caller, callee) = connect(&pair.namespaces[0], &pair.namespaces[1], service(remote()[1]));
    exchange(&caller, &callee, MEGABYTE);
    let port = turn.port();
    drop(turn);
    send(&caller, 100, 1);
    let _turn = Turn::start(port);
    pair.learn_places();
    receive(&callee, 100, 1);
    exchange(&caller, &callee, MEGABYTE);
}

#[test]
fn a_machine_without_ipv6_is_a_machine() {
    let host = namespace();
    within(&host, || std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1")).unwrap();
    Pair::new(Some(&host)).exchange(MEGABYTE);
}

#[test]
fn connections_survive_the_agent() {
    let (plane, [a, b]) = neighbours();
    let (caller, callee) = connect(&a, &b, service(local()[1]));
    exchange(&caller, &callee, MEGABYTE);
    drop(plane);
    [&a, &b].into_iter().for_each(abandoned);
    // What is sent meanwhile is lost, and the kernel retransmits it.
    send(&caller, 100, 1);

    let staging = Staging::new().unwrap();
    let mut plane = Plane::start(1, None);
    plane.set_map(&view(1, &local(), &[(1, endpoint(&plane))]));
    for (ns, at) in [&a, &b].into_iter().zip(local()) {
        plane.attach(attach::recover(&staging, ns, &at.addressing()).unwrap().queue, at);
    }
    receive(&callee, 100, 1);
    exchange(&caller, &callee, 10 * MEGABYTE);
}

#[test]
fn the_end_of_a_namespace_is_told() {
    let (mut plane, [a, b]) = neighbours();
    let staging = Staging::new().unwrap();
    let third = namespace();
    let at = At { n: 3, runner: 1 };
    let port = plane.attach(create(&staging, &third, at), at);
    drop(third);
    assert_eq!(plane.wait_for(|event| matches!(event, DataEvent::Gone(_))), DataEvent::Gone(port));
    // An explicit detach has the same effect, and the other instance goes on.
    ip(&a, "link delete mesh0");
    plane.wait_for(|event| matches!(event, DataEvent::Gone(gone) if *gone != port));
    let at = At { n: 3, runner: 1 };
    let third = namespace();
    plane.set_map(&view(1, &[local()[1], at], &[(1, endpoint(&plane))]));
    plane.attach(create(&staging, &third, at), at);
    let (caller, callee) = connect(&third, &b, service(local()[1]));
    exchange(&caller, &callee, MEGABYTE);
}

#[test]
fn a_queue_of_no_use_is_given_up_and_does_no_harm() {
    let (mut plane, [a, b]) = neighbours();
    // A readable descriptor that isn't a TUN: the end of a pipe, a directory, a file (which epoll refuses).
    let (reader, writer) = nix::unistd::pipe().unwrap();
    drop(reader);
    for useless in
        [writer, std::fs::File::open("/").unwrap().into(), std::fs::File::open("/proc/self/status").unwrap().into()]
    {
        let port = plane.attach(useless, At { n: 9, runner: 1 });
        assert_eq!(plane.wait_for(|event| matches!(event, DataEvent::Gone(_))), DataEvent::Gone(port));
    }
    let (caller, callee) = connect(&a, &b, service(local()[1]));
    exchange(&caller, &callee, MEGABYTE);
}

#[test]
fn an_interface_that_is_down_drops_and_counts() {
    let (plane, [a, b]) = neighbours();
    let (caller, callee) = connect(&a, &b, service(local()[1]));
    exchange(&caller, &callee, MEGABYTE);
    ip(&b, "link set mesh0 down");
    send(&caller, 100, 1);
    eventually("the drop is counted", || plane.count("tun-down") > 0);
}

#[test]
fn a_super_packet_that_the_kernel_refuses_is_delivered_in_pieces() {
    let (staging, ns, at) = (Staging::new().unwrap(), namespace(), local()[0]);
    let (events, _told) = unbounded_channel();
    let relays = Relays::new(1, Instant::now());
    let (mut io, port) = (Io::new(Udp::bind(0).unwrap(), events, relays), Port(1));
    io.insert(port, create(&staging, &ns, at));

    // virtio_net_hdr: to be cut into segments of 1000 bytes, but with the checksum where TCP has none. Kernels with the
    // fault take every super-packet for one like this.
    let mut packet = vec![1, 1, 40, 0, 0, 0, 20, 0, 6, 0];
    packet[4..6].copy_from_slice(&1000_u16.to_ne_bytes());
    // IPv4 from 100.112.1.9, TCP from port 9 to 9 with ACK, 2500 bytes.
    let length = (20 + 20 + 2500_u16).to_be_bytes();
    packet.extend([0x45, 0, length[0], length[1], 0, 0, 0x40, 0, 64, 6, 0, 0, 100, 112, 1, 9]);
    packet.extend(at.addressing().instance.octets());
    packet.extend([0, 9, 0, 9, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
    packet.resize(packet.len() + 2500, 7);
    io.deliver(port, &packet);

    assert_eq!(io.counters.get(Counter::TunGsoRefused), 1);
    assert_eq!(io.traffic.tun_writes, Calls { count: 3, bytes: 3 * 50 + 2500 });
    let mut answers = 0;
    while let Reading::Packet(length) = io.read(port, &mut packet) {
        // The 14th byte of TCP: RST.
        assert_eq!((length, packet[10 + 20 + 13]), (10 + 40, 4));
        answers += 1;
    }
    assert_eq!(answers, 3, "TCP there took every piece for good, and had no connection for it");
}

#[test]
fn detaching_lets_go_of_the_device() {
    let (staging, ns, at) = (Staging::new().unwrap(), namespace(), local()[0]);
    let plane = Plane::start(1, None);
    let port = plane.attach(create(&staging, &ns, at), at);
    plane.dataplane.detach(port);
    abandoned(&ns);
    attach::recover(&staging, &ns, &at.addressing()).unwrap();
}

#[test]
fn the_port_is_free_when_the_data_plane_is_gone() {
    let plane = Plane::start(1, None);
    let port = plane.dataplane.port();
    let error = Dataplane::start(lab::key(2), port, 1, Vec::new(), Box::new(vec![])).unwrap_err().to_string();
    assert!(error.contains(&port.to_string()) && error.contains("--listen"), "{error}");
    drop(plane);
    // As with `abandoned`, another test's child may have a copy of the socket.
    eventually("the port is free", || Dataplane::start(lab::key(2), port, 1, Vec::new(), Box::new(vec![])).is_ok());
}
