//! Routers in front of machines: the firewalls and address translators that runners are found behind, by nftables in a
//! namespace of their own.

use std::{
    cell::{Cell, RefCell},
    fs, io,
    net::{IpAddr, Ipv4Addr},
};

use crate::{
    Namespace, Stack,
    netns::{Addresses, Network},
};

/// What a router does with what passes it. The letters are those of the table of pairs in the design of reachability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nat {
    /// P: passes everything, and translates nothing.
    Public,
    /// F: a stateful firewall before public addresses. Only answers come in, by address and port.
    Firewall,
    /// H: as homes have it. One mapping for all destinations, only answers come in, and silence for the rest.
    Home,
    /// L: the same on a Linux host that answers for itself. A stray datagram takes the port of a mapping to be.
    Answering,
    /// C: full cone, as carriers have it (RFC 6888). Once there is a mapping, anybody may use it.
    Cone,
    /// S: symmetric. Another mapping for each destination, only answers come in.
    Symmetric,
    /// U: as [`Nat::Home`], for everything but UDP, which doesn't pass.
    NoUdp,
}

/// What has become of UDP at a router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Udp {
    /// It passes as always.
    Passes,
    /// It passes only to and from this address.
    OnlyWith(IpAddr),
    /// It is dropped silently, in both directions.
    Dropped,
}

/// A router. Its way out is `eth0`. Made by [`crate::World::router`], or by
/// [`crate::World::router_behind`] for IPv4 alone.
pub struct Router {
    namespace: Namespace,
    nat: Nat,
    stack: Stack,
    /// Its own address outside.
    outside: Ipv4Addr,
    /// How many translators are between it and the underlay.
    depth: u8,
    /// The addresses of its networks; `lan1` and so on are its bridges there.
    lans: RefCell<Vec<Addresses>>,
    ports: Cell<u8>,
}

impl Router {
    /// In a namespace that has its `eth0` already, with this IPv4 address if it has any.
    pub(crate) fn new(namespace: Namespace, nat: Nat, stack: Stack, outside: Ipv4Addr, depth: u8) -> Self {
        namespace.enter(|| {
            for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                let path = format!("/proc/sys/net/{setting}");
                fs::write(&path, "1").unwrap_or_else(|e| panic!("cannot write {path}: {e}"));
            }
            // Where Docker has loaded br_netfilter, frames within one LAN would pass the rules too.
            for family in ["iptables", "ip6tables"] {
                let _ = fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{family}"), "0");
            }
        });
        let this = Self { namespace, nat, stack, outside, depth, lans: RefCell::default(), ports: Cell::new(0) };
        this.namespace.nft(&rules(nat, outside));
        this
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its own address outside, which is that of all behind it if it translates.
    #[must_use]
    pub fn outside(&self) -> Ipv4Addr {
        self.outside
    }

    /// A router in a namespace that has been joined to one of this one's networks, with this address there.
    pub(crate) fn inner(&self, namespace: Namespace, nat: Nat, address: Ipv4Addr) -> Self {
        assert!(!matches!(nat, Nat::Public | Nat::Firewall), "only a translator stands behind another router");
        Self::new(namespace, nat, Stack::V4, address, self.depth + 1)
    }

    pub(crate) fn stack(&self) -> Stack {
        self.stack
    }

    /// Whether machines behind it have addresses that others reach.
    pub(crate) fn is_public(&self) -> bool {
        matches!(self.nat, Nat::Public | Nat::Firewall)
    }

    /// A new network behind it, of private addresses (192.168.1.0/24 is everybody's first), with the IPv6 of `public`, or
    /// of public ones only. Returns its number, which counts from 1.
    pub(crate) fn lan(&self, public: Network) -> u8 {
        let mut lans = self.lans.borrow_mut();
        let number = u8::try_from(lans.len() + 1).expect("few networks");
        let private = if self.is_public() { None } else { Some([192, 168, self.depth * 10 + number]) };
        let (addresses, bridge) = (Addresses { network: public, private }, format!("lan{number}"));
        self.namespace.ip(&[&format!("link add {bridge} type bridge"), &format!("link set {bridge} up")]);
        addresses.give(&self.namespace, &bridge, 1, self.stack, None);
        lans.push(addresses);
        number
    }

    /// Joins a machine to one of its networks, as `eth0`. Their addresses end in 2, 3 and so on, over all of its networks.
    ///
    /// # Panics
    /// If there is no such network.
    pub fn join(&self, machine: &Namespace, lan: u8) -> Ipv4Addr {
        let port = self.ports.get() + 1;
        self.ports.set(port);
        let addresses = self.lans.borrow()[usize::from(lan) - 1];
        let (bridge, name) = (format!("lan{lan}"), machine.name());
        self.namespace.ip(&[
            &format!("link add port{port} type veth peer name eth0 netns {name}"),
            &format!("link set port{port} master {bridge} up"),
        ]);
        machine.ip(&["link set eth0 up"]);
        addresses.give(machine, "eth0", 1 + port, self.stack, Some(1));
        machine.wait_up("eth0");
        self.namespace.wait_up(&bridge);
        addresses.v4(1 + port)
    }

    /// From now on machines behind it reach each other by its outside address, if their mappings keep their ports: each has
    /// to use its own. Otherwise its networks don't reach each other at all. Connections that stand are as new.
    ///
    /// # Panics
    /// If it doesn't translate, or conntrack(8) isn't there.
    pub fn hairpin(&self) {
        let outside = self.outside;
        self.namespace.nft(&format!(
            "add rule ip nat pre iifname != eth0 ip daddr {outside} meta l4proto udp dnat ip to udp dport map @mapped
            add rule ip nat post oifname != eth0 ct status dnat snat ip to {outside}
            insert rule inet guard forward ct status dnat accept
            "
        ));
        self.flush();
    }

    fn flush(&self) {
        let mut conntrack = self.namespace.command("conntrack");
        let done = conntrack.arg("-F").output().expect("cannot start conntrack: install conntrack");
        assert!(done.status.success(), "conntrack -F: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// It forgets all connections, as after a restart.
    ///
    /// # Panics
    /// If conntrack(8) isn't there.
    pub fn forget(&self) {
        self.flush();
        if !self.is_public() {
            self.namespace.nft("flush map ip nat mapped\n");
        }
    }

    /// From now on it forgets UDP after so many seconds of silence, and no sooner if both ends have sent.
    ///
    /// # Errors
    /// Kernels before 5.13 don't show these settings in a user namespace.
    pub fn forget_after(&self, seconds: u32) -> io::Result<()> {
        let settings = ["nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"];
        let path = |name: &str| format!("/proc/sys/net/netfilter/{name}");
        self.namespace.enter(|| settings.iter().try_for_each(|name| fs::write(path(name), seconds.to_string())))
    }

    /// What becomes of UDP from now on, also of connections that stand.
    pub fn set_udp(&self, udp: Udp) {
        let rule = match udp {
            Udp::Passes => String::new(),
            Udp::OnlyWith(one) => {
                let family = if one.is_ipv4() { "ip" } else { "ip6" };
                let accept = |end: &str| format!("meta l4proto udp {family} {end} {one} accept; ");
                accept("saddr") + &accept("daddr") + "meta l4proto udp drop"
            }
            Udp::Dropped => "meta l4proto udp drop".to_owned(),
        };
        // At another priority than the usual rules: what one of the chains drops is dropped.
        self.namespace.nft(&format!(
            "table inet outage {{ }}
            delete table inet outage
            table inet outage {{
                chain forward {{ type filter hook forward priority -10; {rule}; }}
            }}
            "
        ));
    }
}

/// Only UDP has an entry in `mapped`, by the port outside. Hairpins and full cones look it up.
fn rules(nat: Nat, outside: Ipv4Addr) -> String {
    let translation = |how: &str, before: &str| {
        format!(
            "table ip nat {{
                map mapped {{
                    type inet_service : ipv4_addr . inet_service
                    flags dynamic,timeout
                    timeout 1h
                    size 4096
                }}
                chain pre {{ type nat hook prerouting priority dstnat; {before}; }}
                chain post {{
                    type nat hook postrouting priority srcnat
                    oifname eth0 meta l4proto udp update @mapped {{ udp sport : ip saddr . udp sport }}
                    oifname eth0 masquerade {how}
                }}
            }}
            "
        )
    };
    // What is dropped on its way in leaves no entry behind that takes a port.
    let silent = "iifname eth0 meta nfproto ipv4 drop";
    let cone = format!("iifname eth0 ip daddr {outside} meta l4proto udp dnat ip to udp dport map @mapped");
    let (translation, input, forward) = match nat {
        Nat::Public => return String::new(),
        Nat::Firewall => (String::new(), "", ""),
        Nat::Home => (translation("", ""), silent, ""),
        Nat::Answering => (translation("", ""), "", ""),
        Nat::Cone => (translation("", &cone), silent, "iifname eth0 ct status dnat accept"),
        Nat::Symmetric => (translation("fully-random", ""), silent, ""),
        Nat::NoUdp => (translation("", ""), silent, "meta l4proto udp drop"),
    };
    // Neighbours of IPv6 find each other without the tracker.
    format!(
        "{translation}
        table inet guard {{
            chain input {{ type filter hook input priority 0; {input}; }}
            chain forward {{
                type filter hook forward priority 0; policy drop
                {forward}
                ct state established,related accept
                iifname != eth0 oifname eth0 accept
            }}
        }}
        "
    )
}

/// What a machine behind a careless firewall gets, or what passes a careless router: no fragments, and no word of what was
/// too long. Fragments are dropped before the kernel joins them again.
const CARELESS: &str = "table inet careless {
    chain pre {
        type filter hook prerouting priority -450;
        ip frag-off & 0x3fff != 0 drop
        exthdr frag exists drop
        icmp type destination-unreachable icmp code frag-needed drop
        icmpv6 type packet-too-big drop
    }
}
";

impl Namespace {
    /// From now on fragments that come to this machine or router are dropped, and so are ICMP's messages of packets that were
    /// too long for a link.
    pub fn be_careless(&self) {
        self.nft(CARELESS);
    }
}
