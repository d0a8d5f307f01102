//! An engine between its TUNs, its coordinator, and an authenticated runner that sends anything.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use arbitrary::{Result, Unstructured};
use boringtun::{
    noise::{Tunn, TunnResult},
    x25519,
};
use mesh_engine::{Datagrams, Engine, Event, Map, PinMemory, Port, Reason, Sink, Switches, UDP_BUFFER, VNET};
use mesh_proto::{InstanceId, RunnerId, ServiceId, View, rules};
use mock_instant::MockClock;

use crate::{
    mesh::{OURS, Shape, addresses, endpoint, key},
    packet::{self, Packet, RST, SYN, Segment, read_from_tun, spoil},
    sink::{is_deliverable, is_sendable},
};

/// The possible inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    /// A random datagram arrives.
    Garbage,
    /// The peer seals random bytes.
    Seal,
    /// The peer seals a segment.
    SealSegment,
    /// The peer answers a packet that it got.
    SealAnswer,
    /// A sealed datagram of the peer arrives again, or damaged.
    Again,
    /// The peer starts a handshake.
    Handshake,
    /// An instance sends random bytes.
    Write,
    /// An instance sends a segment, or a super-packet.
    WriteSegment,
    /// An instance answers a packet that it got.
    WriteAnswer,
    /// An instance refuses a packet by ICMP.
    WriteUnreachable,
    /// Time passes.
    Wait,
    /// The mesh changes.
    Map,
    /// A TUN is attached.
    Attach,
    /// A TUN is detached.
    Detach,
    /// The peer stops answering, or starts again.
    Deaf,
    /// The other inputs of an engine.
    Other,
}

/// The origin of a checked packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Peer,
    Port(u32),
    Neither,
}

/// A longer run finds nothing new.
const STEPS: usize = 48;

/// The engine under test is runner 1; the peer is runner 2.
pub(crate) struct World {
    engine: Engine,
    peer: Tunn,
    deaf: bool,
    view: View,
    attached: BTreeMap<u32, InstanceId>,
    now: Instant,
    effects: Effects,
    /// Datagrams that the peer has sealed.
    sealed: Vec<Vec<u8>>,
    /// Segments that the peer got, and that instances got.
    heard: Vec<Segment>,
    read: Vec<(u32, Vec<u8>)>,
    /// SYNs of local instances, which the engine may keep and send again.
    syns: BTreeSet<(Ipv4Addr, Ipv4Addr, u32)>,
    taken: usize,
    given: usize,
    /// The buffer into which the peer opens datagrams.
    buffer: Vec<u8>,
    /// The only TUN that sends, if there is only one.
    only: Option<u32>,
}

#[derive(Default)]
struct Effects {
    sent: Vec<(SocketAddr, Vec<u8>, usize)>,
    delivered: Vec<(u32, Vec<u8>)>,
}

impl Sink for Effects {
    fn send(&mut self, to: SocketAddr, batch: &[u8], stride: usize) {
        is_sendable(batch, stride);
        self.sent.push((to, batch.to_vec(), stride));
    }

    fn deliver(&mut self, to: Port, packet: &[u8]) {
        is_deliverable(packet);
        self.delivered.push((to.0, packet.to_vec()));
    }

    fn event(&mut self, event: Event) {
        let Event::Endpoint { runner, endpoint } = event else { return };
        assert!(runner == RunnerId(2) && !endpoint.ip().is_unspecified());
    }
}

impl World {
    /// With all TUNs attached, with or without a session with the peer.
    pub(crate) fn new(session: bool, pins: Box<dyn PinMemory>) -> Self {
        MockClock::set_time(Duration::from_secs(1_000_000));
        let now = Instant::now();
        let theirs = x25519::PublicKey::from(key(1).public().0);
        let peer = Tunn::new(x25519::StaticSecret::from(key(2).to_bytes()), theirs, None, None, 2, None);
        let mut world = Self {
            engine: Engine::new(key(1), [1; 32], pins, now),
            peer,
            deaf: !session,
            view: Shape::FIRST.view(1),
            attached: BTreeMap::new(),
            now,
            effects: Effects::default(),
            sealed: vec![],
            heard: vec![],
            read: vec![],
            syns: BTreeSet::new(),
            taken: 0,
            given: 0,
            buffer: vec![0; UDP_BUFFER],
            only: None,
        };
        for instance in OURS {
            world.attach(instance as u32, InstanceId(instance));
        }
        world.engine.handle_map(Map::compile(&world.view), now, &mut world.effects);
        world.settle(Origin::Neither);
        if session {
            world.handshake();
            assert!(world.has_session(), "the handshake that everything begins with");
        }
        world
    }

    /// How many connections stand for an engine that has just found this memory.
    pub(crate) fn from_memory(pins: Box<dyn PinMemory>) -> usize {
        let now = Instant::now();
        Engine::new(key(1), [1; 32], pins, now).report(now).connections
    }

    /// Runs by the input, with the inputs in `ops`.
    pub(crate) fn live(&mut self, u: &mut Unstructured<'_>, ops: &[Op]) -> Result<()> {
        for _ in 0..STEPS {
            if u.is_empty() {
                break;
            }
            let op = *u.choose(ops)?;
            self.step(op, u)?;
        }
        Ok(())
    }

    fn step(&mut self, op: Op, u: &mut Unstructured<'_>) -> Result<()> {
        match op {
            Op::Garbage => {
                let from = *u.choose(&[endpoint(2), endpoint(3), ([203, 0, 113, 1], 1).into()])?;
                let stride = usize::from(u.arbitrary::<u16>()?);
                let kind = *u.choose(&[0, 1, 2, 3, 4])?;
                let mut bytes = some_bytes(u)?;
                if let Some(first) = bytes.first_mut().filter(|_| kind > 0) {
                    *first = kind;
                }
                self.receive(from, &bytes, stride.max(1), 0);
            }
            Op::Seal => {
                let bytes = some_bytes(u)?;
                self.seal_and_receive(&[bytes]);
            }
            Op::SealSegment => {
                let count = u.int_in_range(1..=3)?;
                let (segment, options, payload) = a_segment(u)?;
                let mut packets = vec![];
                for index in 0..count {
                    // They may continue one another.
                    let sequence = segment.sequence.wrapping_add(index * payload.len() as u32);
                    let mut packet = Segment { sequence, ..segment }.write(&options, &payload);
                    spoil(&mut packet, u)?;
                    packets.push(packet);
                }
                self.seal_and_receive(&packets);
            }
            Op::SealAnswer => {
                if !self.heard.is_empty() {
                    let answer = u.choose(&self.heard)?.answer(some_flags(u)?);
                    let payload = vec![0; *u.choose(&[0, 0, 1, 1292])?];
                    self.seal_and_receive(&[answer.write(&[], &payload)]);
                }
            }
            Op::Again => {
                if !self.sealed.is_empty() {
                    let mut datagram = u.choose(&self.sealed)?.clone();
                    let at = u.choose_index(datagram.len())?;
                    datagram[at] ^= *u.choose(&[0, 1, 0x80])?;
                    self.receive(*u.choose(&[endpoint(2), endpoint(3)])?, &datagram, datagram.len(), 0);
                }
            }
            Op::Handshake => self.handshake(),
            Op::Write => {
                let port = self.a_port(u)?;
                let bytes = some_bytes(u)?;
                self.write(port, bytes);
            }
            Op::WriteSegment => {
                let port = self.a_port(u)?;
                let (mut segment, options, payload) = a_segment(u)?;
                // Most packets from elsewhere are rejected.
                if u.ratio(7, 8)? && OURS.contains(&u64::from(port)) {
                    segment.source.0 = crate::mesh::address(port.into());
                }
                let mut ip = segment.write(&options, &payload);
                spoil(&mut ip, u)?;
                let size = if u.arbitrary()? { u.arbitrary::<u16>()? } else { 0 };
                self.write(port, read_from_tun(&ip, size));
            }
            Op::WriteAnswer => {
                let read = self.readable();
                if !read.is_empty() {
                    let (port, bytes) = u.choose(&read)?.clone();
                    let flags = some_flags(u)?;
                    let payload = vec![0; *u.choose(&[0, 0, 1, 5000])?];
                    if let Packet::Tcp(segment) = Packet::read(&bytes[VNET..]) {
                        let size = if payload.len() > 1000 { 1292 } else { 0 };
                        self.write(port, read_from_tun(&segment.answer(flags).write(&[], &payload), size));
                    }
                }
            }
            Op::WriteUnreachable => {
                let read = self.readable();
                if !read.is_empty() {
                    let (port, bytes) = u.choose(&read)?.clone();
                    let ip = &bytes[VNET..];
                    if let Packet::Tcp(segment) = Packet::read(ip) {
                        let quoted = &ip[..ip.len().min(usize::from(u.int_in_range(0..=64u8)?))];
                        let (from, to) = (segment.destination.0, segment.source.0);
                        let mut refusal = packet::unreachable(from, to, u.arbitrary()?, quoted);
                        if u.ratio(1, 8)? {
                            let at = u.choose_index(refusal.len())?;
                            refusal[at] = u.arbitrary()?;
                        }
                        self.write(port, read_from_tun(&refusal, 0));
                    }
                }
            }
            Op::Wait => {
                let millis =
                    *u.choose(&[1, 2, 100, 300, 1000, 2000, 5000, 16_000, 61_000, 125_000, 200_000, 3_700_000])?;
                self.wait(Duration::from_millis(millis));
            }
            Op::Map => {
                let shape = Shape(Shape::FIRST.0 ^ (1 << u.int_in_range(0..=7u8)?) ^ (1 << u.int_in_range(0..=7u8)?));
                self.view = shape.view(self.view.revision.0 + 1);
                self.engine.handle_map(Map::compile(&self.view), self.now, &mut self.effects);
                self.settle(Origin::Neither);
            }
            Op::Attach => {
                let instance = InstanceId(*u.choose(&[10, 11, 12, 13, 20, 99])?);
                let port = u.int_in_range(8..=15)?;
                self.attach(port, instance);
            }
            Op::Detach => {
                let port = u.int_in_range(8..=15)?;
                self.engine.handle_detach(Port(port), self.now, &mut self.effects);
                self.settle(Origin::Neither);
                self.attached.remove(&port);
            }
            Op::Deaf => self.deaf = !self.deaf,
            Op::Other => {
                match u.int_in_range(0..=3u8)? {
                    0 => self.engine.handle_address_change(),
                    1 => self.engine.handle_known_endpoint(RunnerId(u.int_in_range(1..=4)?), endpoint(2)),
                    2 => {
                        let (tun_gso, udp_gso) = (u.arbitrary()?, u.arbitrary()?);
                        self.engine.handle_switches(Switches { tun_gso, udp_gso, udp_gro: true });
                    }
                    _ => self.engine.flush(&mut self.effects),
                }
                self.settle(Origin::Neither);
            }
        }
        Ok(())
    }

    /// The end: the engine's report is consistent.
    pub(crate) fn end(&mut self) -> usize {
        let report = self.engine.report(self.now);
        let open: usize = report.instances.iter().map(|instance| instance.open as usize).sum();
        assert!(open <= report.connections, "{report:?}");
        report.connections
    }

    fn attach(&mut self, port: u32, instance: InstanceId) {
        self.engine.handle_attach(Port(port), instance);
        self.attached.retain(|_, attached| *attached != instance);
        self.attached.insert(port, instance);
    }

    /// A TUN's read.
    fn write(&mut self, port: u32, mut bytes: Vec<u8>) {
        let drops = self.drops();
        self.taken += bytes.len();
        if let Some(Packet::Tcp(segment)) = bytes.get(VNET..).map(Packet::read)
            && segment.opens()
        {
            self.syns.insert((segment.source.0, segment.destination.0, segment.sequence));
        }
        let session = self.has_session();
        self.engine.handle_tun(Port(port), &mut bytes, self.now, &mut self.effects);
        self.engine.flush(&mut self.effects);
        let seen = self.effects.delivered.len() + self.effects.sent.len();
        // Without a session it may wait for one.
        assert!(!session || self.drops() > drops || seen > 0 || self.is_for_the_silent(&bytes), "lost without a trace");
        self.settle(Origin::Port(port));
    }

    /// Whether it may wait for runner 3, with which there is never a session.
    fn is_for_the_silent(&self, bytes: &[u8]) -> bool {
        matches!(bytes.get(VNET..).map(Packet::read), Some(Packet::Tcp(_)))
    }

    /// Datagrams arrive, `quiet` of which have no effect if they are accepted.
    fn receive(&mut self, from: SocketAddr, datagrams: &[u8], stride: usize, quiet: usize) {
        let drops = self.drops();
        self.taken += datagrams.len();
        let received = Datagrams { from, local: None, bytes: datagrams, stride };
        self.engine.handle_udp(&received, self.now, &mut self.effects);
        self.engine.flush(&mut self.effects);
        let delivered: usize = self.effects.delivered.iter().map(|(_, bytes)| pieces(bytes).len()).sum();
        let sent: usize = self.effects.sent.iter().map(|(_, batch, stride)| batch.len().div_ceil(*stride)).sum();
        let cookies = datagrams.chunks(stride).filter(|datagram| datagram.first() == Some(&3)).count();
        let accounted = delivered + sent + (self.drops() - drops) as usize + cookies + quiet;
        assert!(accounted >= datagrams.chunks(stride).count(), "{accounted} of {}", datagrams.chunks(stride).count());
        for (to, ..) in &self.effects.sent {
            assert!(*to == from || (1..=3).any(|runner| *to == endpoint(runner)), "sent to {to}");
        }
        self.settle(Origin::Peer);
    }

    fn seal_and_receive(&mut self, packets: &[Vec<u8>]) {
        if !self.has_session() || self.peer.stats().0.is_none() {
            return;
        }
        for packet in packets {
            let mut datagram = vec![0; packet.len() + 148];
            let TunnResult::WriteToNetwork(sealed) = self.peer.encapsulate(packet, &mut datagram) else { continue };
            let sealed = sealed.to_vec();
            self.sealed.push(sealed);
        }
        let from = self.sealed.len().saturating_sub(packets.len());
        let datagrams = self.sealed[from..].to_vec();
        let quiet = packets.iter().filter(|packet| packet.is_empty()).count();
        // As UDP_GRO returns them, if they have one length.
        match datagrams.split_first() {
            Some((first, rest)) if rest.iter().all(|other| other.len() == first.len()) => {
                self.receive(endpoint(2), &datagrams.concat(), first.len(), quiet);
            }
            _ => datagrams.iter().for_each(|datagram| self.receive(endpoint(2), datagram, datagram.len(), quiet)),
        }
    }

    fn handshake(&mut self) {
        let mut message = [0; 148];
        if let TunnResult::WriteToNetwork(initiation) = self.peer.format_handshake_initiation(&mut message, false) {
            let initiation = initiation.to_vec();
            self.receive(endpoint(2), &initiation, initiation.len(), 0);
        }
    }

    fn wait(&mut self, time: Duration) {
        MockClock::advance(time);
        self.now += time;
        // After a due timeout the engine asks for a later one.
        for _ in 0..64 {
            self.engine.handle_timeout(self.now, &mut self.effects);
            self.settle(Origin::Neither);
            if self.engine.next_timeout().is_none_or(|(at, _)| at > self.now) {
                let mut message = [0; 148];
                if let TunnResult::WriteToNetwork(datagram) = self.peer.update_timers(&mut message) {
                    let datagram = datagram.to_vec();
                    let quiet = usize::from(datagram[0] == 4);
                    self.receive(endpoint(2), &datagram, datagram.len(), quiet);
                }
                return;
            }
        }
        panic!("it never has enough: {:?}", self.engine.next_timeout());
    }

    /// The packets that instances got and may answer.
    fn readable(&self) -> Vec<(u32, Vec<u8>)> {
        self.read.iter().filter(|(port, _)| self.only.is_none_or(|only| only == *port)).cloned().collect()
    }

    /// From now on only this TUN and the peer send.
    pub(crate) fn confine(&mut self, only: u32) {
        self.only = Some(only);
    }

    /// An instance sends a segment. Returns the TUNs that it reaches.
    pub(crate) fn say(&mut self, port: u32, segment: &Segment) -> Vec<u32> {
        let before = self.read.len();
        self.write(port, read_from_tun(&segment.write(&[], &[]), 0));
        self.read[before..].iter().map(|(to, _)| *to).collect()
    }

    fn has_session(&self) -> bool {
        let report = self.engine.report(self.now);
        report.peers.iter().any(|peer| peer.runner == RunnerId(2) && peer.handshake_age.is_some())
    }

    fn drops(&self) -> u64 {
        Reason::ALL.iter().map(|reason| self.engine.dropped(*reason)).sum()
    }

    fn a_port(&self, u: &mut Unstructured<'_>) -> Result<u32> {
        if let Some(only) = self.only {
            return Ok(only);
        }
        if self.attached.is_empty() || u.ratio(1, 16)? {
            return u.int_in_range(8..=15);
        }
        let ports: Vec<u32> = self.attached.keys().copied().collect();
        u.choose(&ports).copied()
    }

    /// Ends a turn: checks all effects, and lets the peer receive its datagrams.
    fn settle(&mut self, mut origin: Origin) {
        let mut buffer = std::mem::take(&mut self.buffer);
        for _ in 0..16 {
            self.engine.flush(&mut self.effects);
            let (Effects { sent, delivered }, deaf) = (std::mem::take(&mut self.effects), self.deaf);
            for (port, bytes) in delivered {
                self.given += bytes.len();
                self.check_delivered(port, &bytes, origin);
                self.read.push((port, bytes));
            }
            let mut answers = vec![];
            for (to, batch, stride) in sent {
                self.given += batch.len();
                for datagram in batch.chunks(stride).filter(|_| to == endpoint(2) && !deaf) {
                    match self.peer.decapsulate(None, datagram, &mut buffer) {
                        TunnResult::WriteToNetwork(answer) => answers.push(answer.to_vec()),
                        TunnResult::WriteToTunnelV4(ip, _) => {
                            let ip = ip.to_vec();
                            self.check_sealed(&ip, origin);
                        }
                        TunnResult::WriteToTunnelV6(..) => panic!("only IPv4 crosses"),
                        TunnResult::Done | TunnResult::Err(_) => {}
                    }
                }
            }
            // No sender causes much for little: at most the resets of its connections.
            assert!(self.given <= 16 * self.taken + (64 << 10), "{} for {}", self.given, self.taken);
            if answers.is_empty() {
                self.buffer = buffer;
                return;
            }
            // Packets that waited for the session come from their senders.
            origin = Origin::Neither;
            for answer in answers {
                self.taken += answer.len();
                let received = Datagrams { from: endpoint(2), local: None, bytes: &answer, stride: answer.len() };
                self.engine.handle_udp(&received, self.now, &mut self.effects);
            }
        }
        panic!("the two talk for ever");
    }

    /// Checks a packet to an instance.
    fn check_delivered(&self, port: u32, bytes: &[u8], origin: Origin) {
        let instance = self.attached.get(&port).unwrap_or_else(|| panic!("delivered to {port}, which isn't there"));
        for piece in pieces(bytes) {
            match Packet::read(&piece[VNET..]) {
                Packet::Tcp(segment) => {
                    if segment.flags & RST != 0 {
                        continue;
                    }
                    let own = self.view.instance(*instance).expect("it was delivered to");
                    let service = self.view.service(own.service).expect("it was delivered to");
                    assert!([own.address, service.address].contains(&segment.destination.0), "{segment:?} to {own:?}");
                    self.check(&segment, origin);
                }
                Packet::Unreachable { code, to, about } => {
                    assert!(matches!(code, 1 | 13) && to == about, "not a refusal of what it sent itself");
                }
                Packet::Other => panic!("neither TCP nor a refusal: {piece:?}"),
            }
        }
    }

    /// Checks a packet to the peer.
    fn check_sealed(&mut self, ip: &[u8], origin: Origin) {
        let Packet::Tcp(segment) = Packet::read(ip) else { panic!("only TCP crosses: {ip:?}") };
        self.heard.push(segment);
        if segment.flags & RST != 0 {
            return;
        }
        assert!(self.is_on(segment.destination.0, 2), "{segment:?} isn't for the runner that it was sent to");
        assert!(self.is_on(segment.source.0, 1), "{segment:?} isn't from here");
        self.check(&segment, origin);
    }

    /// A packet passes only by the reference verdict, and from a possible owner of its address.
    fn check(&self, segment: &Segment, origin: Origin) {
        let (source, destination) = (self.service_at(segment.source.0), self.service_at(segment.destination.0));
        let (Some(source), Some(destination)) = (source, destination) else { panic!("without an owner: {segment:?}") };
        let asked = rules::Segment {
            source_port: segment.source.1,
            destination_port: segment.destination.1,
            opens: segment.opens(),
        };
        let verdict = rules::verdict(&self.view, source, destination, asked);
        assert!(verdict.is_ok(), "{verdict:?}, but passed: {segment:?}");
        if segment.flags & SYN != 0 && self.syns.contains(&(segment.source.0, segment.destination.0, segment.sequence))
        {
            return;
        }
        match origin {
            Origin::Peer => assert!(self.is_on(segment.source.0, 2), "forged by the peer: {segment:?}"),
            Origin::Port(port) => {
                let own = self.attached.get(&port).and_then(|instance| self.view.instance(*instance));
                let own = own.unwrap_or_else(|| panic!("from {port}, which has no instance: {segment:?}"));
                let service = self.view.service(own.service).expect("it passed");
                assert!([own.address, service.address].contains(&segment.source.0), "forged by {own:?}: {segment:?}");
            }
            Origin::Neither => {}
        }
    }

    fn service_at(&self, address: Ipv4Addr) -> Option<ServiceId> {
        let instance = self.view.instances().find(|instance| instance.address == address).map(|i| i.service);
        instance.or_else(|| self.view.services().find(|service| service.address == address).map(|s| s.id))
    }

    fn is_on(&self, address: Ipv4Addr, runner: u64) -> bool {
        let service = self.view.services().find(|service| service.address == address).map(|service| service.id);
        self.view.instances().any(|instance| {
            instance.runner == RunnerId(runner) && (instance.address == address || Some(instance.service) == service)
        })
    }
}

/// The segments of a delivered packet or super-packet, whose headers are right.
fn pieces(bytes: &[u8]) -> Vec<Vec<u8>> {
    let size = usize::from(u16::from_ne_bytes([bytes[4], bytes[5]]));
    let headers = VNET + 20 + usize::from(bytes.get(VNET + 32).map_or(0, |offset| offset >> 4)) * 4;
    if bytes[1] == 0 {
        return vec![bytes.to_vec()];
    }
    let mut pieces = vec![];
    mesh_engine::split(&mut bytes.to_vec(), |piece| {
        assert!(piece.len() <= headers + size, "a piece of {} bytes: {headers} + {size}", piece.len());
        pieces.push(piece.to_vec());
    });
    pieces
}

/// Random bytes, up to some thousands.
fn some_bytes(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let (length, fill) = (usize::from(u.arbitrary::<u16>()?), u.int_in_range(0..=3u8)?);
    match fill {
        // A few by the input, or many by a pattern.
        0 => Ok(vec![0; length]),
        _ => Ok(u.bytes(u.len().min(length % 256))?.to_vec()),
    }
}

fn some_flags(u: &mut Unstructured<'_>) -> Result<u8> {
    const SYN_ACK: u8 = SYN | packet::ACK;
    let common = [SYN, SYN_ACK, packet::ACK, packet::ACK, packet::ACK | 8, packet::ACK | packet::FIN, RST, RST | 16];
    if u.ratio(1, 16)? { u.arbitrary() } else { Ok(*u.choose(&common)?) }
}

/// A segment, its options and its payload.
fn a_segment(u: &mut Unstructured<'_>) -> Result<(Segment, Vec<u8>, Vec<u8>)> {
    let addresses = addresses();
    let ports = [40000, 40001, 5432, 80, 0];
    let end = |u: &mut Unstructured<'_>| Ok((*u.choose(&addresses)?, *u.choose(&ports)?));
    let number =
        |u: &mut Unstructured<'_>| if u.ratio(1, 8)? { u.arbitrary() } else { Ok(*u.choose(&[0, 1000, 7000, 7001])?) };
    let segment = Segment {
        source: end(u)?,
        destination: end(u)?,
        sequence: number(u)?,
        acknowledgment: number(u)?,
        flags: some_flags(u)?,
    };
    let options = vec![1; 4 * *u.choose(&[0, 0, 0, 3, 10])?];
    let payload = vec![0; *u.choose(&[0, 0, 1, 100, 1292, 1304, 5000, 65000])?];
    Ok((segment, options, payload))
}
