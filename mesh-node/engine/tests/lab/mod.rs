//! Two engines with a wire between them, for what looks at the engine from outside: no TUN, no socket.
#![allow(dead_code, reason = "each of those uses some of it")]

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use mesh_engine::{Engine, Event, Map, Port, Sink, VNET};
use mesh_proto::{
    DeploymentId, Epoch, InstanceId, Ports, PrivateKey, Range, Record, Revision, RunnerId, ServiceId, View,
    view::{Deployment, Grant, Instance, InstanceState, Network, Runner, Service},
};

/// A wire with room for one turn, and what was delivered.
pub(crate) struct Wire {
    octets: Box<[u8]>,
    pub(crate) sends: Vec<(usize, usize)>,
    len: usize,
    /// Octets of packets, and how many.
    pub(crate) delivered: u64,
    pub(crate) packets: u64,
}

impl Wire {
    pub(crate) fn new() -> Self {
        Self { octets: vec![0; 1 << 20].into(), sends: Vec::with_capacity(64), len: 0, delivered: 0, packets: 0 }
    }

    pub(crate) fn clear(&mut self) {
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
    let mut octets = [runner as u8; 32];
    octets[..8].copy_from_slice(&runner.to_le_bytes());
    PrivateKey::from_bytes(octets)
}

pub(crate) fn endpoint(runner: u64) -> SocketAddr {
    ([192, 0, (runner >> 8) as u8, runner as u8], 51820).into()
}

fn address(number: u64) -> Ipv4Addr {
    Ipv4Addr::from_bits(Range::DEFAULT.first().to_bits() + number as u32)
}

/// What a runner knows beside the two.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Crowd {
    /// Other runners, each with an instance of a service of another deployment.
    pub(crate) runners: u64,
    /// Deployments that may call each of these services: so many times as many rules.
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
    let network = Network { range: Range::DEFAULT, mtu: 1344 };
    let mut view = View::empty(Epoch([0; 16]), Revision(1), RunnerId(runner), network);
    let (name, team) = ("shop".parse().expect("a label"), "acme".parse().expect("a label"));
    view.put(Record::Deployment(Arc::new(Deployment { id: DeploymentId(1), name, team, trust_source: None })));
    for number in [1, 2] {
        there(&mut view, number, DeploymentId(1));
    }
    crowd.join(&mut view);
    view
}

/// A runner with an instance of a service of its own.
fn there(view: &mut View, number: u64, deployment: DeploymentId) {
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
    })));
}

/// What a TUN's read gives: an ACK (or a SYN) from instance 10 to service 2 with `payload` octets in segments of `size`.
pub(crate) fn read(flags: u8, protocol: u8, payload: usize, size: u16) -> Vec<u8> {
    let mut octets = vec![0; VNET + 40 + payload];
    octets[0] = 1;
    if payload > usize::from(size) {
        octets[1] = 1;
        octets[4..6].copy_from_slice(&size.to_ne_bytes());
    }
    let ip = &mut octets[VNET..];
    (ip[0], ip[6], ip[8], ip[9]) = (0x45, 0x40, 64, protocol);
    ip[2..4].copy_from_slice(&((40 + payload) as u16).to_be_bytes());
    ip[12..16].copy_from_slice(&address(50_010).octets());
    ip[16..20].copy_from_slice(&address(2).octets());
    (ip[21], ip[23], ip[32], ip[33]) = (1, 80, 0x50, flags);
    octets
}

/// The same of another connection, from the caller's `port`.
pub(crate) fn from_port(port: u16, mut octets: Vec<u8>) -> Vec<u8> {
    octets[VNET + 20..VNET + 22].copy_from_slice(&port.to_be_bytes());
    octets
}

/// The same the other way, from service 2.
pub(crate) fn back(mut octets: Vec<u8>) -> Vec<u8> {
    let ip = &mut octets[VNET..];
    ip[12..20].rotate_left(4);
    ip[20..24].rotate_left(2);
    octets
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
            engine.attach(Port(1), InstanceId(10 * runner));
            engine
        };
        Self { engines: [engine(1), engine(2)], wires: [Wire::new(), Wire::new()], now }
    }

    /// One in which runner 1 has both instances.
    pub(crate) fn local(crowd: Crowd) -> Self {
        let mut world = Self::new(crowd);
        let mut view = view(1, crowd);
        let both = Instance::clone(view.instance(InstanceId(20)).expect("the callee"));
        view.put(Record::Instance(Arc::new(Instance { runner: RunnerId(1), ..both })));
        world.engines[0].handle_map(Map::compile(&view), world.now, &mut Wire::new());
        world.engines[0].attach(Port(2), InstanceId(20));
        world
    }

    /// Carries what one end has sent to the other.
    pub(crate) fn carry(&mut self, from: usize) {
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
    pub(crate) fn turn(&mut self, octets: &mut [u8]) {
        self.turn_of(0, octets);
    }

    /// The same from the instance of one end or the other.
    pub(crate) fn turn_of(&mut self, end: usize, octets: &mut [u8]) {
        self.engines[end].handle_tun(Port(1), octets, self.now, &mut self.wires[end]);
        self.engines[end].flush(&mut self.wires[end]);
        for end in [0, 1, 0, 1] {
            self.carry(end);
        }
    }
}
