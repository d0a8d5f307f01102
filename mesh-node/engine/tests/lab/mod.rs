//! Two engines with a wire between them and without TUNs or sockets, for tests and benchmarks of the public interface.
#![allow(dead_code, reason = "each of those uses some of it")]

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use mesh_engine::{Datagrams, Engine, Event, Map, Port, Sink, VNET};
use mesh_proto::{
    Abilities, DeploymentId, Epoch, InstanceId, Ports, PrivateKey, Range, Record, Revision, RunnerId, ServiceId, View,
    view::{Deployment, Grant, Instance, InstanceState, Network, Runner, Service},
};

/// A wire with room for one turn, and counts of the deliveries.
pub(crate) struct Wire {
    bytes: Box<[u8]>,
    pub(crate) sends: Vec<(usize, usize)>,
    len: usize,
    /// The bytes of all delivered packets, and their number.
    pub(crate) delivered: u64,
    pub(crate) packets: u64,
}

impl Wire {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; 1 << 20].into(), sends: Vec::with_capacity(64), len: 0, delivered: 0, packets: 0 }
    }

    pub(crate) fn clear(&mut self) {
        self.sends.clear();
        self.len = 0;
    }
}

impl Sink for Wire {
    fn send(&mut self, _: SocketAddr, batch: &[u8], stride: usize) {
        self.bytes[self.len..self.len + batch.len()].copy_from_slice(batch);
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
    let mut bytes = [runner as u8; 32];
    bytes[..8].copy_from_slice(&runner.to_le_bytes());
    PrivateKey::from_bytes(bytes)
}

pub(crate) fn endpoint(runner: u64) -> SocketAddr {
    ([192, 0, (runner >> 8) as u8, runner as u8], 51820).into()
}

fn address(number: u64) -> Ipv4Addr {
    Ipv4Addr::from_bits(Range::DEFAULT.first().to_bits() + number as u32)
}

/// The rest of the mesh that a runner knows.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Crowd {
    /// Other runners, each with an instance of a service of another deployment.
    pub(crate) runners: u64,
    /// Deployments that may call each of these services: each adds a rule for each service.
    pub(crate) callers: u64,
}

impl Crowd {
    fn join(self, view: &mut View) {
        let team: mesh_proto::Label = "acme".parse().expect("a label");
        for number in 0..=self.callers {
            let name = format!("crowd-{number}").parse().expect("a label");
            let id = DeploymentId(100 + number);
            view.put(Record::Deployment(Arc::new(Deployment { id, name, team: team.clone(), trust_source: None })));
        }
        for number in (0..self.runners).map(|number| number + 100) {
            there(view, number, DeploymentId(100));
            for caller in (0..self.callers).map(|caller| DeploymentId(101 + caller)) {
                let ports = Ports::Only([80, 443].into());
                view.put(Record::Grant(Arc::new(Grant { caller, callee: ServiceId(number), ports })));
            }
        }
    }
}

/// Two runners with one instance each, 10 on runner 1 and 20 on runner 2, of one deployment.
pub(crate) fn map(runner: u64, crowd: Crowd) -> Map {
    Map::compile(&view(runner, crowd))
}

fn view(runner: u64, crowd: Crowd) -> View {
    let network = Network { range: Range::DEFAULT, mtu: 1408 };
    let mut view = View::empty(Epoch([0; 16]), Revision(1), RunnerId(runner), network);
    let (name, team) = ("shop".parse().expect("a label"), "acme".parse().expect("a label"));
    view.put(Record::Deployment(Arc::new(Deployment { id: DeploymentId(1), name, team, trust_source: None })));
    for number in [1, 2] {
        there(&mut view, number, DeploymentId(1));
    }
    crowd.join(&mut view);
    view
}

/// A runner with an instance of another service.
fn there(view: &mut View, number: u64, deployment: DeploymentId) {
    view.put(Record::Runner(Arc::new(Runner {
        id: RunnerId(number),
        name: format!("r{number}").parse().expect("a label"),
        provider: "here".parse().expect("a label"),
        public_key: key(number).public(),
        endpoints: vec![endpoint(number)],
        silent: false,
        can: Abilities::ALL,
        reflexive: vec![],
        relayed: vec![],
    })));
    view.put(Record::Service(Arc::new(Service {
        id: ServiceId(number),
        deployment,
        name: format!("s{number}").parse().expect("a name"),
        address: address(number),
        automatic_names: true,
    })));
    view.put(Record::Instance(Arc::new(Instance {
        id: InstanceId(10 * number),
        service: ServiceId(number),
        runner: RunnerId(number),
        address: address(50_000 + 10 * number),
        state: InstanceState::Live,
        release: None,
    })));
}

/// A read of a TUN: an ACK (or a SYN) from instance 10 to service 2 with `payload` bytes in segments of `size`.
pub(crate) fn read(flags: u8, protocol: u8, payload: usize, size: u16) -> Vec<u8> {
    let mut bytes = vec![0; VNET + 40 + payload];
    bytes[0] = 1;
    if payload > usize::from(size) {
        bytes[1] = 1;
        bytes[4..6].copy_from_slice(&size.to_ne_bytes());
    }
    let ip = &mut bytes[VNET..];
    (ip[0], ip[6], ip[8], ip[9]) = (0x45, 0x40, 64, protocol);
    ip[2..4].copy_from_slice(&((40 + payload) as u16).to_be_bytes());
    ip[12..16].copy_from_slice(&address(50_010).octets());
    ip[16..20].copy_from_slice(&address(2).octets());
    (ip[21], ip[23], ip[32], ip[33]) = (1, 80, 0x50, flags);
    bytes
}

/// A read of another connection, from the caller's `port`.
pub(crate) fn from_port(port: u16, mut bytes: Vec<u8>) -> Vec<u8> {
    bytes[VNET + 20..VNET + 22].copy_from_slice(&port.to_be_bytes());
    bytes
}

/// A read in the other direction, from service 2.
pub(crate) fn back(mut bytes: Vec<u8>) -> Vec<u8> {
    let ip = &mut bytes[VNET..];
    ip[12..20].rotate_left(4);
    ip[20..24].rotate_left(2);
    bytes
}

pub(crate) struct World {
    pub(crate) engines: [Engine; 2],
    pub(crate) wires: [Wire; 2],
    pub(crate) now: Instant,
}

impl World {
    pub(crate) fn new(crowd: Crowd) -> Self {
        let now = Instant::now();
        let engine = |runner: u64| {
            let mut engine = Engine::new(key(runner), [runner as u8; 32], Box::new(vec![0; 1 << 18]), now);
            engine.handle_map(map(runner, crowd), now, &mut Wire::new());
            engine.handle_attach(Port(1), InstanceId(10 * runner));
            engine
        };
        Self { engines: [engine(1), engine(2)], wires: [Wire::new(), Wire::new()], now }
    }

    /// A world in which runner 1 has both instances.
    pub(crate) fn local(crowd: Crowd) -> Self {
        let mut world = Self::new(crowd);
        let mut view = view(1, crowd);
        let both = Instance::clone(view.instance(InstanceId(20)).expect("the callee"));
        view.put(Record::Instance(Arc::new(Instance { runner: RunnerId(1), ..both })));
        world.engines[0].handle_map(Map::compile(&view), world.now, &mut Wire::new());
        world.engines[0].handle_attach(Port(2), InstanceId(20));
        world
    }

    /// Delivers the datagrams of one end to the other.
    pub(crate) fn carry(&mut self, from: usize) {
        let (to, (a, b)) = (1 - from, self.wires.split_at_mut(1));
        let (ours, theirs) = if from == 0 { (&mut a[0], &mut b[0]) } else { (&mut b[0], &mut a[0]) };
        let mut at = 0;
        for (len, stride) in ours.sends.iter().copied() {
            let batch = &ours.bytes[at..at + len];
            let received =
                Datagrams { from: endpoint(from as u64 + 1).into(), local: None, bytes: batch, stride, skip: 0 };
            self.engines[to].handle_udp(&received, self.now, theirs);
            at += len;
        }
        self.engines[to].flush(theirs);
        ours.clear();
    }

    /// One turn: a packet from instance 10, and all that follows.
    pub(crate) fn turn(&mut self, bytes: &mut [u8]) {
        self.turn_of(0, bytes);
    }

    /// One turn with a packet from the instance of either end.
    pub(crate) fn turn_of(&mut self, end: usize, bytes: &mut [u8]) {
        self.engines[end].handle_tun(Port(1), bytes, self.now, &mut self.wires[end]);
        self.engines[end].flush(&mut self.wires[end]);
        // A handshake, a ping, and a volley of pings take three round trips at most.
        for end in [0, 1, 0, 1, 0, 1] {
            self.carry(end);
        }
    }
}
