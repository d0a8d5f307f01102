//! Shared by the unit tests: packets that are built independently of the code under test, and a sink that records.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use mesh_proto::{
    Abilities, DeploymentId, Epoch, InstanceId, Ports, PrivateKey, Range, Record, RelayId, Revision, RunnerId,
    ServiceId, View,
    view::{Deployment, Grant, Instance, InstanceState, Network, Runner, Service},
};

use crate::{
    Event, HEADROOM, LaneIx, Map, Order, Port, Sink, VNET,
    packet::{Content, Flags, Packet, Tcp},
};

/// The checksum of RFC 1071, the slow way.
pub(crate) fn sum(parts: &[&[u8]]) -> u16 {
    let bytes: Vec<u8> = parts.concat();
    let mut sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

/// An IPv4 packet around `payload`, with `options`.
pub(crate) fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let header = 20 + options.len();
    let mut bytes = vec![0x40 | (header / 4) as u8, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, protocol, 0, 0];
    bytes[2..4].copy_from_slice(&((header + payload.len()) as u16).to_be_bytes());
    bytes.extend(from.octets());
    bytes.extend(to.octets());
    bytes.extend(options);
    let check = !sum(&[&bytes]);
    bytes[10..12].copy_from_slice(&check.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A TCP segment in the making: by default an ACK without payload from 100.112.0.10:40000 to 100.112.0.20:5432.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) from: Ipv4Addr,
    pub(crate) to: Ipv4Addr,
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) sequence: u32,
    pub(crate) acknowledgment: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

pub(crate) fn tcp() -> Segment {
    Segment {
        from: Ipv4Addr::new(100, 112, 0, 10),
        to: Ipv4Addr::new(100, 112, 0, 20),
        source_port: 40000,
        destination_port: 5432,
        sequence: 1000,
        acknowledgment: 2000,
        flags: Flags::ACK,
        window: 512,
        options: vec![],
        payload: vec![],
    }
}

impl Segment {
    pub(crate) fn between(mut self, from: Ipv4Addr, to: Ipv4Addr) -> Self {
        (self.from, self.to) = (from, to);
        self
    }

    pub(crate) fn source_port(mut self, port: u16) -> Self {
        self.source_port = port;
        self
    }

    pub(crate) fn ports(mut self, source: u16, destination: u16) -> Self {
        (self.source_port, self.destination_port) = (source, destination);
        self
    }

    pub(crate) fn flags(mut self, flags: u8) -> Self {
        self.flags = flags;
        self
    }

    pub(crate) fn syn(self) -> Self {
        self.flags(Flags::SYN)
    }

    pub(crate) fn sequence(mut self, sequence: u32) -> Self {
        self.sequence = sequence;
        self
    }

    pub(crate) fn options(mut self, options: &[u8]) -> Self {
        self.options = options.to_vec();
        self
    }

    pub(crate) fn payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    /// The packet, complete.
    pub(crate) fn build(&self) -> Vec<u8> {
        let mut packet = self.partial();
        let segment = &packet[20..];
        let check = !sum(&[segment]);
        packet[36..38].copy_from_slice(&check.to_be_bytes());
        packet
    }

    /// The packet with nothing but the pseudo-header's sum in the checksum field.
    fn partial(&self) -> Vec<u8> {
        let mut segment = vec![];
        segment.extend(self.source_port.to_be_bytes());
        segment.extend(self.destination_port.to_be_bytes());
        segment.extend(self.sequence.to_be_bytes());
        segment.extend(self.acknowledgment.to_be_bytes());
        segment.extend([((20 + self.options.len()) * 4) as u8, self.flags]);
        segment.extend(self.window.to_be_bytes());
        segment.extend([0; 4]);
        segment.extend(&self.options);
        segment.extend(&self.payload);
        let length = (segment.len() as u16).to_be_bytes();
        let pseudo = sum(&[&self.from.octets(), &self.to.octets(), &[0, 6], &length]);
        segment[16..18].copy_from_slice(&pseudo.to_be_bytes());
        ipv4(self.from, self.to, 6, &[], &segment)
    }

    /// Complete, in the format of a TUN's read.
    pub(crate) fn build_read(&self) -> Vec<u8> {
        complete(&self.build())
    }

    /// In the format of a TUN's read: a super-packet if it is longer than one segment of `size`.
    pub(crate) fn read(&self, size: usize) -> Vec<u8> {
        let mut bytes = vec![0; VNET];
        bytes[0] = 1;
        if self.payload.len() > size {
            bytes[1] = 1;
            bytes[2..4].copy_from_slice(&((40 + self.options.len()) as u16).to_ne_bytes());
            bytes[4..6].copy_from_slice(&(size as u16).to_ne_bytes());
        }
        bytes[6..8].copy_from_slice(&20u16.to_ne_bytes());
        bytes[8..10].copy_from_slice(&16u16.to_ne_bytes());
        bytes.extend(self.partial());
        bytes
    }
}

/// A complete packet in the format of a TUN's read.
pub(crate) fn complete(packet: &[u8]) -> Vec<u8> {
    [&[0; VNET], packet].concat()
}

/// Parses `bytes`, which have to be a TCP segment.
pub(crate) fn packet(bytes: &[u8]) -> (Packet, Tcp) {
    let packet = Packet::parse(bytes).expect("a packet");
    match packet.content {
        Content::Tcp(tcp) => (packet, tcp),
        Content::Foreign { why, .. } => panic!("not TCP: {why}"),
    }
}

/// Whether the checksums of a complete TCP packet are right.
pub(crate) fn is_sound(packet: &[u8]) -> bool {
    let length = ((packet.len() - 20) as u16).to_be_bytes();
    let whole = usize::from(u16::from_be_bytes([packet[2], packet[3]])) == packet.len();
    whole
        && sum(&[&packet[..20]]) == 0xffff
        && sum(&[&packet[12..20], &[0, packet[9]], &length, &packet[20..]]) == 0xffff
}

/// Records all effects.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    pub(crate) sent: Vec<(SocketAddr, Vec<u8>, usize)>,
    /// The source address of each batch in `sent`.
    pub(crate) sources: Vec<Option<IpAddr>>,
    pub(crate) relayed: Vec<SentByRelay>,
    pub(crate) delivered: Vec<(Port, Vec<u8>)>,
    pub(crate) events: Vec<Event>,
    pub(crate) orders: Vec<(LaneIx, Order)>,
    /// The moves that have ended, and whether the packet goes by its lane.
    pub(crate) moved: Vec<(Port, bool)>,
}

/// Datagrams that were sent by a relay.
#[derive(Debug, Clone)]
pub(crate) struct SentByRelay {
    pub(crate) relay: RelayId,
    pub(crate) peer: SocketAddr,
    pub(crate) batch: Vec<u8>,
    pub(crate) stride: usize,
    pub(crate) whole: bool,
}

impl SentByRelay {
    /// The datagrams without their headroom.
    pub(crate) fn datagrams(&self) -> Vec<Vec<u8>> {
        self.batch.chunks(self.stride).map(|datagram| datagram[HEADROOM..].to_vec()).collect()
    }
}

impl Sink for Recorder {
    fn send(&mut self, to: SocketAddr, batch: &[u8], stride: usize) {
        assert!(stride > 0 && stride <= batch.len() && batch.len() <= crate::MAX_BATCH);
        assert!(batch.len().div_ceil(stride) <= crate::MAX_SEGMENTS);
        self.sent.push((to, batch.to_vec(), stride));
    }

    fn send_from(&mut self, from: Option<IpAddr>, to: SocketAddr, batch: &[u8], stride: usize) {
        self.sources.push(from);
        self.send(to, batch, stride);
    }

    fn send_relayed(&mut self, relay: RelayId, peer: SocketAddr, batch: &mut [u8], stride: usize, whole: bool) {
        assert!(stride > HEADROOM && stride <= batch.len() && batch.len() <= crate::MAX_BATCH);
        assert!(batch.len().div_ceil(stride) <= crate::MAX_SEGMENTS);
        self.relayed.push(SentByRelay { relay, peer, batch: batch.to_vec(), stride, whole });
    }

    fn deliver(&mut self, to: Port, packet: &[u8]) {
        self.delivered.push((to, packet.to_vec()));
    }

    fn event(&mut self, event: Event) {
        self.events.push(event);
    }

    fn order(&mut self, lane: LaneIx, order: Order) {
        self.orders.push((lane, order));
    }

    fn moved(&mut self, port: Port, by_lane: bool) {
        self.moved.push((port, by_lane));
    }
}

/// Builds a view.
pub(crate) struct Builder(pub(crate) View);

/// The key of the runner with this number.
pub(crate) fn key(runner: u64) -> PrivateKey {
    PrivateKey::from_bytes([runner as u8; 32])
}

/// The endpoint of the runner with this number.
pub(crate) fn endpoint(runner: u64) -> SocketAddr {
    ([192, 0, 2, runner as u8], 51820).into()
}

/// The address of a service or an instance, by its number.
pub(crate) fn address(number: u64) -> Ipv4Addr {
    Ipv4Addr::from_bits(Range::DEFAULT.first().to_bits() + number as u32)
}

impl Builder {
    /// The empty view of a runner.
    pub(crate) fn new(runner: u64) -> Self {
        let network = Network { range: Range::DEFAULT, mtu: 1344 };
        Self(View::empty(Epoch([0; 16]), Revision(1), RunnerId(runner), network))
    }

    pub(crate) fn runner(mut self, id: u64) -> Self {
        self.0.put(Record::Runner(Arc::new(Runner {
            id: RunnerId(id),
            name: format!("runner{id}").parse().expect("a label"),
            provider: "basement".parse().expect("a label"),
            public_key: key(id).public(),
            endpoints: vec![endpoint(id)],
            silent: false,
            can: Abilities::NONE,
            reflexive: vec![],
            relayed: vec![],
        })));
        self
    }

    /// All runners so far can answer pings.
    pub(crate) fn able(mut self) -> Self {
        let all: Vec<_> = self.0.runners().cloned().collect();
        for runner in all {
            self.0.put(Record::Runner(Arc::new(Runner { can: Abilities::ALL, ..Runner::clone(&runner) })));
        }
        self
    }

    pub(crate) fn deployment(mut self, id: u64, team: &str) -> Self {
        self.0.put(Record::Deployment(Arc::new(Deployment {
            id: DeploymentId(id),
            name: format!("deployment{id}").parse().expect("a label"),
            team: team.parse().expect("a label"),
            trust_source: None,
        })));
        self
    }

    /// A service with the address of its number.
    pub(crate) fn service(mut self, id: u64, deployment: u64) -> Self {
        self.0.put(Record::Service(Arc::new(Service {
            id: ServiceId(id),
            deployment: DeploymentId(deployment),
            name: format!("service{id}").parse().expect("a name"),
            address: address(id),
            automatic_names: true,
        })));
        self
    }

    /// A live instance with the address of its number.
    pub(crate) fn instance(self, id: u64, service: u64, runner: u64) -> Self {
        self.instance_that_is(InstanceState::Live, id, service, runner)
    }

    pub(crate) fn instance_that_is(mut self, state: InstanceState, id: u64, service: u64, runner: u64) -> Self {
        self.0.put(Record::Instance(Arc::new(Instance {
            id: InstanceId(id),
            service: ServiceId(service),
            runner: RunnerId(runner),
            address: address(id),
            state,
            release: None,
        })));
        self
    }

    /// The instance runs this release.
    pub(crate) fn release(mut self, instance: u64, release: &str) -> Self {
        let there = self.0.instance(InstanceId(instance)).expect("an instance").clone();
        let release = Some(release.parse().expect("a release"));
        self.0.put(Record::Instance(Arc::new(Instance { release, ..Instance::clone(&there) })));
        self
    }

    pub(crate) fn grant(mut self, caller: u64, callee: u64, ports: Ports) -> Self {
        let (caller, callee) = (DeploymentId(caller), ServiceId(callee));
        self.0.put(Record::Grant(Arc::new(Grant { caller, callee, ports })));
        self
    }

    pub(crate) fn map(&self) -> Map {
        Map::compile(&self.0)
    }
}
