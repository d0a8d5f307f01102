//! A lane: further sessions with other runners, which another thread seals and opens.
//!
//! The engine decides, and a lane carries out. A lane owns its tunnels and the packets under way: it cuts, seals and sends
//! what the engine has let pass, and it receives, opens and joins what the engine will judge. It knows no rule and no path:
//! each [`Order`] says where its packet goes. Like the engine it is sans-IO, and its owner passes orders and [`News`] on in
//! their order.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use mesh_proto::{PrivateKey, PublicKey};

use crate::{
    Datagrams, Event, Hop, Port, Reason, Sink, UDP_BUFFER,
    coalesce::Coalescer,
    cx::Cx,
    drop::Drops,
    flow::{Role, Slot},
    hop::Way,
    index::{RunnerIx, TunnelIx},
    lane_set::LaneIx,
    number::NumberMap,
    order::{Course, Errand, LaneSink, Message, News, Order, Said},
    outbox::Outbox,
    packet::{Content, Packet},
    peer::TICK,
    ready::ReadyPeer,
    segment::Unit,
    tunnel::{self, CONTROL, Identity, Outcome, SESSION, Tunnel},
    vnet::Vnet,
};

/// The tunnels of one lane.
pub struct Lane {
    number: LaneIx,
    identity: Identity,
    tunnels: NumberMap<TunnelIx, Box<Entry>>,
    outbox: Outbox,
    inbox: Coalescer,
    /// The tunnel and the way by which the packets in `inbox` came.
    origin: Option<(TunnelIx, Way)>,
    next_tick: Option<Instant>,
    drops: Drops,
    /// Whether something was dropped since the last flush.
    dropped: bool,
}

pub(crate) struct Entry {
    tunnel: Tunnel,
    /// Where its messages go.
    way: Option<Way>,
    /// Whether the engine knows of the session.
    told: bool,
}

/// Turns the effects of the shared parts into those of a lane.
struct Adapter<'a, S> {
    sink: &'a mut S,
    origin: Option<(TunnelIx, Way)>,
}

impl<S: LaneSink> Sink for Adapter<'_, S> {
    fn send(&mut self, to: SocketAddr, batch: &[u8], stride: usize) {
        self.sink.send(None, to, batch, stride);
    }

    fn send_from(&mut self, from: Option<IpAddr>, to: SocketAddr, batch: &[u8], stride: usize) {
        self.sink.send(from, to, batch, stride);
    }

    fn deliver(&mut self, _: Port, packet: &[u8]) {
        if let Some((tunnel, way)) = self.origin {
            self.sink.tell(News(Said::Packet(tunnel, way)), packet);
        }
    }

    fn event(&mut self, _: Event) {}
}

impl Lane {
    /// A lane without tunnels, with this number, of the runner with this key.
    #[must_use]
    pub fn new(number: LaneIx, private_key: &PrivateKey) -> Self {
        Self {
            number,
            identity: Identity::new(private_key),
            tunnels: NumberMap::default(),
            outbox: Outbox::new(),
            inbox: Coalescer::new(),
            origin: None,
            next_tick: None,
            drops: Drops::new(),
            dropped: false,
        }
    }

    /// Carries out an order of the engine. `packet` is the one that the order is about ([`Order::packet`]), or empty. It is
    /// overwritten.
    pub fn handle_order(&mut self, order: Order, packet: &mut [u8], now: Instant, sink: &mut impl LaneSink) {
        match order.0 {
            Errand::Send(course) => {
                if let Err(reason) = self.send(&course, packet, now, sink) {
                    self.drop(reason);
                }
            }
            Errand::Begin(index, key, way) => {
                let entry = self.entry(index, &key, now);
                entry.way = Some(way);
                let mut message = [0; CONTROL];
                if let Some(len) = entry.tunnel.initiate_anew(&mut message, now) {
                    self.post(way, &message[..len], sink);
                }
                self.expect_tick(now);
            }
            Errand::Handshake(index, key, way, message) => self.handshake(index, &key, way, &message, now, sink),
            Errand::Open(way, datagram) => self.take(way, &datagram, now, sink),
            Errand::Close(index) => {
                self.turn_to(None, sink);
                self.tunnels.remove(&index);
            }
            Errand::Switch(switches) => {
                self.inbox.enable(switches.tun_gso);
                self.outbox.enable(switches.udp_gso);
            }
        }
    }

    /// Handles received datagrams.
    pub fn handle_udp(&mut self, received: &Datagrams<'_>, now: Instant, sink: &mut impl LaneSink) {
        let Datagrams { from, local, bytes, stride, skip } = *received;
        let back = Way { to: from.canonical(), from: local.map(|local| local.to_canonical()) };
        for datagram in bytes.chunks(stride.max(1)) {
            let datagram = datagram.get(skip..).unwrap_or_default();
            match tunnel::data_index(datagram) {
                Some(index) if index.lane() == self.number => self.take(back, datagram, now, sink),
                _ => {
                    if let Hop::Direct(at) = back.to {
                        sink.stray(at, back.from, datagram);
                    }
                }
            }
        }
    }

    /// Does what is due by `now`.
    pub fn handle_timeout(&mut self, now: Instant, sink: &mut impl LaneSink) {
        if self.next_tick.is_none_or(|at| at > now) {
            return;
        }
        self.next_tick = None;
        let all: Vec<TunnelIx> = self.tunnels.keys().copied().collect();
        for index in all {
            self.tick(index, now, sink);
        }
        if !self.tunnels.is_empty() {
            self.expect_tick(now);
        }
    }

    /// Ends a turn: sends the datagrams, and tells the engine what was held back.
    pub fn flush(&mut self, sink: &mut impl LaneSink) {
        self.turn_to(None, sink);
        self.outbox.flush(&mut Adapter { sink, origin: None });
        if std::mem::take(&mut self.dropped) {
            for (reason, count) in
                std::mem::replace(&mut self.drops, Drops::new()).all().filter(|(_, count)| *count > 0)
            {
                sink.tell(News(Said::Dropped(reason, count)), &[]);
            }
        }
    }

    /// When [`Self::handle_timeout`] has to be called next. `None`: not before another input.
    #[must_use]
    pub const fn next_timeout(&self) -> Option<Instant> {
        self.next_tick
    }

    /// The number of tunnels.
    #[must_use]
    pub fn tunnels(&self) -> usize {
        self.tunnels.len()
    }

    fn drop(&mut self, reason: Reason) {
        self.drops.count(reason);
        self.dropped = true;
    }

    fn entry(&mut self, index: TunnelIx, key: &PublicKey, now: Instant) -> &mut Entry {
        let Self { identity, tunnels, .. } = self;
        let new = || Box::new(Entry { tunnel: Tunnel::new(identity, key, index, now), way: None, told: false });
        tunnels.entry(index).or_insert_with(new)
    }

    fn expect_tick(&mut self, now: Instant) {
        self.next_tick.get_or_insert(now + TICK);
    }

    /// Sends a message by itself.
    fn post(&mut self, way: Way, message: &[u8], sink: &mut impl LaneSink) {
        self.outbox.send(way, message, &mut Adapter { sink, origin: None });
    }

    /// Cuts, seals and sends a packet.
    fn send(
        &mut self,
        course: &Course,
        packet: &mut [u8],
        now: Instant,
        sink: &mut impl LaneSink,
    ) -> Result<(), Reason> {
        let stale = self.tunnels.get(&course.tunnel).is_some_and(|entry| entry.tunnel.is_stale(now));
        if stale {
            self.tick(course.tunnel, now, sink);
        }
        let Self { tunnels, outbox, drops, .. } = self;
        let entry = tunnels.get_mut(&course.tunnel).filter(|entry| entry.tunnel.has_session());
        let entry = entry.ok_or(Reason::NoHandshake)?;
        entry.way = Some(course.way);
        let (vnet, ip) = Vnet::parse(packet)?;
        let parsed = Packet::parse(ip)?;
        let Content::Tcp(tcp) = parsed.content else { return Err(Reason::NotTcp) };
        let mut unit = Unit { bytes: packet, packet: parsed, tcp, size: vnet.size, partial: vnet.partial };
        unit.complete()?;
        let mut tx_bytes = 0;
        let mut ready = ReadyPeer {
            tunnel: &mut entry.tunnel,
            way: course.way,
            mtu: course.mtu,
            cut: course.cut,
            proven: None,
            outbox,
            tx_bytes: &mut tx_bytes,
        };
        ready.send(&mut unit, &mut Cx { now, sink: &mut Adapter { sink, origin: None }, drops }).map(drop)
    }

    /// Handles a message of a handshake.
    fn handshake(
        &mut self,
        index: TunnelIx,
        key: &PublicKey,
        back: Way,
        message: &Message,
        now: Instant,
        sink: &mut impl LaneSink,
    ) {
        // The handshake dates the session by the last tick.
        let mut due = [0; CONTROL];
        let ticked = self.tunnels.get_mut(&index).map(|entry| entry.tunnel.tick_anyway(&mut due, now));
        if ticked == Some(Err(tunnel::Dead)) {
            self.turn_to(None, sink);
            self.tunnels.remove(&index);
        }
        let entry = self.entry(index, key, now);
        let mut reply = [0; CONTROL];
        let Some(datagram) = message.bytes.get(..message.len) else { return };
        match entry.tunnel.handshake(datagram, &mut reply, now) {
            Ok(Outcome::Response(len)) => {
                entry.way.get_or_insert(back);
                self.post(back, &reply[..len], sink);
            }
            Ok(Outcome::Session(len)) => {
                (entry.way, entry.told) = (Some(back), true);
                self.post(back, &reply[..len], sink);
                sink.tell(News(Said::Up(index)), &[]);
            }
            Ok(Outcome::Cookie) => {
                if entry.tunnel.retry(&mut reply, now).is_some() {
                    self.post(back, &reply, sink);
                }
            }
            Err(reason) => self.drop(reason),
        }
        self.expect_tick(now);
    }

    /// Opens a data message.
    fn take(&mut self, back: Way, datagram: &[u8], now: Instant, sink: &mut impl LaneSink) {
        let Some(index) = tunnel::data_index(datagram) else { return self.drop(Reason::NotWireGuard) };
        if datagram.len() > UDP_BUFFER {
            return self.drop(Reason::TooLarge);
        }
        if self.origin != Some((index, back)) {
            self.turn_to(Some((index, back)), sink);
        }
        if self.tunnels.get(&index).is_some_and(|entry| entry.tunnel.is_stale(now)) {
            self.tick(index, now, sink);
        }
        let Some(entry) = self.tunnels.get_mut(&index) else { return self.drop(Reason::UnknownSession) };
        let slot = self.inbox.slot();
        let opened = entry.tunnel.open(datagram, slot, now);
        if opened.is_ok() {
            if !back.to.is_relayed() {
                entry.way = Some(back);
            }
            if !entry.told && entry.tunnel.has_session() {
                entry.told = true;
                sink.tell(News(Said::Up(index)), &[]);
            }
        }
        let mut out = Adapter { sink, origin: self.origin };
        let refused = match opened {
            Ok(0) => None,
            Ok(len) if self.inbox.join(SOLE, len, &mut out) => return,
            Ok(len) => match Packet::parse(self.inbox.packet(len)) {
                Ok(packet @ Packet { content: Content::Tcp(tcp), .. }) => {
                    let nothing = (Slot(0), Role::Caller);
                    return self.inbox.deliver(SOLE, Port(0), nothing, &packet, &tcp, &mut out);
                }
                Ok(Packet { content: Content::Foreign { why, .. }, .. }) => Some(why),
                Err(reason) => Some(reason),
            },
            Err(reason) => Some(reason),
        };
        self.inbox.discard();
        if let Some(reason) = refused {
            self.drop(reason);
        }
    }

    /// Tells the engine of the packets that were joined, and begins with those of another origin.
    fn turn_to(&mut self, origin: Option<(TunnelIx, Way)>, sink: &mut impl LaneSink) {
        self.inbox.flush(&mut Adapter { sink, origin: self.origin });
        self.origin = origin;
    }

    /// Ticks a tunnel. One without a session, or one that can still come about, is forgotten.
    fn tick(&mut self, index: TunnelIx, now: Instant, sink: &mut impl LaneSink) {
        let Some(entry) = self.tunnels.get_mut(&index) else { return };
        let Entry { tunnel, way, .. } = &mut **entry;
        let (mut message, way) = ([0; CONTROL], *way);
        let due = tunnel.tick(&mut message, now);
        let alive = tunnel.asking().is_some_and(|since| now.saturating_duration_since(since) < ASKING)
            || tunnel.youngest_session(now).is_some_and(|age| age < SESSION);
        match due {
            Ok(len) if alive => {
                if let Some((way, len)) = way.zip(len) {
                    self.post(way, &message[..len], sink);
                }
            }
            _ => {
                self.turn_to(None, sink);
                self.tunnels.remove(&index);
                sink.tell(News(Said::Down(index)), &[]);
            }
        }
    }
}

/// Packets in a lane's inbox are of one origin ([`Lane::turn_to`]).
const SOLE: RunnerIx = RunnerIx(0);

/// For how long a handshake is tried. Meanwhile the first lane carries everything.
const ASKING: Duration = Duration::from_secs(12);
