//! A relay carries only between clients with credentials: nothing for strangers, and nothing to or from other addresses.

use std::{
    net::{SocketAddr, TcpStream, UdpSocket},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mesh_netns_tests::{Carrier, Guest, Namespace, Pass, Relay, Stack, Turn, World, isolated};

/// What was sent before something else that has come is lost if it hasn't come by now.
const AT_ONCE: Duration = Duration::from_millis(1);

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs()
}

/// A relay, and a machine that knows it.
struct Lab {
    relay: Relay,
    machine: Namespace,
    /// The machine's address.
    at: SocketAddr,
    _world: World,
}

impl Lab {
    fn new(turn: Turn) -> Self {
        let world = World::new();
        let (relay, machine) = (world.relay("relay", turn), Namespace::create("machine"));
        let at = (world.plug(&machine, Stack::Dual).v4(2), 1000).into();
        Self { relay, machine, at, _world: world }
    }

    fn guest(&self, name: char, until: u64, carrier: Carrier, v6: bool) -> Guest {
        let to = if carrier == Carrier::Tls { self.relay.tls(v6) } else { self.relay.plain(v6) };
        let pass = Pass::new(self.relay.secret(), &name.to_string().repeat(32), until);
        Guest::new(&self.machine, to, carrier, self.relay.fingerprint(), &pass)
    }

    fn welcome(&self, name: char, carrier: Carrier) -> (Guest, SocketAddr) {
        let mut guest = self.guest(name, now() + 3600, carrier, false);
        let at = guest.allocate().expect("an address at the relay");
        (guest, at)
    }
}

fn carries_between_its_guests(turn: Turn) {
    let mut lab = Lab::new(turn);
    for (number, v6) in [false, true].into_iter().enumerate() {
        let ways = [('a', Carrier::Udp), ('b', Carrier::Tcp), ('c', Carrier::Tls)];
        let mut guests = ways.map(|(name, way)| {
            let mut guest = lab.guest(name, now() + 3600 + number as u64, way, v6);
            let at = guest.allocate().expect("an address at the relay");
            (guest, at)
        });
        for (one, other) in [(0, 1), (1, 2), (2, 0)] {
            let (from, to) = (guests[one].1, guests[other].1);
            guests[one].0.permit(to).expect("a permission");
            guests[other].0.permit(from).expect("a permission");
            guests[one].0.send(to, b"hello");
            let heard = guests[other].0.receive(Duration::from_secs(5));
            assert_eq!(heard, Some((from, b"hello".to_vec())), "{:?} to {:?}", ways[one], ways[other]);
        }
    }
    lab.relay.kill();
    lab.relay.start();
    lab.welcome('a', Carrier::Udp);
    lab.relay.stop();
}

#[test]
fn coturn_carries_between_its_guests() {
    isolated(|| carries_between_its_guests(Turn::Coturn));
}

/// Nothing goes from it to anybody who isn't there by a credential, nothing gets in, and those without one get nothing.
fn is_closed(turn: Turn) {
    let lab = Lab::new(turn);
    let outsider = lab.machine.enter(|| UdpSocket::bind(lab.at)).expect("a port");
    outsider.set_nonblocking(true).expect("a mode");
    let ((mut one, at), (mut other, to)) = (lab.welcome('a', Carrier::Udp), lab.welcome('b', Carrier::Udp));
    // To who is no guest.
    for peer in [lab.at, "127.0.0.1:22".parse().expect("an address"), (lab.relay.network().v4(1), 22).into()] {
        assert_eq!(one.permit(peer), Err(403), "{peer}");
        one.send(peer, b"let me out");
    }
    // From who is no guest: what a guest says after it gets in.
    one.permit(to).expect("a permission");
    other.permit(at).expect("a permission");
    outsider.send_to(b"let me in", at).expect("a datagram");
    other.send(at, b"hello");
    assert_eq!(one.receive(Duration::from_secs(5)), Some((to, b"hello".to_vec())));
    assert_eq!(one.receive(AT_ONCE), None);
    // A guest that wasn't permitted.
    let (mut third, _) = lab.welcome('c', Carrier::Udp);
    third.send(at, b"not asked for");
    other.send(at, b"hello again");
    assert_eq!(one.receive(Duration::from_secs(5)), Some((to, b"hello again".to_vec())));
    assert_eq!(one.receive(AT_ONCE), None);
    assert!(outsider.recv(&mut [0; 9]).is_err(), "nothing came out");
    // By a credential that is over, or made with another secret.
    for carrier in [Carrier::Udp, Carrier::Tcp, Carrier::Tls] {
        assert_eq!(lab.guest('d', now() - 3, carrier, false).allocate(), Err(401), "{carrier:?}: an old credential");
        let to = if carrier == Carrier::Tls { lab.relay.tls(false) } else { lab.relay.plain(false) };
        let forged = Pass::new("another secret", &"e".repeat(32), now() + 3600);
        let mut stranger = Guest::new(&lab.machine, to, carrier, lab.relay.fingerprint(), &forged);
        assert_eq!(stranger.allocate(), Err(401), "{carrier:?}: a forged credential");
        assert_ne!(stranger.permit(at), Ok(()), "{carrier:?}: without an address");
    }
}

#[test]
fn coturn_is_of_use_to_its_guests_alone() {
    isolated(|| is_closed(Turn::Coturn));
}

#[test]
fn our_relay_carries_between_its_guests() {
    isolated(|| carries_between_its_guests(Turn::Own));
}

#[test]
fn our_relay_is_of_use_to_its_guests_alone() {
    isolated(|| is_closed(Turn::Own));
}

/// What strangers send, with a connection for each and by datagrams, takes nothing from the guests.
#[test]
fn strangers_at_our_relay_take_nothing_from_its_guests() {
    isolated(|| {
        let lab = Lab::new(Turn::Own);
        let ((mut one, at), (mut other, to)) = (lab.welcome('a', Carrier::Udp), lab.welcome('b', Carrier::Tls));
        one.permit(to).expect("a permission");
        other.permit(at).expect("a permission");
        let connect = || TcpStream::connect(lab.relay.plain(false)).expect("a connection");
        let _silent: Vec<TcpStream> = (0..200).map(|_| lab.machine.enter(connect)).collect();
        let strange = lab.machine.enter(|| UdpSocket::bind("0.0.0.0:0")).expect("a port");
        for number in 0..2000_u32 {
            let kind = [0x40_u8, 0, 0, 0x16][number as usize % 4];
            let datagram = [&[kind, 3, 0, 96][..], &[0x21, 0x12, 0xa4, 0x42], &[number as u8; 108]].concat();
            strange.send_to(&datagram, lab.relay.plain(false)).expect("a datagram");
        }
        one.send(to, b"hello");
        assert_eq!(other.receive(Duration::from_secs(5)), Some((at, b"hello".to_vec())));
        other.send(at, b"and back");
        assert_eq!(one.receive(Duration::from_secs(5)), Some((to, b"and back".to_vec())));
        assert!(lab.guest('c', now() + 60, Carrier::Tls, false).allocate().is_ok(), "and there is room for another");
    });
}
