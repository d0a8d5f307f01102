//! The routers of the harness are what they say, by plain UDP sockets: which addresses they give to those behind them, whom
//! they let in, and what they forget.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use mesh_netns_tests::{Namespace, Nat, Router, Stack, Udp, World, isolated};

/// The port of the machine behind the router.
const PORT: u16 = 40_000;

fn bind(machine: &Namespace, address: impl Into<IpAddr>, port: u16) -> UdpSocket {
    let address = (address.into(), port);
    let socket = machine.enter(|| UdpSocket::bind(address)).expect("a port");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    socket
}

/// A machine behind a router, and two machines outside.
struct Lab {
    world: World,
    router: Router,
    machine: Namespace,
    inside: UdpSocket,
    at: SocketAddr,
    /// The first two are on one machine.
    outside: [UdpSocket; 3],
    machines: [Namespace; 2],
}

impl Lab {
    fn new(nat: Nat) -> Self {
        Self::with(World::new(), |world| world.router("router", nat, Stack::V4))
    }

    fn with(world: World, router: impl FnOnce(&World) -> Router) -> Self {
        let router = router(&world);
        let machines = ["one", "other"].map(Namespace::create);
        let at = machines.each_ref().map(|machine| world.plug(machine, Stack::V4).v4(2));
        let outside = [(0, 1000), (0, 1001), (1, 1000)].map(|(n, port)| bind(&machines[n], at[n], port));
        let machine = Namespace::create("machine");
        let (_, at) = world.plug_behind(&router, &machine);
        let inside = bind(&machine, at, PORT);
        Self { world, router, machine, inside, at: (at, PORT).into(), outside, machines }
    }

    /// The machine sends to one of those outside; from where it seems to come.
    fn out(&self, to: usize) -> SocketAddr {
        self.inside.send_to(b"out", address(&self.outside[to])).expect("a datagram");
        self.outside[to].recv_from(&mut [0; 9]).expect("it arrives").1
    }

    /// The address of a further socket of the first machine.
    fn stranger(&self) -> SocketAddr {
        (address(&self.outside[0]).ip(), 1002).into()
    }

    /// The senders whose datagrams to the machine's outside address arrive. They send in this order; the last one must be one
    /// that is let in.
    fn come_in(&self, to: SocketAddr, order: [usize; 3]) -> Vec<SocketAddr> {
        for from in order {
            // A refusal of an earlier datagram (ICMP) is reported here.
            let _ = self.outside[from].send_to(b"in", to);
            self.outside[from].send_to(b"in", to).expect("a datagram");
        }
        let last = address(&self.outside[order[2]]);
        let mut seen = vec![];
        while seen.last() != Some(&last) {
            let (_, from) = self.inside.recv_from(&mut [0; 9]).expect("the last one gets in");
            seen.push(from);
        }
        // Of the last one's second datagram nothing is left for the next time.
        self.inside.recv_from(&mut [0; 9]).expect("the same again");
        seen.dedup();
        seen
    }
}

fn address(socket: &UdpSocket) -> SocketAddr {
    socket.local_addr().expect("an address")
}

/// One mapping for all, and only who was written to gets in.
fn is_port_restricted(lab: &Lab, mapping: SocketAddr) {
    assert_eq!([0, 1, 2].map(|to| lab.out(to)), [mapping; 3]);
    assert_eq!(lab.come_in(mapping, [2, 1, 0]).len(), 3, "all that were written to");
    lab.router.forget();
    assert_eq!(lab.out(0), mapping, "the port is kept");
    assert_eq!(lab.come_in(mapping, [2, 1, 0]), [address(&lab.outside[0])]);
}

#[test]
fn p_lets_everybody_in() {
    isolated(|| {
        let lab = Lab::new(Nat::Public);
        assert_eq!(lab.come_in(lab.at, [2, 1, 0]).len(), 3, "without having said a word");
        assert_eq!(lab.out(0), lab.at);
    });
}

#[test]
fn f_keeps_addresses_and_lets_answers_in() {
    isolated(|| {
        let lab = Lab::new(Nat::Firewall);
        is_port_restricted(&lab, lab.at);
    });
}

#[test]
fn f_lets_answers_in_by_ipv6() {
    isolated(|| {
        let world = World::new();
        let router = world.router("router", Nat::Firewall, Stack::V6);
        let [machine, one, other] = ["machine", "one", "other"].map(Namespace::create);
        let to = [&one, &other].map(|machine| world.plug(machine, Stack::V6).v6(2));
        world.plug_behind(&router, &machine);
        let inside = bind(&machine, Ipv6Addr::UNSPECIFIED, PORT);
        let outside = [bind(&one, to[0], 1), bind(&other, to[1], 1)];
        inside.send_to(b"out", (to[0], 1)).expect("a datagram");
        let (_, at) = outside[0].recv_from(&mut [0; 9]).expect("it arrives");
        assert_eq!(at.port(), PORT);
        outside[1].send_to(b"in", at).expect("a datagram");
        outside[0].send_to(b"in", at).expect("a datagram");
        assert_eq!(inside.recv_from(&mut [0; 9]).expect("an answer").1, (to[0], 1).into());
    });
}

#[test]
fn h_has_one_mapping_lets_answers_in_and_is_silent() {
    isolated(|| {
        let lab = Lab::new(Nat::Home);
        let mapping = (lab.router.outside(), PORT).into();
        assert!(!strays(&lab, mapping), "it is silent");
        is_port_restricted(&lab, mapping);
    });
}

/// A stranger sends to a port before it is sent to from there; whether it is answered by a refusal (ICMP).
fn strays(lab: &Lab, mapping: SocketAddr) -> bool {
    let stranger = bind(&lab.machines[0], lab.stranger().ip(), lab.stranger().port());
    stranger.connect(mapping).expect("a route");
    stranger.send(b"stray").expect("a datagram");
    // What it sends is answered as it is sent, and what the machine sends to another socket comes after that.
    lab.out(0);
    stranger.take_error().expect("a socket").is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[test]
fn l_answers_strays_and_then_keeps_their_port() {
    isolated(|| {
        let lab = Lab::new(Nat::Answering);
        let mapping = (lab.router.outside(), PORT).into();
        is_port_restricted(&lab, mapping);
        assert!(strays(&lab, mapping), "it answers");
        let stranger = bind(&lab.machines[0], lab.stranger().ip(), lab.stranger().port());
        let meets = || {
            lab.inside.send_to(b"out", lab.stranger()).expect("a datagram");
            stranger.recv_from(&mut [0; 9]).expect("it arrives").1
        };
        assert_ne!(meets(), mapping, "the stray has taken the port");
        assert_eq!(lab.out(0), mapping, "for those that it had before");
        lab.router.forget();
        assert_eq!(meets(), mapping, "after quiet");
    });
}

#[test]
fn c_has_one_mapping_and_lets_everybody_in() {
    isolated(|| {
        let lab = Lab::new(Nat::Cone);
        let mapping = (lab.router.outside(), PORT).into();
        strays(&lab, mapping);
        lab.router.forget();
        assert_eq!(lab.out(1), mapping);
        assert_eq!(lab.come_in(mapping, [2, 0, 1]).len(), 3, "everybody");
        assert_eq!(lab.out(2), mapping);
    });
}

#[test]
fn s_has_a_mapping_for_each_destination_and_lets_answers_in() {
    isolated(|| {
        let lab = Lab::new(Nat::Symmetric);
        let mappings = [0, 1, 2].map(|to| lab.out(to));
        assert!(mappings.iter().all(|at| at.ip() == IpAddr::from(lab.router.outside())), "{mappings:?}");
        assert!(mappings[0] != mappings[1] && mappings[1] != mappings[2] && mappings[0] != mappings[2], "{mappings:?}");
        assert_eq!(lab.come_in(mappings[0], [2, 1, 0]), [address(&lab.outside[0])]);
    });
}

#[test]
fn u_passes_tcp_and_no_udp() {
    isolated(|| {
        let lab = Lab::new(Nat::NoUdp);
        let to = address(&lab.outside[0]);
        let listener = lab.machines[0].enter(|| TcpListener::bind(to)).expect("a port");
        lab.inside.send_to(b"out", to).expect("a datagram");
        let _stream = lab.machine.enter(|| TcpStream::connect(to)).expect("a connection");
        assert_eq!(listener.accept().expect("a connection").1.ip(), IpAddr::from(lab.router.outside()));
        lab.outside[0].set_nonblocking(true).expect("a mode");
        assert_eq!(lab.outside[0].recv(&mut [0; 9]).expect_err("nothing").kind(), ErrorKind::WouldBlock);
    });
}

fn two_routers(outer: Nat, inner: Nat, is_same: bool) {
    let world = World::new();
    let outside = world.router("outside", outer, Stack::V4);
    let lab = Lab::with(world, |world| world.router_behind(&outside, "inside", inner));
    let mappings = [0, 1].map(|to| lab.out(to));
    assert!(mappings.iter().all(|at| at.ip() == IpAddr::from(outside.outside())), "{mappings:?}");
    assert_eq!(mappings[0] == mappings[1], is_same, "{mappings:?}");
    assert_eq!(lab.come_in(mappings[1], [2, 2, 1]), [address(&lab.outside[1])]);
}

#[test]
fn h_behind_c_lets_answers_in() {
    isolated(|| two_routers(Nat::Cone, Nat::Home, true));
}

#[test]
fn s_behind_h_has_a_mapping_for_each_destination() {
    isolated(|| two_routers(Nat::Home, Nat::Symmetric, false));
}

#[test]
fn networks_of_one_router_reach_each_other_by_its_hairpin_alone() {
    isolated(|| {
        let lab = Lab::new(Nat::Home);
        let second = Namespace::create("second");
        let (lan, at) = lab.world.plug_behind(&lab.router, &second);
        let (third, outside) = (Namespace::create("third"), lab.router.outside());
        let beside = lab.router.join(&third, lan);
        let (second, third) = (bind(&second, at, PORT + 1), bind(&third, beside, PORT + 2));
        for socket in [&second, &third] {
            socket.send_to(b"out", address(&lab.outside[0])).expect("a datagram");
            lab.outside[0].recv_from(&mut [0; 9]).expect("it arrives");
        }
        lab.out(0);
        let knocks = || {
            lab.inside.send_to(b"private", (at, PORT + 1)).expect("a datagram");
            lab.inside.send_to(b"outside", (outside, PORT + 1)).expect("a datagram");
            third.send_to(b"beside", (at, PORT + 1)).expect("a datagram");
            let mut seen = vec![];
            while !seen.contains(&(beside, PORT + 2).into()) {
                seen.push(second.recv_from(&mut [0; 9]).expect("the neighbour's").1);
            }
            seen
        };
        assert_eq!(knocks(), [(beside, PORT + 2).into()]);
        lab.router.hairpin();
        assert_eq!(knocks(), [(outside, PORT).into(), (beside, PORT + 2).into()], "by the address outside");
        second.send_to(b"back", (outside, PORT)).expect("a datagram");
        assert_eq!(lab.inside.recv_from(&mut [0; 9]).expect("the answer").1, (outside, PORT + 1).into());
    });
}

#[test]
fn udp_is_dropped_and_given_back_under_connections_that_stand() {
    isolated(|| {
        let lab = Lab::new(Nat::Home);
        let mapping = lab.out(0);
        lab.out(2);
        let only = address(&lab.outside[0]);
        lab.router.set_udp(Udp::OnlyWith(only.ip()));
        assert_eq!(lab.come_in(mapping, [2, 2, 0]), [only]);
        lab.router.set_udp(Udp::Dropped);
        for socket in &lab.outside {
            lab.inside.send_to(b"lost", address(socket)).expect("a datagram");
            socket.send_to(b"lost", mapping).expect("a datagram");
        }
        lab.router.set_udp(Udp::Passes);
        let mut text = [0; 9];
        for socket in [&lab.outside[0], &lab.outside[2]] {
            lab.inside.send_to(b"found", address(socket)).expect("a datagram");
            assert_eq!(socket.recv(&mut text).expect("it passes again"), 5, "{text:?}");
            socket.send_to(b"found", mapping).expect("a datagram");
            assert_eq!(lab.inside.recv(&mut text).expect("it passes again"), 5, "{text:?}");
        }
    });
}

#[test]
fn fragments_and_words_of_the_mtu_stop_at_a_careless_router() {
    isolated(|| {
        let lab = Lab::new(Nat::Home);
        let mapping = lab.out(0);
        let long = [7; 3000];
        let mut buffer = [0; 4000];
        lab.outside[0].send_to(&long, mapping).expect("a datagram");
        assert_eq!(lab.inside.recv(&mut buffer).expect("in fragments"), long.len());
        lab.router.namespace().be_careless();
        lab.machines[0].be_careless();
        lab.outside[0].send_to(&long, mapping).expect("a datagram");
        lab.inside.send_to(&long, address(&lab.outside[0])).expect("a datagram");
        lab.world.set_mtu(lab.router.namespace(), 1400);
        // By a route of 1500 without DF, by one of 1400 in fragments: neither is heard of again.
        for length in [1460, 1372] {
            lab.outside[0].send_to(&long[..length], mapping).expect("a datagram");
        }
        assert_eq!(lab.inside.recv(&mut buffer).expect("the short one"), 1372);
        let route = lab.machines[0].ip_output(&format!("route get {}", lab.router.outside()));
        assert!(!route.contains("mtu"), "{route}");
    });
}
