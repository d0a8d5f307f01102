//! Several lanes, with real sockets, threads and TCP.

use std::{net::TcpStream, thread};

use super::{super::report::LaneReport, *};

/// Connections from the first to the second namespace.
fn connections(pair: &Pair, count: usize) -> Vec<(TcpStream, TcpStream)> {
    (0..count).map(|_| connect(&pair.namespaces[0], &pair.namespaces[1], service(remote()[1]))).collect()
}

/// Each connection carries so many bytes each way, all at once.
fn exchange_all(connections: &[(TcpStream, TcpStream)], bytes: usize) {
    thread::scope(|scope| {
        for (caller, callee) in connections {
            scope.spawn(move || exchange(caller, callee, bytes));
        }
    });
}

/// A counter of the kernel's TCP in a namespace, as `nstat` has it.
fn tcp_counter(ns: &Namespace, name: &str) -> u64 {
    let text = within(ns, || std::fs::read_to_string("/proc/thread-self/net/netstat")).unwrap();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, numbers) = (lines.next().unwrap(), lines.next().unwrap());
    let at = names.split(' ').position(|one| one == name).unwrap();
    numbers.split(' ').nth(at).unwrap().parse().unwrap()
}

fn carried(plane: &Plane) -> Vec<u64> {
    plane.report().lanes.iter().map(|lane: &LaneReport| lane.traffic.udp_sends.bytes).collect()
}

#[test]
fn bulk_goes_by_each_lane_and_each_connection_in_order() {
    let pair = Pair::with_lanes(None, 4);
    let connections = connections(&pair, 12);
    let mut rounds = 0;
    // The first connections move to their lanes while they are in full flow.
    while pair.planes.iter().any(|plane| carried(plane)[1..].iter().any(|bytes| *bytes < MEGABYTE as u64)) {
        exchange_all(&connections, 8 * MEGABYTE);
        rounds += 1;
        assert!(rounds < 50, "{:?}", pair.planes.each_ref().map(carried));
    }
    exchange_all(&connections, 8 * MEGABYTE);
    let lost: u64 = pair
        .planes
        .iter()
        .map(|plane| plane.count("udp-receive-full") + plane.count("udp-send-full") + plane.count("tun-full"))
        .sum();
    for ns in &pair.namespaces {
        let late = tcp_counter(ns, "TCPOFOQueue");
        assert!(late == 0 || lost > 0, "{late} segments out of order, and none was lost");
    }
    for plane in &pair.planes {
        let report = plane.report();
        assert_eq!(report.lanes.iter().map(|lane| lane.runners).collect::<Vec<_>>(), [1, 1, 1, 1]);
        assert_eq!(report.traffic.udp_sends.bytes, carried(plane).iter().sum::<u64>());
        for calls in [report.lanes[1].traffic.udp_sends, report.lanes[1].traffic.udp_receives] {
            assert!(mean(calls) > 5000, "an offload is missing: {:?}", report.lanes);
        }
    }
}

#[test]
fn no_packet_costs_an_allocation_on_any_lane() {
    let pair = Pair::with_lanes(None, 2);
    let connections = connections(&pair, 6);
    let mut rounds = 0;
    while pair.planes.iter().any(|plane| carried(plane)[1] < 50 * MEGABYTE as u64) {
        exchange_all(&connections, 4 * MEGABYTE);
        rounds += 1;
        assert!(rounds < 100, "{:?}", pair.planes.each_ref().map(carried));
    }
    let before = pair.planes.each_ref().map(Plane::report);
    exchange_all(&connections, 10 * MEGABYTE);
    for (plane, before) in pair.planes.iter().zip(before) {
        for (after, before) in plane.report().lanes.iter().zip(before.lanes) {
            let calls = after.traffic.udp_sends.count - before.traffic.udp_sends.count;
            let allocations = after.allocations - before.allocations;
            assert!(calls > 500, "{calls} sends only");
            // The report itself allocates a few times, and so does more than ever was under way.
            assert!(allocations < 200, "{allocations} allocations with {calls} sends");
        }
    }
}

#[test]
fn a_map_is_in_use_while_lanes_are_busy() {
    let mut pair = Pair::with_lanes(None, 2);
    let connections = connections(&pair, 6);
    exchange_all(&connections, 4 * MEGABYTE);
    let runners = [(1, endpoint(&pair.planes[0])), (2, endpoint(&pair.planes[1]))];
    thread::scope(|scope| {
        let busy = scope.spawn(|| exchange_all(&connections, 8 * MEGABYTE));
        for revision in 2..12 {
            for (runner, plane) in (1..).zip(&mut pair.planes) {
                let mut view = view(runner, &remote(), &runners);
                view.revision = mesh_proto::Revision(revision);
                plane.set_map(&view);
            }
        }
        busy.join().unwrap();
    });
}

#[test]
fn a_runner_that_starts_anew_is_reached_again_with_lanes() {
    let (staging, at) = (Staging::new().unwrap(), remote());
    let mut pair = Pair::with_lanes(None, 2);
    exchange_all(&connections(&pair, 6), 4 * MEGABYTE);
    let port = pair.planes[1].dataplane.port();
    let other = Plane::with_lanes(2, None, 2);
    assert_ne!(other.dataplane.port(), port, "the port is taken, lanes or not");
    // Its namespace and its TUN are new, too: a container that replaces another one.
    pair.planes[1] = other;
    pair.namespaces[1] = namespace();
    let runners = [(1, endpoint(&pair.planes[0])), (2, endpoint(&pair.planes[1]))];
    for (runner, plane) in (1..).zip(&mut pair.planes) {
        let mut view = view(runner, &at, &runners);
        view.revision = mesh_proto::Revision(2);
        plane.set_map(&view);
    }
    pair.planes[1].attach(create(&staging, &pair.namespaces[1], at[1]), at[1]);
    let anew = connections(&pair, 6);
    exchange_all(&anew, 4 * MEGABYTE);
}
