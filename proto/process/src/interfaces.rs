//! The addresses of this machine's interfaces, and its default routes.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
};

use nix::{ifaddrs::getifaddrs, net::if_::InterfaceFlags, sys::socket::SockaddrStorage};

/// The beginnings of the names of container engines' and virtual machines' interfaces. Their addresses lead nowhere from
/// other machines, and are often the same on all.
const VIRTUAL: [&str; 20] = [
    "br-", "cali", "cbr", "cilium", "cni", "crc", "docker", "flannel", "kube", "lxcbr", "lxdbr", "incusbr", "nerdctl",
    "podman", "tap", "vboxnet", "veth", "virbr", "vmnet", "vnet",
];

/// An address of an interface that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The interface's name.
    pub interface: String,
    /// The address.
    pub address: IpAddr,
    /// Whether a default route leads there.
    pub way_out: bool,
    /// Whether it is the machine's own network, whatever its name: a bridge can be that too.
    pub own: bool,
}

/// All addresses of this machine.
#[must_use]
pub fn all() -> Vec<Found> {
    let Ok(all) = getifaddrs() else { return vec![] };
    let ways_out = ways_out();
    let up = all.filter(|i| i.flags.contains(InterfaceFlags::IFF_UP));
    up.filter_map(|i| {
        let address = i.address.and_then(address)?;
        let way_out = ways_out.contains(&i.interface_name);
        let own = way_out || has_physical_port(&i.interface_name);
        Some(Found { interface: i.interface_name, address, way_out, own })
    })
    .collect()
}

/// Those at which other machines may reach this one: of the machine's own interfaces, bridges that are its network
/// included; if it has none, of container bridges and the like; if there are none either (everything runs on this
/// machine), of loopback.
#[must_use]
pub fn reachable(found: Vec<Found>) -> Vec<Found> {
    let rank = |found: &Found| {
        if found.address.is_loopback() {
            2
        } else {
            u8::from(!found.own && VIRTUAL.iter().any(|prefix| found.interface.starts_with(prefix)))
        }
    };
    let usable: Vec<Found> = found.into_iter().filter(|found| is_unicast(found.address)).collect();
    let best = usable.iter().map(rank).min();
    usable.into_iter().filter(|found| Some(rank(found)) == best).collect()
}

/// Whether an address can be reached from outside its site (RFC 1918, RFC 6598, RFC 4193).
#[must_use]
pub fn reaches_far(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => !(a.is_private() || (a & Ipv4Addr::new(255, 192, 0, 0)) == Ipv4Addr::new(100, 64, 0, 0)),
        IpAddr::V6(a) => !a.is_unique_local() && a != Ipv6Addr::LOCALHOST,
    }
}

/// The interfaces that a default route leads to: proc_net(5).
fn ways_out() -> BTreeSet<String> {
    let v4 = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let v6 = fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    let v4 = default_routes(&v4).map(|route| route.interface.to_owned());
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

fn is_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => !(a.is_unspecified() || a.is_multicast() || a.is_broadcast() || a.is_link_local()),
        IpAddr::V6(a) => !(a.is_unspecified() || a.is_multicast() || a.is_unicast_link_local()),
    }
}

/// A default route of IPv4.
#[derive(Debug, Clone, Copy)]
pub struct DefaultRoute<'a> {
    /// The interface that it leads to.
    pub interface: &'a str,
    /// There is none where the interface leads to one other machine.
    pub router: Option<Ipv4Addr>,
    /// Of several, that with the least counts.
    pub metric: u32,
}

/// The default routes of IPv4 in `/proc/net/route`, by proc_net(5): numbers in hexadecimal, addresses in the machine's byte order.
pub fn default_routes(routes: &str) -> impl Iterator<Item = DefaultRoute<'_>> {
    const GATEWAY: u32 = 2;
    routes.lines().skip(1).filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [interface, destination, gateway, flags, _, _, metric, mask, ..] = fields[..] else { return None };
        let number = |text: &str| u32::from_str_radix(text, 16).ok();
        if number(destination)? != 0 || number(mask)? != 0 {
            return None;
        }
        let router = Ipv4Addr::from(number(gateway)?.to_ne_bytes());
        let router = (number(flags)? & GATEWAY != 0).then_some(router);
        Some(DefaultRoute { interface, router, metric: metric.parse().ok()? })
    })
}
