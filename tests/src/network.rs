//! The datagrams and messages on their way, and when they arrive.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use mesh_proto::{InstanceId, RunnerId};

use crate::{control::Message, host::End, rng::Rng};

pub(crate) enum Event {
    Datagram { from: SocketAddr, to: SocketAddr, bytes: Vec<u8> },
    Control { runner: RunnerId, stream: u64, message: Message },
    Retransmit { instance: InstanceId, ends: (End, End) },
}

pub(crate) struct Network {
    queue: BTreeMap<(Duration, u64), Event>,
    sequence: u64,
    /// Whether datagrams are lost, repeated and reordered.
    pub(crate) rough: bool,
    /// Pairs of runners' current addresses that are cut off from each other, the lesser address first.
    pub(crate) cut: BTreeSet<(SocketAddr, SocketAddr)>,
}

impl Network {
    pub(crate) const fn new() -> Self {
        Self { queue: BTreeMap::new(), sequence: 0, rough: true, cut: BTreeSet::new() }
    }

    pub(crate) fn next(&self) -> Option<Duration> {
        self.queue.keys().next().map(|(at, _)| *at)
    }

    pub(crate) fn pop(&mut self) -> Option<Event> {
        self.queue.pop_first().map(|(_, event)| event)
    }

    pub(crate) fn at(&mut self, when: Duration, event: Event) {
        self.sequence += 1;
        self.queue.insert((when, self.sequence), event);
    }

    pub(crate) fn datagram(&mut self, now: Duration, rng: &mut Rng, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        if self.cut.contains(&(from.min(to), from.max(to))) || (self.rough && rng.chance(5)) {
            return;
        }
        let copies = if self.rough && rng.chance(3) { 2 } else { 1 };
        for _ in 0..copies {
            let delay = if self.rough { rng.below(40_000) } else { 500 };
            let event = Event::Datagram { from, to, bytes: bytes.to_vec() };
            self.at(now + Duration::from_micros(delay), event);
        }
    }
}
