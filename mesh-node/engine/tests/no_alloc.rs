//! Once a tunnel stands, packets cross without a single allocation.
#![allow(unsafe_code, reason = "a global allocator can't be written without")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use mesh_engine::{Engine, Event, Map, Port, Reason, Sink, VNET};
use mesh_proto::{
    DeploymentId, Epoch, InstanceId, PrivateKey, Range, Record, Revision, RunnerId, ServiceId, View,
    view::{Deployment, Instance, InstanceState, Network, Runner, Service},
};

/// Counts the allocations of the thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending has no counter any more, and nobody to read it.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: everything is left to the system's allocator, which keeps the promises; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are the same ones.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A wire with room for one turn, and what was delivered.
struct Wire {
    octets: Box<[u8]>,
    sends: Vec<(usize, usize)>,
    len: usize,
    delivered: u64,
    packets: u64,
}

impl Wire {
    fn new() -> Self {
        Self { octets: vec![0; 1 << 20].into(), sends: Vec::with_capacity(64), len: 0, delivered: 0, packets: 0 }
    }

    fn clear(&mut self) {
        self.sends.clear();
        self.len = 0;
    }
}

impl Sink for Wire {
    fn send(&mut self, _: SocketAddr, batch: &[u8], stride: usize) {
        self.octets[self.len..self.len + batch.len()].copy_from_slice(batch);
        self.sends.push((batch.len(), stride));
        self.len += batch.len();
    }

    fn deliver(&mut self, _: Port, packet: &[u8]) {
        self.delivered += (packet.len() - VNET) as u64;
        self.packets += 1;
    }

    fn event(&mut self, _: Event) {}
}

fn key(runner: u64) -> PrivateKey {
    PrivateKey::from_bytes([runner as u8; 32])
}

fn endpoint(runner: u64) -> SocketAddr {
    ([192, 0, 2, runner as u8], 51820).into()
}

fn address(number: u64) -> Ipv4Addr {
    Ipv4Addr::from_bits(Range::DEFAULT.first().to_bits() + number as u32)
}

/// Two runners with one instance each, 10 on runner 1 and 20 on runner 2, of one deployment.
fn map(runner: u64) -> Map {
    let network = Network { range: Range::DEFAULT, mtu: 1344 };
    let mut view = View::empty(Epoch([0; 16]), Revision(1), RunnerId(runner), network);
    let (name, team) = ("shop".parse().expect("a label"), "acme".parse().expect("a label"));
    view.put(Record::Deployment(Arc::new(Deployment { id: DeploymentId(1), name, team })));
    for number in [1, 2] {
        view.put(Record::Runner(Arc::new(Runner {
            id: RunnerId(number),
            name: format!("r{number}").parse().expect("a label"),
            provider: "here".parse().expect("a label"),
            public_key: key(number).public(),
            endpoints: vec![endpoint(number)],
            silent: false,
        })));
        view.put(Record::Service(Arc::new(Service {
            id: ServiceId(number),
            deployment: DeploymentId(1),
            name: format!("s{number}").parse().expect("a name"),
            address: address(number),
            automatic_names: true,
        })));
        view.put(Record::Instance(Arc::new(Instance {
            id: InstanceId(10 * number),
            service: ServiceId(number),
            runner: RunnerId(number),
            address: address(10 * number),
            state: InstanceState::Live,
        })));
    }
    Map::compile(&view)
}

/// What a TUN's read gives: an ACK (or a SYN) from instance 10 to service 2 with `payload` octets in segments of `size`.
fn read(flags: u8, protocol: u8, payload: usize, size: u16) -> Vec<u8> {
    let mut octets = vec![0; VNET + 40 + payload];
    octets[0] = 1;
    if payload > usize::from(size) {
        octets[1] = 1;
        octets[4..6].copy_from_slice(&size.to_ne_bytes());
    }
    let ip = &mut octets[VNET..];
    (ip[0], ip[6], ip[8], ip[9]) = (0x45, 0x40, 64, protocol);
    ip[2..4].copy_from_slice(&((40 + payload) as u16).to_be_bytes());
    ip[12..16].copy_from_slice(&address(10).octets());
    ip[16..20].copy_from_slice(&address(2).octets());
    (ip[21], ip[23], ip[32], ip[33]) = (1, 80, 0x50, flags);
    octets
}

struct World {
    engines: [Engine; 2],
    wires: [Wire; 2],
    now: Instant,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        let engine = |runner: u64| {
            let mut engine = Engine::new(key(runner), [runner as u8; 32], Box::new(vec![0; 1 << 16]), now);
            engine.handle_map(map(runner), now, &mut Wire::new());
            engine.attach(Port(1), InstanceId(10 * runner));
            engine
        };
        Self { engines: [engine(1), engine(2)], wires: [Wire::new(), Wire::new()], now }
    }

    /// Carries what one end has sent to the other.
    fn carry(&mut self, from: usize) {
        let (to, (a, b)) = (1 - from, self.wires.split_at_mut(1));
        let (ours, theirs) = if from == 0 { (&mut a[0], &mut b[0]) } else { (&mut b[0], &mut a[0]) };
        let mut at = 0;
        for (len, stride) in ours.sends.iter().copied() {
            let batch = &ours.octets[at..at + len];
            self.engines[to].handle_udp(endpoint(from as u64 + 1), batch, stride, self.now, theirs);
            at += len;
        }
        self.engines[to].flush(theirs);
        ours.clear();
    }

    /// One turn: a packet from instance 10, and whatever comes of it.
    fn turn(&mut self, octets: &mut [u8]) {
        self.engines[0].handle_tun(Port(1), octets, self.now, &mut self.wires[0]);
        self.engines[0].flush(&mut self.wires[0]);
        for end in [0, 1, 0, 1] {
            self.carry(end);
        }
    }
}

#[test]
fn packets_cross_without_allocation() {
    const ACK: u8 = 0x10;
    let mut world = World::new();
    world.turn(&mut read(0x02, 6, 0, 0));
    assert_eq!((world.wires[1].packets, world.wires[1].delivered), (1, 40), "the tunnel stands");

    let bulk = read(ACK, 6, 60_000, 1292);
    let (small, udp) = (read(ACK, 6, 3, 1292), read(0, 17, 20, 1292));
    let mut buffer = vec![0; bulk.len()];
    // The first of each kind may make room for the others.
    let mut kinds = |world: &mut World| {
        for octets in [&bulk, &small, &udp] {
            let buffer = &mut buffer[..octets.len()];
            buffer.copy_from_slice(octets);
            world.turn(buffer);
        }
    };
    kinds(&mut world);
    let (before, delivered) = (ALLOCATIONS.get(), world.wires[1].delivered);
    for _ in 0..50 {
        kinds(&mut world);
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
    assert_eq!(world.wires[1].delivered - delivered, 50 * (60_040 + 43));
    assert_eq!(world.engines[0].dropped(Reason::NotTcp), 51);
}
