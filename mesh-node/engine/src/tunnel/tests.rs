use super::*;
use crate::testing::{key, tcp};

/// Both ends of a tunnel, and the time.
struct Pair {
    identities: [Identity; 2],
    tunnels: [Tunnel; 2],
    now: Instant,
}

impl Pair {
    fn new() -> Self {
        let now = Instant::now();
        let identities = [Identity::new(&key(1)), Identity::new(&key(2))];
        let tunnels = [
            Tunnel::new(&identities[0], &key(2).public(), TunnelIx(0x00aa_0001), now),
            Tunnel::new(&identities[1], &key(1).public(), TunnelIx(0x00bb_0002), now),
        ];
        Self { identities, tunnels, now }
    }

    fn initiation(&mut self) -> [u8; CONTROL] {
        let mut message = [0; CONTROL];
        assert_eq!(self.tunnels[0].initiate(&mut message, self.now), Some(CONTROL));
        message
    }

    /// Passes a message to an end and returns its answer.
    fn answer(&mut self, end: usize, message: &[u8]) -> Result<(Outcome, Vec<u8>), Reason> {
        let mut reply = [0; CONTROL];
        let outcome = self.tunnels[end].handshake(message, &mut reply, self.now)?;
        let len = match outcome {
            Outcome::Response(len) | Outcome::Session(len) => len,
            Outcome::Cookie => 0,
        };
        Ok((outcome, reply[..len].to_vec()))
    }

    fn connected() -> Self {
        let mut pair = Self::new();
        let initiation = pair.initiation();
        let (outcome, response) = pair.answer(1, &initiation).unwrap();
        assert_eq!(outcome, Outcome::Response(response.len()));
        assert!(!pair.tunnels[1].has_session(), "nothing has confirmed it yet");
        let (outcome, keepalive) = pair.answer(0, &response).unwrap();
        assert_eq!(outcome, Outcome::Session(keepalive.len()));
        assert!(pair.tunnels[0].has_session() && pair.tunnels[0].asking().is_none());
        assert_eq!(pair.open(1, &keepalive), Ok(vec![]));
        assert!(pair.tunnels[1].has_session());
        pair
    }

    fn seal(&mut self, end: usize, packet: &mut [u8], len: usize) -> Vec<u8> {
        let mut datagram = [0; 3000];
        let sealed = self.tunnels[end].seal(packet, len, 1344, &mut datagram, self.now).unwrap();
        assert_eq!(sealed, sealed_len(len, 1344));
        datagram[..sealed].to_vec()
    }

    fn open(&mut self, end: usize, datagram: &[u8]) -> Result<Vec<u8>, Reason> {
        let mut packet = [0; 3000];
        self.tunnels[end].open(datagram, &mut packet, self.now).map(|len| packet[..len].to_vec())
    }
}

#[test]
fn packets_cross_both_ways_and_once() {
    let mut pair = Pair::connected();
    for (from, to) in [(0, 1), (1, 0)] {
        let mut packet = tcp().payload(b"hello").build();
        let len = packet.len();
        let datagram = pair.seal(from, &mut packet, len);
        assert_eq!(data_index(&datagram), Some(pair.tunnels[to].index()));
        assert_eq!(pair.open(to, &datagram), Ok(packet));
        assert_eq!(pair.open(to, &datagram), Err(Reason::Replayed));
    }
}

#[test]
fn lengths_are_hidden_but_not_beyond_the_mtu() {
    assert_eq!([sealed_len(40, 1344), sealed_len(48, 1344), sealed_len(49, 1344)], [80, 80, 96]);
    assert_eq!([sealed_len(1337, 1340), sealed_len(1340, 1340), sealed_len(1350, 1340)], [1372, 1372, 1382]);
}

#[test]
fn padding_leaves_what_follows_as_it_was() {
    let mut pair = Pair::connected();
    let packet = tcp().payload(b"hello").build();
    let mut buffer = [packet.as_slice(), &[0xee; 20]].concat();
    let datagram = pair.seal(0, &mut buffer, packet.len());
    assert_eq!(buffer[packet.len()..], [0xee; 20]);
    assert_eq!(pair.open(1, &datagram), Ok(packet));
}

#[test]
fn what_does_not_fit_is_not_given_to_boringtun() {
    let mut pair = Pair::connected();
    let mut packet = tcp().payload(&[1; 500]).build();
    let len = packet.len();
    let datagram = pair.seal(0, &mut packet, len);
    let now = pair.now;
    assert_eq!(pair.tunnels[1].open(&datagram, &mut [0; 200], now), Err(Reason::TooLarge));
    assert_eq!(pair.tunnels[0].seal(&mut packet, len, 1344, &mut [0; 500], now), None);
    assert_eq!(pair.tunnels[0].seal(&mut [0; 1], 0, 1344, &mut [0; 40], now), None);
    assert_eq!(pair.open(1, &datagram), Ok(packet), "nothing was lost by it");
    // Not authentic, but with the right index and far too long (boringtun would panic).
    let forged = [&datagram[..8], &[9; 8], &[0; 2950]].concat();
    assert_eq!(pair.open(1, &forged), Err(Reason::NotAuthentic));
    assert_eq!(pair.tunnels[1].open(&[&forged[..], &[0; 70000]].concat(), &mut [0; 3000], now), Err(Reason::TooLarge));
}

#[test]
fn forged_and_garbled_messages_change_nothing() {
    let mut pair = Pair::connected();
    let mut packet = tcp().build();
    let datagram = pair.seal(0, &mut packet, 40);
    for at in 4..datagram.len() {
        let mut garbled = datagram.clone();
        garbled[at] ^= 1;
        assert!(pair.open(1, &garbled).is_err(), "byte {at}");
    }
    assert_eq!(pair.open(1, &datagram), Ok(packet));
}

#[test]
fn an_initiation_is_for_one_runner_and_counts_once() {
    let mut pair = Pair::new();
    let message = pair.initiation();
    let stranger = Identity::new(&key(3));
    assert_eq!(stranger.read(&message), Err(Reason::BadMac));
    assert!(matches!(pair.identities[1].read(&message), Ok(Handshake::Initiation(_))));
    assert_eq!(pair.identities[1].initiator(&message), Ok(key(1).public()));
    assert!(pair.answer(1, &message).is_ok());
    assert_eq!(pair.answer(1, &message), Err(Reason::HandshakeRejected), "a replay");
    for bad in [&message[..147], &[&message[..], &[0]].concat(), &[4; 3], &[]] {
        assert_eq!(pair.identities[1].read(bad), Err(Reason::NotWireGuard));
        assert_eq!(pair.identities[1].initiator(bad), Err(Reason::NotWireGuard));
    }
}

#[test]
fn a_cookie_proves_one_address_and_leads_to_another_initiation_at_once() {
    let mut pair = Pair::new();
    let [here, there] = ["192.0.2.1", "192.0.2.2"].map(|at| at.parse().unwrap());
    let (first, mut cookie) = (pair.initiation(), [0; CONTROL]);
    let len = pair.identities[1].prove(here, &first, &mut cookie).expect_err("no proof");
    let reply = &cookie[..len];
    assert!(len < first.len(), "nothing to amplify");
    assert_eq!(pair.identities[0].read(reply), Ok(Handshake::Cookie { index: TunnelIx(0x00aa_0001) }));
    assert_eq!(pair.answer(0, reply).unwrap().0, Outcome::Cookie);
    let (mut second, now) = ([0; CONTROL], pair.now);
    assert_eq!(pair.tunnels[0].retry(&mut second, now), Some(CONTROL));
    assert_eq!(pair.tunnels[0].retry(&mut [0; CONTROL], now), None, "not again for a second");
    assert_eq!(pair.identities[1].prove(here, &second, &mut [0; CONTROL]), Ok(()));
    assert!(pair.identities[1].prove(there, &second, &mut [0; CONTROL]).is_err(), "for another address");
    let (outcome, response) = pair.answer(1, &second).unwrap();
    assert_eq!(outcome, Outcome::Response(response.len()));
    assert!(matches!(pair.answer(0, &response), Ok((Outcome::Session(_), _))));
}

#[test]
fn unanswered_initiations_are_given_up_before_boringtun_gives_up() {
    let mut pair = Pair::new();
    pair.initiation();
    let mut message = [0; CONTROL];
    assert_eq!(pair.tunnels[0].initiate(&mut message, pair.now), None, "one is under way");
    let later = pair.now + GIVE_UP - Duration::from_secs(1);
    assert_eq!(pair.tunnels[0].tick(&mut message, later), Ok(None));
    assert_eq!(pair.tunnels[0].tick(&mut message, pair.now + GIVE_UP), Err(Dead));
}

#[test]
fn the_clock_is_the_real_one() {
    // `tests/` enables boringtun's mock clock, which stands still by itself and must never get in here.
    let pair = Pair::connected();
    let age = pair.tunnels[0].session_age();
    assert!((0..1_000_000).any(|_| pair.tunnels[0].session_age() > age));
}
