//! The addresses of this machine's interfaces that are told to other runners.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use mesh_process::interfaces::{self, Found, reaches_far};
use mesh_proto::Range;

/// The most addresses that are reported.
const MAX: usize = 8;

/// The addresses of this machine's interfaces, without those in the mesh's range: the coordinator would refuse the whole message.
pub(super) fn addresses(port: u16, range: Option<Range>) -> Vec<SocketAddr> {
    select(interfaces::all(), range).into_iter().map(|address| SocketAddr::new(address, port)).collect()
}

/// The addresses to report.
fn select(found: Vec<Found>, range: Option<Range>) -> Vec<IpAddr> {
    let in_range = |address| matches!(address, IpAddr::V4(a) if range.is_some_and(|range| range.contains(a)));
    let outside = found.into_iter().filter(|found| !in_range(found.address)).collect();
    let mut seen = BTreeSet::new();
    let found = interfaces::reachable(outside).into_iter().map(|found| found.address);
    let mut addresses: Vec<IpAddr> = found.filter(|address| seen.insert(*address)).collect();
    // If there are too many, those that reach far come first.
    addresses.sort_by_key(|address| !reaches_far(*address));
    addresses.truncate(MAX);
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(found: &[(&str, &str)]) -> Vec<String> {
        let found = found.iter().map(|(i, a)| match i.strip_suffix('*') {
            Some(own) => Found { interface: own.into(), address: a.parse().unwrap(), way_out: true, own: true },
            None => Found { interface: (*i).into(), address: a.parse().unwrap(), way_out: false, own: false },
        });
        let found = found.collect();
        select(found, Some(Range::DEFAULT)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_machines_own_addresses_are_told_and_those_of_bridges_are_not() {
        let found = [
            ("lo", "127.0.0.1"),
            ("lo", "::1"),
            ("eth0", "192.168.1.5"),
            ("eth0", "2001:db8::5"),
            ("eth0", "fe80::5"),
            ("eth1", "100.112.5.1"),
            ("docker0", "172.17.0.1"),
            ("br-0a1b2c", "172.18.0.1"),
            ("br0", "10.0.0.5"),
            ("cni0", "10.244.0.1"),
            ("podman0", "10.88.0.1"),
            ("virbr0", "192.168.122.1"),
            ("veth12ab", "169.254.3.4"),
        ];
        assert_eq!(selected(&found), ["2001:db8::5", "192.168.1.5", "10.0.0.5"], "nor any of the mesh's own range");
    }

    #[test]
    fn a_bridge_that_is_the_machines_own_network_is_told() {
        let found =
            [("lo", "127.0.0.1"), ("br-lan*", "192.168.1.5"), ("docker0", "172.17.0.1"), ("br-0a1b2c", "172.18.0.1")];
        assert_eq!(selected(&found), ["192.168.1.5"]);
        assert_eq!(selected(&[("virbr1*", "10.0.0.5"), ("eth0", "10.0.1.5")]), ["10.0.0.5", "10.0.1.5"]);
    }

    #[test]
    fn what_there_is_is_better_than_nothing() {
        assert_eq!(selected(&[("lo", "127.0.0.1"), ("veth-a", "10.1.0.2")]), ["10.1.0.2"]);
        assert_eq!(selected(&[("lo", "127.0.0.1"), ("eth0", "fe80::5")]), ["127.0.0.1"]);
        assert_eq!(selected(&[("eth0", "fe80::5"), ("eth0", "169.254.1.1")]), [""; 0]);
        assert_eq!(selected(&[]), [""; 0]);
    }

    #[test]
    fn eight_at_most_and_those_that_reach_far_first() {
        let many: Vec<(&str, String)> = (1..=10).map(|n| ("eth0", format!("10.0.0.{n}"))).collect();
        let mut found: Vec<(&str, &str)> = many.iter().map(|(i, a)| (*i, a.as_str())).collect();
        found.push(("eth0", "10.0.0.1"));
        found.push(("eth1", "203.0.113.9"));
        found.push(("eth1", "100.70.0.1"));
        let selected = selected(&found);
        assert_eq!(selected.len(), MAX);
        assert_eq!(selected[..2], ["203.0.113.9", "10.0.0.1"]);
    }
}
