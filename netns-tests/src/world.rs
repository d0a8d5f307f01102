//! The underlay: a router, and behind it a network for the coordinator and for every runner.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use crate::{
    Coordinator, Etcd, Mapper, Namespace, Nat, Relay, Router, Runner, SharedPort, Squid, Storm, Switch, Turn, Weather,
    netns::{Addresses, Network, ip_batch, ip_batch_of, quick_ipv6},
};

/// Which protocols a network of the underlay has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stack {
    /// IPv4 and IPv6.
    Dual,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

/// A router, which is the test's own namespace, and the machines behind it. All packets between machines pass it, so
/// that they can be captured there.
pub struct World {
    networks: Cell<u8>,
    /// By the name of the machine that is on it.
    plugged: RefCell<BTreeMap<String, Network>>,
    /// The data directory of the newest coordinator.
    coordinator: RefCell<Option<PathBuf>>,
}

impl World {
    /// Makes the calling process's namespace a router. Inside [`crate::isolated`] only.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it changes the process's namespace")]
    pub fn new() -> Self {
        ip_batch(&["link set lo up"]);
        quick_ipv6();
        for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            let path = format!("/proc/sys/net/{setting}");
            fs::write(&path, "1").unwrap_or_else(|e| panic!("cannot write {path}: {e}"));
        }
        Self { networks: Cell::new(0), plugged: RefCell::default(), coordinator: RefCell::default() }
    }

    fn next_network(&self) -> Network {
        let network = Network(self.networks.get() + 1);
        self.networks.set(network.0);
        network
    }

    /// Joins a machine to the router by a new network. Its interface is `eth0`, its addresses end in 2.
    pub fn plug(&self, machine: &Namespace, stack: Stack) -> Network {
        let network = self.next_network();
        let (name, port) = (machine.name(), format!("net{}", network.0));
        ip_batch(&[&format!("link add {port} type veth peer name eth0 netns {name}"), &format!("link set {port} up")]);
        machine.ip(&["link set eth0 up"]);
        if stack != Stack::V6 {
            ip_batch(&[&format!("addr add {}/24 dev {port}", network.v4(1))]);
        }
        if stack != Stack::V4 {
            ip_batch(&[&format!("addr add {}/64 dev {port} nodad", network.v6(1))]);
        }
        Addresses { network, private: None }.give(machine, "eth0", 2, stack, Some(1));
        machine.wait_up("eth0");
        self.plugged.borrow_mut().insert(name.to_owned(), network);
        network
    }

    /// Connects two machines directly, by a veth pair of MTU 1500 past the router: `cable` on either side, with
    /// [`World::cable_end`] as its IPv4 address. A machine has at most one.
    pub fn cable(one: &Namespace, other: &Namespace) {
        one.ip(&[&format!("link add cable mtu 1500 type veth peer name cable mtu 1500 netns {}", other.name())]);
        for (machine, end) in [(one, 0), (other, 1)] {
            machine.ip(&[&format!("addr add {}/24 dev cable", Self::cable_end(end)), "link set cable up"]);
        }
        [one, other].iter().for_each(|machine| machine.wait_up("cable"));
    }

    /// The address at one of the ends of a [`World::cable`], 0 or 1.
    #[must_use]
    pub const fn cable_end(end: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 99, 0, 1 + end)
    }

    /// Removes a machine's network, also from the router.
    pub fn unplug(&self, machine: &Namespace) {
        machine.ip(&["link del eth0"]);
    }

    /// Cuts a machine off: its link stays up, but packets are dropped silently in both directions.
    pub fn cut(&self, machine: &Namespace) {
        self.block(machine, None, "add");
    }

    /// Ends [`World::cut`].
    pub fn mend(&self, machine: &Namespace) {
        self.block(machine, None, "del");
    }

    /// Cuts two machines off from each other.
    pub fn cut_between(&self, one: &Namespace, other: &Namespace) {
        self.block(one, Some(other), "add");
    }

    /// Ends [`World::cut_between`].
    pub fn mend_between(&self, one: &Namespace, other: &Namespace) {
        self.block(one, Some(other), "del");
    }

    /// From now on all UDP through the router passes this weather.
    ///
    /// # Panics
    /// If TUN interfaces can't be made.
    #[must_use]
    pub fn weather(&self, weather: Weather) -> Storm {
        Storm::over_all(weather)
    }

    fn block(&self, one: &Namespace, other: Option<&Namespace>, how: &str) {
        let (one, other) = (self.network_of(one), other.map(|other| self.network_of(other)));
        let rules = |to: fn(Network) -> String| {
            let from = |network: Network| format!("iif net{}", network.0);
            let ways = match other {
                None => [from(one), format!("to {}", to(one))],
                Some(other) => [(one, other), (other, one)].map(|(a, b)| format!("{} to {}", from(a), to(b))),
            };
            ways.map(|way| format!("rule {how} pref 1 {way} blackhole"))
        };
        let v4: fn(Network) -> String = |network| format!("{}/24", network.v4(0));
        let v6: fn(Network) -> String = |network| format!("{}/64", network.v6(0));
        for (family, [there, back]) in [("-4", rules(v4)), ("-6", rules(v6))] {
            ip_batch_of(&[family], &[&there, &back]);
        }
    }

    /// From now on the link between a machine and the router carries packets of at most `mtu` bytes, though the machine's own
    /// interface says 1,500. The router reports by ICMP what it can't pass on; what comes from the machine is just gone.
    pub fn set_mtu(&self, machine: &Namespace, mtu: u16) {
        ip_batch(&[&format!("link set net{} mtu {mtu}", self.network_of(machine).0)]);
    }

    /// Makes the router send packets for another network to a machine, as if that network were behind it.
    pub fn route(&self, network: &str, machine: &Namespace) {
        let (there, v6) = (self.network_of(machine), network.contains(':'));
        let via = if v6 { there.v6(2).to_string() } else { there.v4(2).to_string() };
        ip_batch(&[&format!("route replace {network} via {via}")]);
    }

    /// A further router, for machines that are behind it.
    #[must_use]
    pub fn router(&self, name: &str, nat: Nat, stack: Stack) -> Router {
        let namespace = Namespace::create(name);
        let network = self.plug(&namespace, stack);
        Router::new(namespace, nat, stack, network.v4(2), 0)
    }

    /// A router behind another one.
    #[must_use]
    pub fn router_behind(&self, outer: &Router, name: &str, nat: Nat) -> Router {
        let namespace = Namespace::create(name);
        let (_, address) = self.plug_behind(outer, &namespace);
        outer.inner(namespace, nat, address)
    }

    /// Joins a machine to a router by a new network of it, whose number and address of the machine are returned. Its
    /// interface is `eth0`.
    pub fn plug_behind(&self, router: &Router, machine: &Namespace) -> (u8, Ipv4Addr) {
        let network = self.next_network();
        let lan = router.lan(network);
        if router.is_public() && router.stack() != Stack::V6 {
            self.route(&format!("{}/24", network.v4(0)), router.namespace());
        }
        if router.stack() != Stack::V4 {
            self.route(&format!("{}/64", network.v6(0)), router.namespace());
        }
        (lan, router.join(machine, lan))
    }

    /// A machine behind a router without a running agent. It will follow the newest coordinator.
    #[must_use]
    pub fn machine_behind(&self, router: &Router, name: &str) -> Runner {
        let namespace = Namespace::create(name);
        self.plug_behind(router, &namespace);
        Runner::new(namespace, self.coordinator.borrow().clone())
    }

    /// [`World::runner`] behind a router.
    #[must_use]
    pub fn runner_behind(&self, router: &Router, coordinator: &Coordinator, name: &str) -> Runner {
        let runner = self.machine_behind(router, name);
        Self::started(runner, coordinator, name, router.stack())
    }

    /// [`World::runner`] in a network of a router that is there already, counted from 1.
    #[must_use]
    pub fn runner_beside(&self, router: &Router, lan: u8, coordinator: &Coordinator, name: &str) -> Runner {
        let namespace = Namespace::create(name);
        router.join(&namespace, lan);
        let runner = Runner::new(namespace, self.coordinator.borrow().clone());
        Self::started(runner, coordinator, name, router.stack())
    }

    fn started(mut runner: Runner, coordinator: &Coordinator, name: &str, stack: Stack) -> Runner {
        let (url, token) = (coordinator.url(stack == Stack::V6), coordinator.token(&["--any"]));
        runner.start(&[&url, &token, "--name", name, "--provider", name]);
        runner
    }

    fn network_of(&self, machine: &Namespace) -> Network {
        let plugged = self.plugged.borrow();
        *plugged.get(machine.name()).unwrap_or_else(|| panic!("{} is on no network", machine.name()))
    }

    /// A coordinator, dual-stack, started with the given flags of `serve`.
    #[must_use]
    pub fn coordinator(&self, flags: &[&str]) -> Coordinator {
        self.coordinator_named("coord", flags)
    }

    /// A further coordinator.
    #[must_use]
    pub fn coordinator_named(&self, name: &str, flags: &[&str]) -> Coordinator {
        let mut coordinator = self.coordinator_to_start(name, flags);
        coordinator.start();
        self.coordinator.replace(Some(coordinator.data().to_owned()));
        coordinator
    }

    /// A further coordinator that isn't started yet.
    #[must_use]
    pub fn coordinator_to_start(&self, name: &str, flags: &[&str]) -> Coordinator {
        let namespace = Namespace::create(name);
        let network = self.plug(&namespace, Stack::Dual);
        Coordinator::new(namespace, network, flags)
    }

    /// An etcd of so many members.
    #[must_use]
    pub fn etcd(&self, members: usize) -> Etcd {
        let member = |number| {
            let namespace = Namespace::create(&format!("etcd{number}"));
            let network = self.plug(&namespace, Stack::V4);
            (namespace, network)
        };
        Etcd::new((1..=members).map(member).collect())
    }

    /// A relay, dual-stack, that no coordinator knows yet.
    #[must_use]
    pub fn relay(&self, name: &str, turn: Turn) -> Relay {
        let namespace = Namespace::create(name);
        let network = self.plug(&namespace, Stack::Dual);
        Relay::new(namespace, network, turn)
    }

    /// A machine whose port 443 leads to TURN at one address, and to another one for all else (`ADDRESS:PORT`).
    #[must_use]
    pub fn shared_port(&self, switch: Switch, turn: SocketAddr, other: &str) -> SharedPort {
        let namespace = Namespace::create("shared");
        let network = self.plug(&namespace, Stack::Dual);
        SharedPort::start(switch, namespace, network, turn, other.parse().expect("ADDRESS:PORT"))
    }

    /// A relay of the coordinator's own, enrolled by a token.
    #[must_use]
    pub fn own_relay(&self, coordinator: &Coordinator, name: &str) -> Relay {
        let token = coordinator.command(&["token", "create", "--relay", name]).done().stdout;
        let namespace = Namespace::create(name);
        let network = self.plug(&namespace, Stack::Dual);
        Relay::enrolled(namespace, network, coordinator, token.trim())
    }

    /// A relay that a coordinator's runners use.
    #[must_use]
    pub fn relay_of(&self, coordinator: &Coordinator, name: &str, turn: Turn) -> Relay {
        if turn == Turn::Enrolled {
            return self.own_relay(coordinator, name);
        }
        let relay = self.relay(name, turn);
        relay.register(coordinator);
        relay
    }

    /// A daemon on a router that forwards ports on request, which isn't started yet. The router has a network already.
    #[must_use]
    pub fn mapper<'a>(&self, router: &'a Router) -> Mapper<'a> {
        Mapper::new(router)
    }

    /// An address that isn't private and leads to a router, besides its own.
    #[must_use]
    pub fn public_address(&self, router: &Router, host: u8) -> Ipv4Addr {
        let address = Ipv4Addr::new(30, 0, self.network_of(router.namespace()).0, host);
        router.namespace().ip(&[&format!("addr add {address}/32 dev eth0")]);
        self.route(&format!("{address}/32"), router.namespace());
        address
    }

    /// A machine for an HTTP proxy, which isn't started yet.
    #[must_use]
    pub fn squid(&self) -> Squid {
        let namespace = Namespace::create("squid");
        let network = self.plug(&namespace, Stack::Dual);
        Squid::new(namespace, network)
    }

    /// A machine on its own network without a running agent. It will follow the newest coordinator.
    #[must_use]
    pub fn machine(&self, name: &str, stack: Stack) -> Runner {
        let namespace = Namespace::create(name);
        self.plug(&namespace, stack);
        Runner::new(namespace, self.coordinator.borrow().clone())
    }

    /// The same for a certain coordinator.
    pub(crate) fn machine_of(&self, coordinator: &Coordinator, name: &str, stack: Stack) -> Runner {
        self.coordinator.replace(Some(coordinator.data().to_owned()));
        self.machine(name, stack)
    }

    /// A runner that has joined, may host everything, and follows the coordinator. Its provider is its name.
    #[must_use]
    pub fn runner(&self, coordinator: &Coordinator, name: &str, stack: Stack) -> Runner {
        Self::started(self.machine(name, stack), coordinator, name, stack)
    }
}
