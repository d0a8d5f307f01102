//! A relay carries only between clients with credentials: nothing for strangers, and nothing to or from other addresses.

use std::{
    collections::HashMap,
    fs,
    net::{SocketAddr, TcpStream, UdpSocket},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mesh_netns_tests::{Carrier, Guest, Namespace, Pass, Relay, Stack, Turn, World, isolated, wait};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

/// What was sent before something else that has come is lost if it hasn't come by now.
const AT_ONCE: Duration = Duration::from_millis(1);

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs()
}

/// A relay, and a machine that knows it.
struct Lab {
    relay: Relay,
    machine: Namespace,
    /// The machine's address.
    at: SocketAddr,
    world: World,
}

impl Lab {
    fn new(turn: Turn) -> Self {
        let world = World::new();
        let (relay, machine) = (world.relay("relay", turn), Namespace::create("machine"));
        let at = (world.plug(&machine, Stack::Dual).v4(2), 1000).into();
        Self { relay, machine, at, world }
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

/// A message of STUN with an attribute SOFTWARE of that length.
fn message(kind: u16, software: u16) -> Vec<u8> {
    let kind = kind.to_be_bytes();
    let length = if software > 0 { 4 + software } else { 0 };
    let head = [&kind[..], &length.to_be_bytes(), &[0x21, 0x12, 0xa4, 0x42], b"some request"].concat();
    let attribute = [&[0x80, 0x22][..], &software.to_be_bytes(), &vec![b' '; software.into()]].concat();
    if software > 0 { [head, attribute].concat() } else { head }
}

/// The owner of an address gets no more bytes than strangers have sent in its name: the relay can't be used against others.
#[test]
fn our_relay_sends_no_one_more_than_was_sent_in_its_name() {
    isolated(|| {
        let mut lab = Lab::new(Turn::Own);
        // What guests get then shows that all before it was handled.
        lab.relay.use_one_thread();
        let ((mut one, at), (mut other, to)) = (lab.welcome('a', Carrier::Udp), lab.welcome('b', Carrier::Udp));
        one.permit(to).expect("a permission");
        other.permit(at).expect("a permission");
        // Binding, Allocate, Refresh, CreatePermission, ChannelBind and Send, from as short as can be to long.
        let kinds = [1, 3, 4, 8, 9, 0x16];
        let requests = kinds.iter().flat_map(|kind| [0, 8, 20, 60, 400].map(|software| message(*kind, software)));
        let data = [&[0x40, 0, 0, 100][..], &[7; 100]].concat();
        let tunnel = [&[1, 0, 0, 0][..], &[7; 144]].concat();
        let all: Vec<Vec<u8>> = requests.chain([data, tunnel, vec![0; 1], vec![]]).collect();
        // One in the name of each, from networks of which the relay has heard nothing.
        lab.world.route("198.18.0.0/16", &lab.machine);
        let owners: Vec<String> = (0..all.len()).map(|network| format!("198.18.{network}.1")).collect();
        let lines: Vec<String> = owners.iter().map(|owner| format!("addr add {owner}/32 dev lo")).collect();
        lab.machine.ip(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        let send = |(owner, text): (&String, &Vec<u8>)| {
            let socket = lab.machine.enter(|| UdpSocket::bind((owner.as_str(), 1000))).expect("a port");
            socket.set_nonblocking(true).expect("a mode");
            socket.send_to(text, lab.relay.plain(false)).expect("a datagram");
            socket
        };
        let sockets: Vec<UdpSocket> = owners.iter().zip(&all).map(send).collect();
        one.send(to, b"hello");
        assert_eq!(other.receive(Duration::from_secs(5)), Some((at, b"hello".to_vec())));
        let mut answered = 0;
        for (socket, text) in sockets.iter().zip(&all) {
            let got: usize = std::iter::from_fn(|| socket.recv(&mut [0; 2000]).ok()).sum();
            assert!(got <= text.len(), "{got} bytes for {}: {text:02x?}", text.len());
            answered += usize::from(got > 0);
        }
        assert!(answered > 0, "a stranger that asks in its own name gets an answer");
    });
}

/// A runner that allocates and binds without end has one address, and the others keep theirs.
#[test]
fn a_guest_that_takes_what_it_can_at_our_relay_leaves_the_others_theirs() {
    isolated(|| {
        let lab = Lab::new(Turn::Own);
        let ((mut one, at), (mut other, to)) = (lab.welcome('a', Carrier::Udp), lab.welcome('b', Carrier::Udp));
        one.permit(to).expect("a permission");
        other.permit(at).expect("a permission");
        // (Of a network that has proved nothing, 20 are answered in a second.)
        let mut greedy: Vec<(Guest, SocketAddr)> = (0..12).map(|_| lab.welcome('f', Carrier::Udp)).collect();
        let (mut latest, address) = greedy.pop().expect("a guest");
        assert!(greedy.iter().all(|(_, earlier)| *earlier == address), "one address, however often it asks");
        let binds = |guest: &mut Guest, number| guest.bind(number, to).is_ok();
        assert_eq!((0x4000..0x4040).filter(|number| binds(&mut latest, *number)).count(), 1, "one channel a peer");
        assert!(greedy.iter_mut().all(|(guest, _)| guest.refresh().is_err()), "the newest has taken its place");
        one.send(to, b"hello");
        assert_eq!(other.receive(Duration::from_secs(5)), Some((at, b"hello".to_vec())));
        let (mut third, _) = lab.welcome('c', Carrier::Udp);
        third.permit(to).expect("a permission");
        third.bind(0x4000, to).expect("a channel");
        assert_eq!((one.refresh(), other.refresh()), (Ok(()), Ok(())));
    });
}

/// So many datagrams fit every receive buffer of a relay, and a guest can number them.
const FEW: usize = 40;

/// Does something on one core only.
fn on_one_core(act: impl FnOnce()) {
    let all = sched_getaffinity(Pid::from_raw(0)).expect("the cores");
    let mut one = CpuSet::new();
    one.set((0..CpuSet::count()).find(|core| all.is_set(*core) == Ok(true)).expect("a core")).expect("a core");
    sched_setaffinity(Pid::from_raw(0), &one).expect("one core");
    act();
    sched_setaffinity(Pid::from_raw(0), &all).expect("all cores");
}

/// How many datagrams found a receive buffer of the relay full (the last column of udp(7)'s tables).
fn dropped(relay: &Relay) -> u64 {
    let tables = ["udp", "udp6"].map(|table| {
        let path = format!("/proc/thread-self/net/{table}");
        relay.namespace().enter(|| fs::read_to_string(path)).expect("the kernel's table")
    });
    tables
        .iter()
        .flat_map(|table| table.lines().skip(1))
        .filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok())
        .sum()
}

/// A guest with an address at the relay.
type Settled = (Guest, SocketAddr);

/// Counts what arrives, by sender, until a guest is heard that it is over.
fn hear(receiver: &mut Settled, (guest, from): &mut Settled) -> HashMap<SocketAddr, usize> {
    let mut heard = HashMap::new();
    loop {
        guest.send(receiver.1, b"over");
        while let Some((sender, text)) = receiver.0.receive(Duration::from_millis(200)) {
            match &text[..] {
                b"over" if sender == *from => return heard,
                b"over" => {}
                _ => *heard.entry(sender).or_default() += 1,
            }
        }
    }
}

/// More than a receive buffer holds comes while the relay stands still, and then a few datagrams of guests. Those that have
/// a buffer of their own, as they sent something after an earlier flood, lose none.
fn floods_fill_no_others_buffer(v6: bool) {
    let mut lab = Lab::new(Turn::Own);
    lab.relay.use_one_thread();
    let [mut flooder, mut known, mut other, mut late, mut receiver] = ['a', 'b', 'c', 'd', 'e'].map(|name| {
        let mut guest = lab.guest(name, now() + 3600, Carrier::Udp, v6);
        let at = guest.allocate().expect("an address at the relay");
        (guest, at)
    });
    let to = receiver.1;
    for (guest, at) in [&mut flooder, &mut known, &mut other, &mut late] {
        guest.permit(to).expect("a permission");
        receiver.0.permit(*at).expect("a permission");
    }
    let stranger = lab.machine.enter(|| UdpSocket::bind(if v6 { "[::]:0" } else { "0.0.0.0:0" })).expect("a port");
    stranger.connect(lab.relay.plain(v6)).expect("a route");
    let flood = |socket: &UdpSocket| {
        let datagram = [&[0x40, 0, 4, 0][..], &[7; 1024]].concat();
        let before = dropped(&lab.relay);
        wait::until_true("a receive buffer to be full", || {
            (0..1000).for_each(|_| drop(socket.send(&datagram)));
            // What a core sends goes through one queue: nothing of the flood is left in it then.
            lab.machine.enter(|| TcpStream::connect(lab.relay.plain(v6))).expect("a connection");
            dropped(&lab.relay) > before + 100
        });
    };
    let few = |guest: &mut Settled| (0..FEW).for_each(|_| guest.0.send(to, b"hello"));
    on_one_core(|| {
        lab.relay.frozen(|| flood(flooder.0.socket()));
        hear(&mut receiver, &mut known);
        lab.relay.frozen(|| {
            flood(&stranger);
            few(&mut known);
            few(&mut other);
        });
        let mut heard = hear(&mut receiver, &mut other);
        for (sender, number) in hear(&mut receiver, &mut known) {
            *heard.entry(sender).or_default() += number;
        }
        assert_eq!(heard[&known.1], FEW, "beside strangers");
        assert!(heard.get(&other.1).is_none_or(|number| *number < FEW / 2), "it was a flood: {heard:?}");

        lab.relay.frozen(|| flood(flooder.0.socket()));
        hear(&mut receiver, &mut flooder);
        lab.relay.frozen(|| {
            flood(flooder.0.socket());
            few(&mut late);
        });
        assert_eq!(hear(&mut receiver, &mut late)[&late.1], FEW, "beside a guest");
    });
}

#[test]
fn floods_at_our_relay_fill_no_guests_buffer() {
    isolated(|| floods_fill_no_others_buffer(false));
}

#[test]
fn floods_at_our_relay_fill_no_guests_buffer_by_ipv6() {
    isolated(|| floods_fill_no_others_buffer(true));
}
