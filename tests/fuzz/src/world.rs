//! An engine between its TUNs, its coordinator, and an authenticated runner that sends anything.

mod bytes;
mod checks;
mod probes;
mod steps;

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
use mesh_engine::{Datagrams, Engine, Event, Map, PinMemory, Port, Reason, Sink, UDP_BUFFER, VNET};
use mesh_proto::{InstanceId, RunnerId, View};
use mock_instant::MockClock;

use checks::pieces;

use crate::{
    mesh::{OURS, Shape, endpoint, key},
    packet::{Packet, Segment, read_from_tun},
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
    /// The peer seals a ping, a pong or a message of a meeting.
    SealProbe,
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
    /// Pings that the peer got.
    pings: Vec<Vec<u8>>,
    /// The addresses of runners that the peer has told.
    told: BTreeSet<SocketAddr>,
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
            pings: vec![],
            told: BTreeSet::new(),
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
        let received = Datagrams { from: from.into(), local: None, bytes: datagrams, stride, skip: 0 };
        self.engine.handle_udp(&received, self.now, &mut self.effects);
        self.engine.flush(&mut self.effects);
        let delivered: usize = self.effects.delivered.iter().map(|(_, bytes)| pieces(bytes).len()).sum();
        let sent: usize = self.effects.sent.iter().map(|(_, batch, stride)| batch.len().div_ceil(*stride)).sum();
        let cookies = datagrams.chunks(stride).filter(|datagram| datagram.first() == Some(&3)).count();
        let accounted = delivered + sent + (self.drops() - drops) as usize + cookies + quiet;
        assert!(accounted >= datagrams.chunks(stride).count(), "{accounted} of {}", datagrams.chunks(stride).count());
        for (to, ..) in &self.effects.sent {
            let is_known = *to == from || (1..=3).any(|runner| *to == endpoint(runner)) || self.told.contains(to);
            assert!(is_known, "sent to {to}");
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
        let quiet = packets.iter().filter(|packet| packet.is_empty() || probes::is_one(packet)).count();
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
}
