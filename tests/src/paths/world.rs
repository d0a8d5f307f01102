//! Two runners, the link between them, and the transfers.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    ops::Range as Span,
    time::{Duration, Instant},
};

use mesh_engine::{Datagrams, Engine, Event, Port, Sink};
use mesh_proto::{Abilities, InstanceId};
use mock_instant::MockClock;

use super::Bug;
use crate::{
    Failure,
    pair::{Told, address, endpoint, key, map},
    rng::Rng,
    stream::{Read, Stream},
};

/// MTUs of links.
const LINKS: [usize; 6] = [9000, 1500, 1400, 1280, 1124, 700];

/// IPv4 and UDP.
const OUTER: usize = 28;

/// How much a program writes at a time, and how often.
const CHUNK: u32 = 20_000;
const EVERY: Duration = Duration::from_millis(50);

/// How long a transfer may take to end once nothing changes any more.
const PATIENCE: Duration = Duration::from_secs(300);

pub(super) struct World {
    rng: Rng,
    bug: Option<Bug>,
    start: Instant,
    now: Duration,
    engines: [Engine; 2],
    streams: Vec<Stream>,
    /// The link's MTU towards each runner, and since when.
    mtus: [usize; 2],
    changed: Duration,
    rtt: Duration,
    /// Thousandths of the datagrams that are lost whatever their length.
    loss: u64,
    queue: BTreeMap<(Duration, u64), (usize, Vec<u8>)>,
    sequence: u64,
    next_write: Option<Duration>,
    too_long: u32,
    trace: Vec<String>,
}

/// The effects of an engine.
#[derive(Default)]
struct Said {
    /// Datagrams, and whether they must stay whole.
    datagrams: Vec<(Vec<u8>, bool)>,
    packets: Vec<Vec<u8>>,
}

impl Sink for Said {
    fn send(&mut self, _: SocketAddr, batch: &[u8], stride: usize) {
        self.datagrams.extend(batch.chunks(stride).map(|datagram| (datagram.to_vec(), false)));
    }

    fn send_whole(&mut self, _: Option<IpAddr>, _: SocketAddr, datagram: &[u8]) {
        self.datagrams.push((datagram.to_vec(), true));
    }

    fn deliver(&mut self, _: Port, packet: &[u8]) {
        self.packets.push(packet.to_vec());
    }

    fn event(&mut self, _: Event) {}
}

impl World {
    pub(super) fn new(seed: u64, bug: Option<Bug>) -> Self {
        let (mut rng, start) = (Rng::new(seed), Instant::now());
        let mtu = if rng.chance(30) { 8920 } else { 1344 };
        let can = if bug == Some(Bug::Untold) { Abilities::NONE } else { Abilities::ALL };
        let rtt = Duration::from_millis(2 * (1 + rng.below(75)));
        let loss = if rng.chance(25) { 10 + rng.below(20) } else { 0 };
        let told = [0, 1].map(|number| Told { can, ..Told::at(vec![endpoint(number)]) });
        let mut engine = |runner: usize| {
            let mut engine = Engine::new(key(runner), rng.bytes(), Box::new(vec![0; 1 << 16]), start);
            engine.handle_map(map(runner, mtu, &told), start, &mut Said::default());
            engine.handle_attach(Port(1), InstanceId(runner as u64));
            engine
        };
        let engines = [engine(0), engine(1)];
        // One way, or both ways.
        let both: &[usize] = if rng.chance(60) { &[0, 1] } else { &[0] };
        let stream = |from: &usize| {
            let ends = [(address(*from), 40_000 + *from as u16), (address(1 - *from), 80)];
            Stream::new(*from, ends, mtu, rtt)
        };
        let trace = vec![format!("mesh0 has an MTU of {mtu}, {rtt:?}, {loss}/1000 are lost, from {both:?}")];
        Self {
            streams: both.iter().map(stream).collect(),
            rng,
            bug,
            start,
            now: Duration::ZERO,
            engines,
            mtus: [1500; 2],
            changed: Duration::ZERO,
            rtt,
            loss,
            queue: BTreeMap::new(),
            sequence: 0,
            next_write: None,
            too_long: 0,
            trace,
        }
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.rng.chance(percent)
    }

    pub(super) fn some_time(&mut self, seconds: Span<u64>) -> Duration {
        Duration::from_millis(seconds.start * 1000 + self.rng.below((seconds.end - seconds.start) * 1000))
    }

    pub(super) fn too_long(&self) -> u32 {
        self.too_long
    }

    /// Opens the connections.
    pub(super) fn connect(&mut self) -> Result<(), Failure> {
        for i in 0..self.streams.len() {
            let (from, syn) = (self.streams[i].from, self.streams[i].start(self.now));
            self.read(from, syn)?;
        }
        self.run(Duration::from_secs(2))?;
        if self.streams.iter().all(|stream| stream.open) { Ok(()) } else { Err(self.failure("no connection")) }
    }

    /// The link changes, in one direction or in both.
    pub(super) fn change(&mut self) {
        let mtu = |rng: &mut Rng| rng.pick(&LINKS).copied().unwrap_or(1500);
        let to = mtu(&mut self.rng);
        match self.rng.below(3) {
            0 => self.mtus[0] = to,
            1 => self.mtus[1] = to,
            _ => self.mtus = [to; 2],
        }
        self.changed = self.now;
        let words = format!("the link carries {:?}", self.mtus);
        self.note(&words);
    }

    /// Programs write for some time.
    pub(super) fn transfer(&mut self, time: Duration) -> Result<(), Failure> {
        self.next_write = Some(self.now);
        self.run(time)?;
        self.next_write = None;
        Ok(())
    }

    /// Programs write nothing for some time.
    pub(super) fn pause(&mut self, time: Duration) -> Result<(), Failure> {
        self.run(time)?;
        // What the idle link does is found out with the next data.
        self.changed = self.now;
        Ok(())
    }

    /// Every transfer completes.
    pub(super) fn complete(&mut self) -> Result<(), Failure> {
        let end = self.now + PATIENCE;
        while !self.streams.iter().all(Stream::is_complete) {
            if self.now >= end {
                return Err(self.failure("a transfer doesn't complete"));
            }
            self.run(Duration::from_secs(1))?;
        }
        Ok(())
    }

    // === Time ===

    fn run(&mut self, time: Duration) -> Result<(), Failure> {
        let end = self.now + time;
        loop {
            let timers = self.engines.iter().map(|engine| engine.next_timeout());
            let timers = timers.map(|timer| Some(timer?.0.saturating_duration_since(self.start).max(self.now)));
            let timers: Vec<Option<Duration>> = timers.collect();
            let arrival = self.queue.keys().next().map(|(at, _)| *at);
            let dues: Vec<Option<Duration>> = self.streams.iter().map(Stream::due).collect();
            let all = timers.iter().chain(&dues).flatten().chain(&arrival).chain(&self.next_write);
            let Some(next) = all.min().copied().map(|at| at.max(self.now)).filter(|at| *at <= end) else { break };
            MockClock::advance(next - self.now);
            self.now = next;
            let is_due = |at: &Option<Duration>| at.is_some_and(|at| at <= next);
            if is_due(&arrival) {
                self.arrive()?;
            } else if let Some(runner) = timers.iter().position(is_due) {
                let now = self.start + self.now;
                self.engine(runner, |engine, said| engine.handle_timeout(now, said))?;
            } else if let Some(stream) = dues.iter().position(is_due) {
                let (from, packet) = (self.streams[stream].from, self.streams[stream].time_out(next));
                self.note("a segment is sent again");
                self.read(from, packet)?;
            } else if is_due(&self.next_write) {
                self.next_write = Some(next + EVERY);
                for stream in 0..self.streams.len() {
                    self.streams[stream].write(CHUNK);
                    self.send(stream)?;
                }
            }
            self.check_progress()?;
        }
        MockClock::advance(end - self.now);
        self.now = end;
        Ok(())
    }

    /// *Liveness*.
    fn check_progress(&mut self) -> Result<(), Failure> {
        let longest = Duration::from_millis(1500) + 2 * self.rtt;
        let waits = self.streams.iter().filter_map(Stream::waiting).map(|since| self.now.saturating_sub(since));
        match waits.max().filter(|waits| self.loss == 0 && *waits > longest) {
            Some(waits) => Err(self.failure(&format!("a transfer stands still for {waits:?}"))),
            None => Ok(()),
        }
    }

    fn arrive(&mut self) -> Result<(), Failure> {
        let Some((_, (to, bytes))) = self.queue.pop_first() else { return Ok(()) };
        let (now, stride) = (self.start + self.now, bytes.len());
        let received = Datagrams { from: endpoint(1 - to).into(), local: None, bytes: &bytes, stride, skip: 0 };
        self.engine(to, |engine, said| engine.handle_udp(&received, now, said))
    }

    // === Packets ===

    fn send(&mut self, stream: usize) -> Result<(), Failure> {
        let (from, packets) = (self.streams[stream].from, self.streams[stream].send(self.now));
        packets.into_iter().try_for_each(|packet| self.read(from, packet))
    }

    /// A runner reads a packet of its instance.
    fn read(&mut self, runner: usize, mut packet: Vec<u8>) -> Result<(), Failure> {
        let now = self.start + self.now;
        self.engine(runner, |engine, said| {
            engine.handle_tun(Port(1), &mut packet, now, said);
        })
    }

    /// Calls a runner's engine, and passes on its effects.
    fn engine(&mut self, runner: usize, action: impl FnOnce(&mut Engine, &mut Said)) -> Result<(), Failure> {
        let mut said = Said::default();
        action(&mut self.engines[runner], &mut said);
        self.engines[runner].flush(&mut said);
        for (datagram, whole) in said.datagrams {
            self.pass(1 - runner, datagram, whole)?;
        }
        for packet in said.packets {
            let Some(read) = Read::parse(&packet) else { continue };
            let Some(stream) = self.streams.iter().position(|stream| stream.is_for(runner, &read)) else { continue };
            let answer = self.streams[stream].take(runner, &read, self.now);
            if let Some(answer) = answer.map_err(|what| self.failure(&what))? {
                self.read(runner, answer)?;
            }
            if runner == self.streams[stream].from {
                self.send(stream)?;
            }
        }
        Ok(())
    }

    /// A datagram gets to the link.
    fn pass(&mut self, to: usize, datagram: Vec<u8>, whole: bool) -> Result<(), Failure> {
        let (longer, bug) = (datagram.len() + OUTER > self.mtus[to], self.bug);
        if whole {
            let words =
                format!("to {to}: a ping of {} bytes{}", datagram.len(), if longer { ", too long" } else { "" });
            self.note(&words);
        }
        if whole && bug == Some(Bug::PingsLost) {
            return Ok(());
        }
        if longer && !(whole && bug == Some(Bug::PingsFragmented)) {
            self.too_long += 1;
            let known = self.changed + Duration::from_secs(if self.loss > 0 { 12 } else { 2 }) + 2 * self.rtt;
            if !whole && self.now > known {
                let words = format!("{} bytes are longer than the link carries, {}", datagram.len(), self.mtus[to]);
                return Err(self.failure(&words));
            }
            return Ok(());
        }
        if self.loss == 0 || self.rng.below(1000) >= self.loss {
            self.sequence += 1;
            self.queue.insert((self.now + self.rtt / 2, self.sequence), (to, datagram));
        }
        Ok(())
    }

    fn note(&mut self, what: &str) {
        self.trace.push(format!("{:>10.4}s {what}", self.now.as_secs_f64()));
    }

    fn failure(&mut self, what: &str) -> Failure {
        Failure { what: what.to_owned(), trace: std::mem::take(&mut self.trace) }
    }
}
