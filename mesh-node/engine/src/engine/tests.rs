//! Engines that talk over a wire in memory.

mod flood;
mod flows;
mod handshakes;
mod hostile;
mod lanes;
mod paths;
mod reach;
mod refusals;
mod silence;
mod traffic;
mod waiting;

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use mesh_proto::{InstanceId, Ports};

use crate::{
    Engine, HEADROOM, Hop, Port, Reason, VNET,
    packet::Flags,
    testing::{Builder, Recorder, Segment, address, complete, endpoint, key, tcp},
};

/// Services: 1 (caller) of deployment 1; 2 (callee) of deployment 2, which deployment 1 may call on port 5432; 3 of
/// deployment 1; 4 of deployment 3, which has no trust; 5 of deployment 1, without instances. Instances: 10 of service 1
/// and 30 of service 3 on runner 1, 20 of service 2 and 40 of service 4 on runner 2. Each has the address and the port of
/// its number.
fn view(runner: u64) -> Builder {
    unrelated(runner).grant(1, 2, Ports::Only([5432].into()))
}

/// [`view`] without the trust.
fn unrelated(runner: u64) -> Builder {
    others(runner).instance(10, 1, 1)
}

/// [`view`] without the trust and without instance 10.
fn others(runner: u64) -> Builder {
    let builder = Builder::new(runner).runner(1).runner(2);
    let builder = builder.deployment(1, "acme").deployment(2, "acme").deployment(3, "acme");
    let builder = builder.service(1, 1).service(2, 2).service(3, 1).service(4, 3).service(5, 1);
    builder.instance(30, 3, 1).instance(20, 2, 2).instance(40, 4, 2)
}

/// Engines, their TUNs, and the datagrams between them.
struct World {
    engines: Vec<Engine>,
    sinks: Vec<Recorder>,
    wire: VecDeque<Datagrams>,
    /// The address that each engine sends from.
    from: Vec<SocketAddr>,
    now: Instant,
    /// The longest datagram that the wire carries.
    longest: usize,
    /// What doesn't arrive.
    lost: fn(&Datagrams) -> bool,
}

struct Datagrams {
    from: Hop,
    to: Hop,
    batch: Vec<u8>,
    stride: usize,
}

/// The relayed address of a runner.
fn relayed(relay: u64, runner: u64) -> SocketAddr {
    ([198, 51, 100, relay as u8], 50_000 + runner as u16).into()
}

impl World {
    /// Runners 1 and 2 with [`view`] and attached instances.
    fn new() -> Self {
        let mut world = Self::of(&[view(1), view(2)]);
        for (runner, instance) in [(1, 10), (1, 30), (2, 20), (2, 40)] {
            world.attach(runner, instance);
        }
        world
    }

    fn of(views: &[Builder]) -> Self {
        let now = Instant::now();
        let mut world = Self {
            engines: vec![],
            sinks: vec![],
            wire: VecDeque::new(),
            from: vec![],
            now,
            longest: usize::MAX,
            lost: |_| false,
        };
        for (runner, view) in (1..).zip(views) {
            world.engines.push(Engine::new(key(runner), [runner as u8; 32], Box::new(vec![0; PINS]), now));
            world.sinks.push(Recorder::default());
            world.from.push(endpoint(runner));
            world.map(runner, view);
        }
        world
    }

    fn attach(&mut self, runner: u64, instance: u32) {
        self.engine(runner).handle_attach(Port(instance), InstanceId(instance.into()));
    }

    fn detach(&mut self, runner: u64, instance: u32) {
        self.with(runner, |engine, sink, now| engine.handle_detach(Port(instance), now, sink));
    }

    fn engine(&mut self, runner: u64) -> &mut Engine {
        &mut self.engines[runner as usize - 1]
    }

    fn with<R>(&mut self, runner: u64, act: impl FnOnce(&mut Engine, &mut Recorder, Instant) -> R) -> R {
        let i = runner as usize - 1;
        let result = act(&mut self.engines[i], &mut self.sinks[i], self.now);
        self.engines[i].flush(&mut self.sinks[i]);
        for (to, batch, stride) in self.sinks[i].sent.drain(..) {
            self.wire.push_back(Datagrams { from: self.from[i].into(), to: to.into(), batch, stride });
        }
        for sent in self.sinks[i].relayed.drain(..) {
            let (from, to) = (relayed(sent.relay.0, runner), Hop::Relayed { relay: sent.relay, peer: sent.peer });
            let from = Hop::Relayed { relay: sent.relay, peer: from };
            self.wire.push_back(Datagrams { from, to, batch: sent.batch, stride: sent.stride });
        }
        result
    }

    fn map(&mut self, runner: u64, view: &Builder) {
        self.with(runner, |engine, sink, now| engine.handle_map(view.map(), now, sink));
    }

    /// A runner reads these bytes from a TUN.
    fn read(&mut self, runner: u64, port: u32, bytes: &[u8]) {
        self.with(runner, |engine, sink, now| engine.handle_tun(Port(port), &mut bytes.to_vec(), now, sink));
    }

    /// An instance on runner 1 sends a packet. Returns when the wire is empty.
    fn send(&mut self, port: u32, packet: &[u8]) {
        self.read(1, port, &complete(packet));
        self.carry();
    }

    /// A runner receives these datagrams.
    fn receive(&mut self, runner: u64, from: impl Into<Hop>, bytes: &[u8], stride: usize) {
        let from = from.into();
        let skip = if from.is_relayed() { HEADROOM } else { 0 };
        let received = crate::Datagrams { from, local: None, bytes, stride, skip };
        self.with(runner, |engine, sink, now| engine.handle_udp(&received, now, sink));
    }

    /// Delivers the datagrams on the wire, and the answers to them.
    fn carry(&mut self) {
        while let Some(datagrams) = self.wire.pop_front() {
            if (self.lost)(&datagrams) {
                continue;
            }
            let Datagrams { from, to, batch, stride } = datagrams;
            let runner = match to {
                Hop::Direct(to) => self.from.iter().position(|at| *at == to),
                Hop::Relayed { relay, peer } => (0..self.from.len()).find(|i| relayed(relay.0, *i as u64 + 1) == peer),
            };
            let Some(runner) = runner else { continue };
            // All but the last have the same length.
            let carried = if stride > self.longest { &batch[batch.len() - batch.len() % stride..] } else { &batch[..] };
            if !carried.is_empty() {
                self.receive(runner as u64 + 1, from, carried, stride);
            }
        }
    }

    /// Lets time pass, in steps of at most a quarter of a second, and delivers datagrams.
    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = end.min(self.now + Duration::from_millis(250));
            for runner in 1..=self.engines.len() as u64 {
                self.with(runner, |engine, sink, now| engine.handle_timeout(now, sink));
            }
            self.carry();
        }
    }

    /// The complete packets that were delivered to a TUN since the last call, without their `virtio_net_hdr`.
    fn delivered(&mut self, port: u32) -> Vec<Vec<u8>> {
        let mut delivered = vec![];
        for sink in &mut self.sinks {
            let (these, others) = sink.delivered.drain(..).partition(|(to, _)| *to == Port(port));
            sink.delivered = others;
            delivered.extend(Vec::into_iter(these).map(|(_, bytes)| {
                assert_eq!(bytes[..VNET], [0; VNET], "complete");
                bytes[VNET..].to_vec()
            }));
        }
        delivered
    }

    /// The payload that was delivered to a TUN since the last call.
    fn delivered_bytes(&mut self, port: u32) -> Vec<u8> {
        let all = self.sinks.iter_mut().flat_map(|sink| sink.delivered.drain(..)).filter(|(to, _)| *to == Port(port));
        all.flat_map(|(_, bytes)| bytes[VNET + 40..].to_vec()).collect()
    }

    fn dropped(&mut self, runner: u64, reason: Reason) -> u64 {
        self.engine(runner).dropped(reason)
    }

    /// The sum of all counters.
    fn drops(&mut self, runner: u64) -> u64 {
        let now = self.now;
        self.engine(runner).report(now).drops.iter().map(|(_, count)| count).sum()
    }

    /// Whether no datagram is on the wire and no packet was delivered.
    fn is_quiet(&self) -> bool {
        self.wire.is_empty() && self.sinks.iter().all(|sink| sink.delivered.is_empty())
    }
}

/// A segment from the caller, instance 10, to service 2.
fn call() -> Segment {
    tcp().between(address(10), address(2))
}

/// A segment back, from service 2 to instance 10.
fn reply() -> Segment {
    tcp().between(address(2), address(10)).ports(5432, 40000)
}

/// Room for some flows.
const PINS: usize = 256 << 10;

const SYN_ACK: u8 = Flags::SYN | Flags::ACK;
