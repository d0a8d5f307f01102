//! A runner with several relays, which answer or don't.

use mesh_proto::{RelayId, relay::Relayed};

use super::*;
use crate::{Config, Inflow, Relays, To, Wish};

const MS: Duration = Duration::from_millis(1);

/// Relays at different distances: the address of each is its own.
pub(super) struct Relaying {
    pub(super) worlds: Vec<(SocketAddr, Duration, World)>,
    pub(super) client: Relays,
    pub(super) now: Instant,
    way: Vec<OnItsWay>,
    /// Whether connections can be made, those that stand, and when each was asked for.
    pub(super) connects: bool,
    pub(super) open: Vec<RelayId>,
    pub(super) asked: Vec<Duration>,
    start: Instant,
}

/// A datagram on its way to or from a relay.
struct OnItsWay {
    at: Instant,
    relay: usize,
    forth: bool,
    stream: bool,
    bytes: Vec<u8>,
}

pub(super) fn address(n: usize) -> SocketAddr {
    ([203, 0, 113, 10 + n as u8], 3478).into()
}

impl Relaying {
    pub(super) fn new(distances: &[u32]) -> Self {
        let worlds: Vec<_> = distances.iter().enumerate().map(|(n, ms)| (address(n), MS * *ms, World::new())).collect();
        let now = worlds[0].2.now;
        let mut client = Relays::new(1, now);
        client.set((0..distances.len()).map(|n| config(n, vec![address(n)])).collect(), now);
        let (connects, open, asked) = (true, vec![], vec![]);
        Self { worlds, client, now, way: vec![], connects, open, asked, start: now }
    }

    /// Does what is wished for of connections.
    fn connect(&mut self) {
        while let Some((relay, wish)) = self.client.poll_wish() {
            self.open.retain(|open| *open != relay);
            if wish == Wish::Connect {
                self.asked.push(self.now - self.start);
                match self.connects {
                    true if self.client.handle_connected(relay, self.now) => self.open.push(relay),
                    _ => self.client.handle_disconnected(relay, self.now),
                }
            }
        }
    }

    /// Lets time pass.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.connect();
            while let Some((to, bytes)) = self.client.poll_transmit() {
                if let Some(n) = self.worlds.iter().position(|(at, ..)| To::Address(*at) == to) {
                    let at = self.now + self.worlds[n].1 / 2;
                    self.way.push(OnItsWay { at, relay: n, forth: true, stream: false, bytes });
                } else if let To::Stream(relay) = to {
                    let n = relay.0 as usize;
                    let at = self.now + self.worlds[n].1 / 2;
                    self.way.push(OnItsWay { at, relay: n, forth: true, stream: true, bytes });
                }
            }
            let arrival = self.way.iter().map(|way| way.at).min();
            let next = [arrival, self.client.next_timeout()].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = next.max(self.now);
            if let Some(i) = self.way.iter().position(|way| way.at <= self.now) {
                let OnItsWay { relay, forth, stream, bytes, .. } = self.way.swap_remove(i);
                if forth {
                    self.ask(relay, stream, bytes);
                } else if stream {
                    // In pieces, as streams come.
                    let mut inflow = Inflow::default();
                    for piece in bytes.chunks(7) {
                        inflow.push(piece);
                        let next = self.client.next_of_stream(RelayId(relay as u64), &mut inflow, self.now);
                        assert_eq!(next, Ok(None));
                    }
                    self.client.settle(self.now);
                } else {
                    self.client.unwrap(RelayId(relay as u64), &bytes, bytes.len(), &mut 0, self.now);
                }
            } else {
                self.client.handle_timeout(self.now);
            }
        }
        self.now = end;
    }

    fn ask(&mut self, n: usize, stream: bool, request: Vec<u8>) {
        let (_, distance, world) = &mut self.worlds[n];
        world.now = self.now;
        world.arrive(if stream { by_stream(self.asked.len()) } else { runner(1) }, relay(), request);
        let at = self.now + *distance / 2;
        let back = world.out.drain(..).map(|(_, bytes)| OnItsWay { at, relay: n, forth: false, stream, bytes });
        self.way.extend(back);
    }

    pub(super) fn at(&self) -> Vec<u64> {
        let mut at: Vec<u64> = self.client.relayed().map(|Relayed { relay, .. }| relay.0).collect();
        at.sort_unstable();
        at
    }
}

pub(super) fn config(n: usize, addresses: Vec<SocketAddr>) -> Config {
    Config { id: RelayId(n as u64), addresses, streams: false, login: login("1"), earlier: None }
}

#[test]
fn a_runner_is_at_the_two_nearest() {
    let mut relaying = Relaying::new(&[40, 10, 80, 20]);
    relaying.pass(Duration::from_secs(1));
    assert_eq!(relaying.at(), [1, 3]);
    assert!(relaying.client.take_changed());
    assert_eq!(relaying.client.reports().filter(|report| report.reflexive == Some(runner(1))).count(), 4);
}

#[test]
fn a_home_that_dies_is_replaced_and_taken_back_only_for_good_reason() {
    let mut relaying = Relaying::new(&[40, 10, 20]);
    relaying.pass(Duration::from_secs(1));
    relaying.worlds[1].2.cut = true;
    relaying.pass(Duration::from_secs(400));
    assert_eq!(relaying.at(), [0, 2]);
    relaying.worlds[1].2.cut = false;
    relaying.pass(Duration::from_secs(1000));
    assert_eq!(relaying.at(), [1, 2]);
}

#[test]
fn a_relay_that_a_peer_needs_is_visited() {
    let mut relaying = Relaying::new(&[40, 10, 20]);
    relaying.pass(Duration::from_secs(1));
    relaying.client.need(RelayId(0), relaying.now);
    relaying.client.need(RelayId(99), relaying.now);
    relaying.pass(Duration::from_secs(1));
    assert_eq!(relaying.at(), [0, 1, 2]);
    relaying.pass(Duration::from_secs(300));
    assert_eq!(relaying.at(), [1, 2]);
}

/// A peer's relays may not be ours to reach, all but one of them.
#[test]
fn of_the_relays_that_a_peer_needs_those_that_answer_are_visited() {
    let mut relaying = Relaying::new(&[10, 20, 30, 40, 50]);
    relaying.pass(Duration::from_secs(1));
    (2..4).for_each(|relay| relaying.worlds[relay].2.cut = true);
    let need = |relaying: &mut Relaying| (2..5).for_each(|relay| relaying.client.need(RelayId(relay), relaying.now));
    need(&mut relaying);
    relaying.pass(Duration::from_secs(5));
    assert_eq!(relaying.at(), [0, 1]);
    need(&mut relaying);
    relaying.pass(Duration::from_secs(1));
    assert_eq!(relaying.at(), [0, 1, 4]);
}

#[test]
fn another_address_of_a_relay_is_tried_when_one_is_silent() {
    let mut relaying = Relaying::new(&[10]);
    relaying.client = Relays::new(2, relaying.now);
    let dead = ([192, 0, 2, 1], 3478).into();
    relaying.client.set(vec![config(0, vec![dead, address(0)])], relaying.now);
    relaying.pass(Duration::from_secs(5));
    assert_eq!(relaying.at(), [0]);
    assert_eq!(relaying.client.at(address(0)), Some(RelayId(0)));
    assert_eq!(relaying.client.at(dead), None);
}

#[test]
fn a_relay_that_is_removed_is_left_with_a_last_word() {
    let mut relaying = Relaying::new(&[10, 20]);
    relaying.pass(Duration::from_secs(1));
    relaying.client.set(vec![config(1, vec![address(1)])], relaying.now);
    let (to, _) = relaying.client.poll_transmit().expect("a Refresh with lifetime 0");
    assert_eq!((to, relaying.at()), (To::Address(address(0)), vec![1]));
    let mut batch = [0; 20];
    assert_eq!(relaying.client.wrap(RelayId(0), runner(2), &mut batch, 20, relaying.now), None);
    assert_eq!(relaying.client.take_dropped().unsent, 1);
}
