//! The addresses of this machine's interfaces at which other machines reach it.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use mesh_proto::Range;
use nix::{ifaddrs::getifaddrs, net::if_::InterfaceFlags, sys::socket::SockaddrStorage};

use super::gateway::defaults;

/// The most addresses that are reported.
const MAX: usize = 8;

/// The beginnings of the names of container engines' and virtual machines' interfaces. Their addresses lead nowhere from other
/// machines, and are often the same on all.
const VIRTUAL: [&str; 20] = [
    "br-", "cali", "cbr", "cilium", "cni", "crc", "docker", "flannel", "kube", "lxcbr", "lxdbr", "incusbr", "nerdctl",
    "podman", "tap", "vboxnet", "veth", "virbr", "vmnet", "vnet",
];

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    interface: String,
    address: IpAddr,
    /// Whether it is the machine's own network, whatever its name: a bridge can be that too.
    own: bool,
}

/// The addresses of this machine's interfaces, without those in the mesh's range: the coordinator would refuse the whole message.
pub(super) fn addresses(port: u16, range: Option<Range>) -> Vec<SocketAddr> {
    select(interfaces(), range).into_iter().map(|address| SocketAddr::new(address, port)).collect()
}

fn interfaces() -> Vec<Found> {
    let Ok(all) = getifaddrs() else { return vec![] };
    let ways_out = ways_out();
    let up = all.filter(|i| i.flags.contains(InterfaceFlags::IFF_UP));
    up.filter_map(|i| {
        let address = i.address.and_then(address)?;
        let own = ways_out.contains(&i.interface_name) || has_physical_port(&i.interface_name);
        Some(Found { interface: i.interface_name, address, own })
    })
    .collect()
}

/// The interfaces that a default route leads to: proc_net(5).
fn ways_out() -> BTreeSet<String> {
    let v4 = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let v6 = fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    let v4 = defaults(&v4).map(|route| route.interface.to_owned());
    let v6 = v6.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let ([_, prefix, ..], interface) = (&fields[..], fields.last()?) else { return None };
        // Without a default route, the route at lo refuses everything.
        (*prefix == "00" && *interface != "lo" && fields[0].bytes().all(|digit| digit == b'0'))
            .then(|| (*interface).to_owned())
    });
    v4.chain(v6).collect()
}

/// Whether it is a bridge with a network card of the machine as a port, directly or below a bond or a VLAN.
fn has_physical_port(interface: &str) -> bool {
    let at = |interface: &str| Path::new("/sys/class/net").join(interface);
    let names = |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let is_card = |interface: &str| at(interface).join("device").exists();
    names(at(interface).join("brif")).filter_map(|port| port.into_string().ok()).any(|port| {
        let below = names(at(&port)).filter_map(|name| name.to_str()?.strip_prefix("lower_").map(str::to_owned));
        is_card(&port) || below.into_iter().any(|lower| is_card(&lower))
    })
}

fn address(address: SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
}

/// The addresses to report: those of the machine's own interfaces, bridges that are its network included; if it has none, those of
/// container bridges and the like; if there are none either (everything runs on this machine), loopback.
fn select(found: Vec<Found>, range: Option<Range>) -> Vec<IpAddr> {
    let rank = |found: &Found| {
        if found.address.is_loopback() {
            2
        } else {
            u8::from(!found.own && VIRTUAL.iter().any(|prefix| found.interface.starts_with(prefix)))
        }
    };
    let in_range = |address| matches!(address, IpAddr::V4(a) if range.is_some_and(|range| range.contains(a)));
    let usable: Vec<Found> = found.into_iter().filter(|f| is_unicast(f.address) && !in_range(f.address)).collect();
    let Some(best) = usable.iter().map(rank).min() else { return vec![] };
    let mut seen = BTreeSet::new();
    let mut addresses: Vec<IpAddr> = usable
        .iter()
        .filter(|found| rank(found) == best)
        .map(|found| found.address)
        .filter(|a| seen.insert(*a))
        .collect();
    // If there are too many, those that reach far come first.
    addresses.sort_by_key(|address| !reaches_far(*address));
    addresses.truncate(MAX);
    addresses
}

fn is_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => !(a.is_unspecified() || a.is_multicast() || a.is_broadcast() || a.is_link_local()),
        IpAddr::V6(a) => !(a.is_unspecified() || a.is_multicast() || a.is_unicast_link_local()),
    }
}

/// Whether an address can be reached from outside its site (RFC 1918, RFC 6598, RFC 4193).
pub(super) fn reaches_far(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => !(a.is_private() || (a & Ipv4Addr::new(255, 192, 0, 0)) == Ipv4Addr::new(100, 64, 0, 0)),
        IpAddr::V6(a) => !a.is_unique_local() && a != Ipv6Addr::LOCALHOST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(found: &[(&str, &str)]) -> Vec<String> {
        let found = found.iter().map(|(i, a)| match i.strip_suffix('*') {
            Some(own) => Found { interface: own.into(), address: a.parse().unwrap(), own: true },
            None => Found { interface: (*i).into(), address: a.parse().unwrap(), own: false },
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
