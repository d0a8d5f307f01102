//! Time, and what happens next.

use std::time::{Duration, Instant};

use mesh_engine::Port;
use mock_instant::MockClock;

use super::{
    Bug, Tally,
    connection::{self, Connection},
    network::{Batch, Network},
    plan::Plan,
    runner::Runner,
};
use crate::{Failure, pair::endpoint, rng::Rng, stream::Read};

/// The first byte of a data message, and its least length (WireGuard, §5.4.6).
const DATA: u8 = 4;
const LEAST: usize = 32;

pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) bug: Option<Bug>,
    pub(super) start: Instant,
    pub(super) now: Duration,
    pub(super) plan: Plan,
    pub(super) runners: Vec<Runner>,
    pub(super) connections: Vec<Connection>,
    pub(super) network: Network,
    /// Whether segments have to arrive in order.
    pub(super) ordered: bool,
    /// Of a thousand batches so many come to another socket of the runner.
    pub(super) astray: u64,
    /// How many packets are handed over to a lane at most, and how fast threads are, in microseconds.
    pub(super) room: u64,
    pub(super) pace: u64,
    pub(super) revision: u64,
    pub(super) tally: Tally,
    trace: Vec<String>,
}

/// What happens next.
#[derive(Clone, Copy)]
enum Next {
    Arrival,
    Engine(usize),
    Lane(usize, usize),
    Timer(usize),
}

impl World {
    pub(super) fn new(seed: u64, bug: Option<Bug>) -> Self {
        let (mut rng, start) = (Rng::new(seed), Instant::now());
        let plan = Plan::new(&mut rng);
        let runners = (0..plan.lanes.len()).map(|runner| Runner::new(runner, &plan, &mut rng, start)).collect();
        let trace = vec![format!("lanes: {:?}", plan.lanes)];
        Self {
            network: Network::new(&mut rng),
            room: if rng.chance(50) { 32 } else { 1 + rng.below(32) },
            pace: 1 + rng.below(300),
            rng,
            bug,
            start,
            now: Duration::ZERO,
            plan,
            runners,
            connections: vec![],
            ordered: true,
            astray: 0,
            revision: 1,
            tally: Tally::default(),
            trace,
        }
    }

    pub(super) fn instant(&self) -> Instant {
        self.start + self.now
    }

    // === Time ===

    /// What happens next, and when.
    fn next(&self) -> Option<(Duration, Next)> {
        let arrival = self.network.next().map(|at| (at, Next::Arrival));
        let engines =
            self.runners.iter().enumerate().filter_map(|(r, runner)| {
                Some(([runner.turn, runner.due].into_iter().flatten().min()?, Next::Engine(r)))
            });
        let lanes = self.runners.iter().enumerate().flat_map(|(r, runner)| {
            let lanes = runner.lanes.iter().enumerate();
            lanes.filter_map(move |(lane, station)| Some((station.next()?, Next::Lane(r, lane))))
        });
        let timers = self.connections.iter().enumerate().filter_map(|(i, one)| Some((one.due()?, Next::Timer(i))));
        arrival.into_iter().chain(engines).chain(lanes).chain(timers).min_by_key(|(at, _)| *at)
    }

    pub(super) fn run(&mut self, time: Duration) -> Result<(), Failure> {
        let end = self.now + time;
        while let Some((at, next)) = self.next().filter(|(at, _)| *at <= end) {
            let at = at.max(self.now);
            MockClock::advance(at - self.now);
            self.now = at;
            match next {
                Next::Arrival => self.arrive(),
                Next::Engine(r) => self.engine_turn(r)?,
                Next::Lane(r, lane) => self.lane_turn(r, lane)?,
                Next::Timer(i) => {
                    let packets = self.connections[i].time_out(at, &mut self.rng);
                    for (from, packets) in packets.into_iter().enumerate() {
                        self.put(i, from, packets);
                    }
                }
            }
        }
        MockClock::advance(end - self.now);
        self.now = end;
        Ok(())
    }

    /// The thread of an engine has something to do, and comes to it.
    pub(super) fn wake_engine(&mut self, r: usize) {
        let after = Duration::from_micros(1 + self.rng.below(self.pace));
        self.runners[r].turn.get_or_insert(self.now + after);
    }

    pub(super) fn wake_lane(&mut self, r: usize, lane: usize) {
        let after = Duration::from_micros(1 + self.rng.below(2 * self.pace));
        self.runners[r].lanes[lane].turn.get_or_insert(self.now + after);
    }

    // === Datagrams ===

    pub(super) fn send(&mut self, from: usize, lane: usize, to: std::net::SocketAddr, bytes: Vec<u8>, stride: usize) {
        if let Some(to) = (0..self.runners.len()).find(|runner| endpoint(*runner) == to) {
            self.network.send(self.now, lane, Batch { from, to, bytes, stride }, &mut self.rng);
        }
    }

    /// Datagrams come to the socket that the kernel chooses by the first one.
    fn arrive(&mut self) {
        let Some(batch) = self.network.pop() else { return };
        let is_data = batch.bytes[0] == DATA && batch.stride.min(batch.bytes.len()) >= LEAST;
        let lane = if is_data { usize::from(batch.bytes[5] & 7) } else { 0 };
        let (r, lanes) = (batch.to, self.plan.lanes[batch.to]);
        let strays = self.rng.below(1000) < self.astray;
        let lane = if strays { self.rng.below(lanes as u64) as usize } else { lane };
        if lane == 0 || lane >= lanes {
            self.runners[r].inbox.push_back(batch);
            self.wake_engine(r);
        } else {
            self.runners[r].lanes[lane - 1].inbox.push_back(batch);
            self.wake_lane(r, lane - 1);
        }
    }

    // === Packets ===

    /// A kernel puts packets of an end of a connection in the TUN of its instance.
    pub(super) fn put(&mut self, connection: usize, from: usize, packets: Vec<Vec<u8>>) {
        if packets.is_empty() {
            return;
        }
        let seat = self.connections[connection].seats[from];
        let r = self.plan.seats[seat].runner;
        self.runners[r].tuns.entry(Plan::port(seat)).or_default().extend(packets);
        self.wake_engine(r);
    }

    /// An engine delivers a packet.
    pub(super) fn deliver(&mut self, r: usize, port: Port, packet: &[u8]) -> Result<(), Failure> {
        let Some(read) = Read::parse(packet) else { return Ok(()) };
        let Some((number, from)) = connection::of(&read) else { return Ok(()) };
        let Some(one) = self.connections.get_mut(number) else { return Ok(()) };
        let to = one.seats[1 - from];
        if self.plan.seats[to].runner != r || Plan::port(to) != port {
            return Err(self.failure(&format!("connection {number}: a packet comes to {port:?} of {r}")));
        }
        if !read.payload.is_empty() && one.is_barred(self.runners[r].revision) {
            let what = format!("connection {number}: delivered after the revocation was applied at the receiver");
            return Err(self.failure(&what));
        }
        let taken = one.take(from, &read, self.now, &mut self.rng).map_err(|what| self.failure(&what))?;
        self.tally.bytes += u64::from(taken.accepted);
        self.tally.disordered += u64::from(taken.disordered);
        if taken.disordered && self.ordered && self.connections[number].revoked.is_none() {
            return Err(self.failure(&format!("connection {number}: a segment arrives out of order at {r}")));
        }
        self.put(number, 1 - from, taken.answers);
        Ok(())
    }

    pub(super) fn note(&mut self, what: &str) {
        self.trace.push(format!("{:>10.4}s {what}", self.now.as_secs_f64()));
    }

    pub(super) fn failure(&mut self, what: &str) -> Failure {
        self.note("here");
        Failure { what: what.to_owned(), trace: std::mem::take(&mut self.trace) }
    }
}
