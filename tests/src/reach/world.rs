//! Two runners, their places, the relays, the coordinator that tells each of the other, and the transfers.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

use mesh_engine::{Engine, Hop};
use mesh_proto::RelayId;
use mock_instant::MockClock;

use super::{Bug, places::Places};
use crate::{
    Failure,
    nat::Ends,
    pair::Told,
    relay::{Answer, Client, Numbered, Relay, Request},
    rng::Rng,
    stream::Stream,
};

/// The MTU of the mesh.
pub(super) const MTU: u16 = 1344;

/// From a runner by the coordinator to the other one.
const TOLD: Duration = Duration::from_millis(40);

pub(super) struct Runner {
    pub(super) engine: Engine,
    /// Of each relay.
    pub(super) clients: Vec<Client>,
    /// Whether it is connected to relays by TCP.
    pub(super) tcp: bool,
    /// The relays that its engine knows of, and the latest address at each relay.
    pub(super) relays: Vec<RelayId>,
    pub(super) relayed: BTreeMap<RelayId, SocketAddr>,
    /// What its agent knows of where it is, what it has told, and what it was told of the other one.
    pub(super) told: Told,
    pub(super) published: Told,
    pub(super) other: Told,
}

/// What carries data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Carrier {
    Direct(SocketAddr),
    Relay(u64),
}

impl Carrier {
    pub(super) const fn is_direct(self) -> bool {
        matches!(self, Self::Direct(_))
    }
}

#[derive(Debug)]
pub(super) enum What {
    Tunnel(Vec<u8>),
    Request(usize, Numbered<Request>),
    Answer(usize, Numbered<Answer>),
}

pub(super) enum OnItsWay {
    /// A datagram has crossed the Internet.
    Internet(Ends, What),
    /// A datagram has arrived at a runner without crossing it.
    Here(usize, Ends, What),
    ToRelay {
        relay: usize,
        client: usize,
        connection: u32,
        request: Numbered<Request>,
    },
    ToClient {
        relay: usize,
        client: usize,
        connection: u32,
        answer: Numbered<Answer>,
    },
    Told {
        by: usize,
        told: Told,
    },
}

/// What was seen on the wire.
#[derive(Default)]
pub(super) struct Seen {
    /// Each initiation that was made. (Copies of one are equal.)
    pub(super) initiations: BTreeSet<Vec<u8>>,
    /// What carried the latest data of each runner.
    pub(super) carriers: [Option<Carrier>; 2],
    /// When a runner changed from one carrier to another.
    pub(super) changes: Vec<(Duration, usize, Carrier)>,
    /// When a runner sent something directly.
    pub(super) knocks: Vec<(Duration, usize)>,
    pub(super) lost: u32,
    /// What the agent of 0.1 was sent that it doesn't know.
    pub(super) unknown: Option<Hop>,
}

pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) bug: Option<Bug>,
    /// Whether each of them is at two relays of its own.
    pub(super) apart: bool,
    /// The runner with an agent of 0.1, if there is one.
    pub(super) old: Option<usize>,
    pub(super) start: Instant,
    pub(super) now: Duration,
    pub(super) places: Places,
    pub(super) relays: Vec<Relay>,
    pub(super) runners: Vec<Runner>,
    pub(super) streams: Vec<Stream>,
    pub(super) queue: BTreeMap<(Duration, u64), OnItsWay>,
    pub(super) sequence: u64,
    /// When the latest datagram from one address to another arrives.
    pub(super) latest: BTreeMap<(SocketAddr, SocketAddr), Duration>,
    /// How often programs write, and how much, if they do.
    pub(super) writes: Option<(Duration, u32)>,
    pub(super) next_write: Duration,
    /// How long a transfer may stand still.
    pub(super) patience: Duration,
    /// How much later datagrams may arrive, in thousandths of their delay.
    pub(super) jitter: u64,
    /// How many in a hundred datagrams of each runner get lost on the direct path, and how long they may be there.
    pub(super) loss: [u64; 2],
    pub(super) longest: usize,
    /// The coordinator can't be reached.
    pub(super) away: bool,
    pub(super) seen: Seen,
    pub(super) trace: Vec<String>,
}

impl World {
    // === Time ===

    pub(super) fn instant(&self) -> Instant {
        self.start + self.now
    }

    pub(super) fn run(&mut self, time: Duration) -> Result<(), Failure> {
        let end = self.now + time;
        while self.step(end)? {}
        Ok(())
    }

    /// Runs until something is so, for at most some time. Returns how long that took.
    pub(super) fn until(
        &mut self,
        limit: Duration,
        what: &str,
        is_so: impl Fn(&Self) -> bool,
    ) -> Result<Duration, Failure> {
        let (begun, end) = (self.now, self.now + limit);
        while !is_so(self) {
            if !self.step(end)? {
                return Err(self.failure(&format!("{what}: not within {limit:?}")));
            }
        }
        Ok(self.now - begun)
    }

    /// Does the next thing that is due. Returns false if there is none before the end.
    fn step(&mut self, end: Duration) -> Result<bool, Failure> {
        let timer = |runner: &Runner| {
            Some(runner.engine.next_timeout()?.0.saturating_duration_since(self.start)).filter(|at| *at <= end)
        };
        let timers: Vec<Option<Duration>> = self.runners.iter().map(timer).collect();
        let arrival = self.queue.keys().next().map(|(at, _)| *at);
        let streams = self.streams.iter().filter_map(Stream::due).min();
        let write = self.writes.map(|_| self.next_write);
        let clients = self.runners.iter().flat_map(|runner| &runner.clients).map(Client::due).min();
        let all = timers.iter().copied().chain([arrival, streams, write, clients]).flatten().min();
        let next = all.map(|at| at.max(self.now)).filter(|at| *at <= end);
        let to = next.unwrap_or(end);
        MockClock::advance(to - self.now);
        self.now = to;
        let Some(next) = next else { return Ok(false) };
        let is_due = |at: Option<Duration>| at.is_some_and(|at| at <= next);
        if is_due(arrival) {
            self.arrive()?;
        } else if let Some(runner) = timers.iter().position(|at| is_due(*at)) {
            let now = self.instant();
            self.engine(runner, |engine, said| engine.handle_timeout(now, said))?;
        } else if is_due(clients) {
            self.clients_time_out()?;
        } else if is_due(streams) {
            self.retransmit()?;
        } else if is_due(write) {
            self.write()?;
        }
        self.check_progress()?;
        Ok(true)
    }

    fn clients_time_out(&mut self) -> Result<(), Failure> {
        for runner in 0..self.runners.len() {
            let now = self.now;
            let clients = self.runners[runner].clients.iter_mut();
            let changed = clients.map(|client| client.time_out(now).is_some()).fold(false, |a, b| a | b);
            self.flush_clients(runner);
            if changed {
                self.allocations_changed(runner)?;
            }
        }
        Ok(())
    }

    /// *Liveness*.
    fn check_progress(&mut self) -> Result<(), Failure> {
        let waits = self.streams.iter().filter_map(Stream::waiting).map(|since| self.now.saturating_sub(since));
        match waits.max().filter(|waits| *waits > self.patience) {
            Some(waits) => Err(self.failure(&format!("a transfer stands still for {waits:?}"))),
            None => Ok(()),
        }
    }

    pub(super) fn at(&mut self, when: Duration, event: OnItsWay) {
        self.sequence += 1;
        self.queue.insert((when, self.sequence), event);
    }

    /// Puts something on its way.
    pub(super) fn after(&mut self, delay: Duration, event: OnItsWay) {
        let most = delay.as_micros() as u64 * self.jitter / 1000;
        let late = Duration::from_micros(if most > 0 { self.rng.below(most) } else { 0 });
        let mut when = self.now + delay + late;
        if let OnItsWay::Internet(ends, _) = &event {
            // What goes the same way keeps its order.
            let last = self.latest.entry((ends.from, ends.to)).or_default();
            when = when.max(*last);
            *last = when;
        }
        self.at(when, event);
    }

    // === The coordinator ===

    /// A runner tells where it is, if that is news and the coordinator is there.
    pub(super) fn publish(&mut self, runner: usize) {
        let told = self.runners[runner].told.clone();
        if !self.away && self.runners[runner].published != told {
            self.runners[runner].published = told.clone();
            self.at(self.now + TOLD, OnItsWay::Told { by: runner, told });
        }
    }

    // === Times that things take ===

    /// The longest round trip from one runner to the other by a relay.
    pub(super) fn by_relay(&self) -> Duration {
        let relay = self.places.relays.iter().map(|relay| relay.1).max().unwrap_or_default();
        2 * (self.places.delay(0) + self.places.delay(1) + 2 * relay)
    }

    /// The round trip from one to the other.
    pub(super) fn directly(&self) -> Duration {
        2 * (self.places.delay(0) + self.places.delay(1))
    }

    /// Whether a runner's engine would send data by a relay, and by which.
    pub(super) fn relay_of(&self, runner: usize) -> Option<u64> {
        let report = self.runners[runner].engine.report(self.start + self.now);
        match report.peers.iter().find_map(|peer| peer.path.as_ref())?.hop {
            Hop::Relayed { relay, .. } => Some(relay.0),
            Hop::Direct(_) => None,
        }
    }

    pub(super) fn note(&mut self, what: &str) {
        self.trace.push(format!("{:>10.4}s {what}", self.now.as_secs_f64()));
    }

    pub(super) fn failure(&mut self, what: &str) -> Failure {
        for number in 0..self.runners.len() {
            let report = self.runners[number].engine.report(self.start + self.now);
            let drops: Vec<_> =
                report.drops.iter().filter(|(_, n)| *n > 0).map(|(r, n)| format!("{n} {}", r.name())).collect();
            let words = format!("{number}: {:?}, dropped {}", report.peers, drops.join(", "));
            self.note(&words);
        }
        Failure { what: what.to_owned(), trace: std::mem::take(&mut self.trace) }
    }
}
