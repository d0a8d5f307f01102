//! All other runners, and what goes to and comes from them by UDP.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use mesh_proto::RunnerId;

use crate::{
    Event, Port, Reason, Sink, VNET,
    departed::Departed,
    drop::Drops,
    limit::{Admission, Admissions, Mac},
    number::{NumberMap, Numbers},
    outbox::{Hop, Outbox},
    packet::Flags,
    peer::{INITIATIONS, Peer, RESPONSES},
    route::Route,
    segment::{Segments, Unit},
    staged::Staged,
    tunnel::{self, CONTROL, Handshake, Identity, Outcome, Tunnel},
};

mod roster;
mod ticks;

/// After how long a handshake that isn't answered makes others preferred: two initiations have been lost by then.
const DEMOTED: Duration = Duration::from_secs(2);

/// What every step of a turn needs.
pub(crate) struct Turn<'a, S> {
    pub(crate) now: Instant,
    pub(crate) sink: &'a mut S,
    pub(crate) drops: &'a mut Drops,
}

/// All other runners, in the order of [`Route::runners`].
pub(crate) struct Peers {
    identity: Identity,
    list: Vec<Peer>,
    /// By the index of the tunnel.
    indexes: NumberMap<u32, u32>,
    numbers: Numbers,
    outbox: Outbox,
    /// Those with something to do, and when the first of them has.
    awake: Vec<u32>,
    next_tick: Option<Instant>,
    /// Where runners were that the map doesn't hold: in an earlier run, or when it held them last.
    recalled: BTreeMap<RunnerId, SocketAddr>,
    /// Those to greet at the next tick.
    greet: Vec<RunnerId>,
    /// Those that have just turned out not to answer.
    broken: Vec<RunnerId>,
    broken_at: Option<Instant>,
    /// What has waited in vain for a runner that doesn't answer, and is to be refused.
    refused: Vec<(RunnerId, Staged)>,
    pub(crate) departed: Departed,
    /// Whether runners may be at loopback.
    has_loopback: bool,
    /// The MTU of every `mesh0`.
    mtu: usize,
    admissions: Admissions,
}

impl Peers {
    pub(crate) fn new(identity: Identity, mut numbers: Numbers) -> Self {
        let admissions = Admissions::new(numbers.draw());
        Self {
            identity,
            list: vec![],
            indexes: NumberMap::default(),
            numbers,
            outbox: Outbox::new(),
            awake: vec![],
            next_tick: None,
            recalled: BTreeMap::new(),
            greet: vec![],
            broken: vec![],
            broken_at: None,
            departed: Departed::default(),
            refused: vec![],
            has_loopback: false,
            mtu: 0,
            admissions,
        }
    }

    /// All of them.
    pub(crate) fn list(&self) -> &[Peer] {
        &self.list
    }

    /// One of them, by its index in the route.
    pub(crate) fn get_mut(&mut self, runner: u32) -> &mut Peer {
        &mut self.list[runner as usize]
    }

    /// Whether a runner doesn't answer: for whoever may choose another one.
    pub(crate) fn is_demoted(&self, runner: u32, now: Instant) -> bool {
        let peer = &self.list[runner as usize];
        let in_vain = peer.tunnel.as_ref().and_then(|tunnel| tunnel.asking_in_vain(now));
        peer.is_broken() || in_vain.is_some_and(|silent| silent >= DEMOTED)
    }

    /// Those that have turned out not to answer since the last call.
    pub(crate) fn take_broken(&mut self) -> Vec<RunnerId> {
        std::mem::take(&mut self.broken)
    }

    /// What has to be refused since the runner that it is for doesn't answer.
    pub(crate) fn take_refused(&mut self) -> Vec<(RunnerId, Staged)> {
        std::mem::take(&mut self.refused)
    }

    /// Switches batches of datagrams on or off.
    pub(crate) const fn enable_batches(&mut self, enabled: bool) {
        self.outbox.enable(enabled);
    }

    /// Sends what waits for more of its kind.
    pub(crate) fn flush(&mut self, sink: &mut impl Sink) {
        self.outbox.flush(sink);
    }

    /// When [`Self::tick`] wants to be called.
    pub(crate) fn next_tick(&self) -> Option<Instant> {
        let now = self.broken.first().and(self.broken_at);
        self.refused.first().map(|(_, staged)| staged.since).or(now).or(self.next_tick)
    }

    /// Sends a packet to a runner; `unit` was read from the TUN `from`. Without a session it waits for one.
    ///
    /// # Errors
    /// If it can't even wait.
    #[inline]
    pub(crate) fn send<S: Sink>(
        &mut self,
        runner: u32,
        from: Port,
        unit: &mut Unit<'_>,
        turn: &mut Turn<'_, S>,
    ) -> Result<(), Reason> {
        self.use_now(runner, turn);
        let mut blocked = false;
        let peer = &mut self.list[runner as usize];
        if peer.is_failing() {
            peer.want(turn.now);
            // What can't be answered is to be refused, though there may be a session yet.
            blocked = peer.is_broken() && unit.tcp.flags.opens();
        }
        let Some(mut way) = self.way(runner).filter(|_| !blocked) else {
            self.list[runner as usize].want(turn.now);
            let staged = self.list[runner as usize].stage(from, unit.octets, turn.now, turn.drops);
            self.begin(runner, turn);
            return staged;
        };
        unit.complete()?;
        way.ask(unit, turn.now);
        match unit.size {
            Some(size) => {
                let mut segments = Segments::new(unit.octets, unit.packet, unit.tcp, size);
                while let Some((segment, len)) = segments.next() {
                    way.seal(&mut segment[VNET..], len - VNET, turn)?;
                }
                Ok(())
            }
            None => way.seal(&mut unit.octets[VNET..], unit.packet.len, turn),
        }
    }

    /// Sends a packet of our own to a runner, which has just sent us one.
    ///
    /// # Errors
    /// If there is no session.
    pub(crate) fn answer<S: Sink>(
        &mut self,
        runner: u32,
        packet: &mut [u8],
        turn: &mut Turn<'_, S>,
    ) -> Result<(), Reason> {
        let len = packet.len();
        self.way(runner).ok_or(Reason::NoHandshake)?.seal(packet, len, turn)
    }

    /// The way to a runner, if packets can go there at once.
    #[inline]
    fn way(&mut self, runner: u32) -> Option<Way<'_>> {
        let Peer { tunnel, path, tx_bytes, .. } = &mut self.list[runner as usize];
        let tunnel = tunnel.as_mut().filter(|tunnel| tunnel.has_session())?;
        Some(Way { tunnel, hop: path.hop()?, mtu: self.mtu, outbox: &mut self.outbox, tx_bytes })
    }

    /// Opens a data message into `packet`; by `back` the sender is answered. Gives who it is from and the length of the packet, zero for a keepalive.
    ///
    /// # Errors
    /// If it isn't of a session of ours, not authentic, or not IPv4.
    #[inline]
    pub(crate) fn open<S: Sink>(
        &mut self,
        back: Hop,
        datagram: &[u8],
        packet: &mut [u8],
        turn: &mut Turn<'_, S>,
    ) -> Result<(u32, usize), Reason> {
        let index = tunnel::data_index(datagram).ok_or(Reason::NotWireGuard)?;
        let runner = *self.indexes.get(&index).ok_or_else(|| self.unknown_session(index, turn.now))?;
        if self.list[runner as usize].tunnel.as_ref().is_some_and(|tunnel| tunnel.is_stale(turn.now)) {
            self.tick_one(runner, false, turn);
        }
        let peer = &mut self.list[runner as usize];
        let tunnel = peer.tunnel.as_mut().ok_or(Reason::UnknownSession)?;
        let len = tunnel.open(datagram, packet, turn.now)?;
        if peer.path.confirm(back) {
            turn.sink.event(Event::Endpoint { runner: peer.runner.id, endpoint: back.to });
        }
        peer.rx_bytes += len as u64;
        peer.heard = Some(turn.now);
        if peer.is_failing() && peer.answered() {
            turn.sink.event(Event::Reachable { runner: peer.runner.id });
        }
        if len > 0 {
            self.use_now(runner, turn);
        }
        Ok((runner, len))
    }

    /// What waited for a session with a runner, if there is one now.
    #[inline]
    pub(crate) fn released(&mut self, runner: u32) -> Option<VecDeque<Staged>> {
        let peer = &mut self.list[runner as usize];
        (peer.has_staged() && peer.is_ready()).then(|| peer.take_staged())
    }

    /// Takes in a message that isn't data, and gives who it is from; by `back` the sender is answered.
    ///
    /// # Errors
    /// If it isn't for us, or nothing comes of it.
    pub(crate) fn handshake<S: Sink>(
        &mut self,
        back: Hop,
        datagram: &[u8],
        route: &Route,
        turn: &mut Turn<'_, S>,
    ) -> Result<u32, Reason> {
        let (runner, initiation) = match self.identity.read(datagram)? {
            Handshake::Initiation(mac) => (self.initiator(back, datagram, &mac, route, turn)?, Some(mac)),
            Handshake::Response { index } => {
                let runner = *self.indexes.get(&index).ok_or(Reason::UnknownSession)?;
                if !self.list[runner as usize].dealings().responses.take(RESPONSES, turn.now) {
                    return Err(Reason::HandshakeLimited);
                }
                (runner, None)
            }
            Handshake::Cookie { index } => (*self.indexes.get(&index).ok_or(Reason::UnknownSession)?, None),
        };
        self.tick_one(runner, true, turn);
        self.wake(runner, turn.now);
        let mut reply = [0; CONTROL];
        let outcome = match self.tunnel(runner, turn.now).handshake(datagram, &mut reply, turn.now) {
            Err(reason) if initiation.is_some() => {
                self.ask_back(runner, back, turn);
                return Err(reason);
            }
            other => other?,
        };
        let peer = &mut self.list[runner as usize];
        if let Some(mac) = initiation {
            peer.dealings().initiations.take(INITIATIONS, turn.now);
            self.admissions.answered(mac);
        }
        match outcome {
            // Whoever replays an initiation from elsewhere doesn't move the endpoint: the first data does.
            Outcome::Response(len) => {
                peer.path.claim(back);
                self.outbox.send(back, &reply[..len], turn.sink);
            }
            Outcome::Session(len) => {
                self.outbox.send(back, &reply[..len], turn.sink);
                if peer.path.confirm(back) {
                    turn.sink.event(Event::Endpoint { runner: peer.runner.id, endpoint: back.to });
                }
                if peer.answered() {
                    turn.sink.event(Event::Reachable { runner: peer.runner.id });
                }
            }
            Outcome::Cookie => {
                let tunnel = peer.tunnel.as_mut();
                if tunnel.and_then(|tunnel| tunnel.retry(&mut reply, turn.now)).is_some() {
                    // It proves the address that we have as seen from there.
                    self.outbox.send(back, &reply, turn.sink);
                    peer.attempted(&reply, 1, turn.now);
                }
            }
        }
        self.use_now(runner, turn);
        Ok(runner)
    }

    /// Who sends an initiation; the cheapest question first.
    ///
    /// # Errors
    /// If it isn't worth an answer, or its sender has to prove its address and was told so.
    fn initiator<S: Sink>(
        &mut self,
        back: Hop,
        initiation: &[u8],
        mac: &Mac,
        route: &Route,
        turn: &mut Turn<'_, S>,
    ) -> Result<u32, Reason> {
        if self.admissions.was_answered(mac) {
            return Err(Reason::HandshakeRejected);
        }
        let mut cookie = [0; CONTROL];
        let proof = self.identity.prove(back.to.ip(), initiation, &mut cookie);
        match (self.admissions.admit(back.to.ip(), proof.is_ok(), turn.now), proof) {
            (Admission::Granted, _) => {}
            (Admission::Unproven, Err(len)) => {
                self.outbox.send(back, &cookie[..len], turn.sink);
                return Err(Reason::UnderLoad);
            }
            (Admission::Unproven | Admission::Refused, _) => return Err(Reason::HandshakeLimited),
        }
        let key = self.identity.initiator(initiation)?;
        let unknown =
            || if self.departed.keys.holds(&key, turn.now) { Reason::Departed } else { Reason::UnknownRunner };
        let runner = route.runner_by_key(&key).ok_or_else(unknown)?;
        if self.list[runner as usize].has_begun_enough(turn.now) {
            return Err(Reason::HandshakeLimited);
        }
        Ok(runner)
    }

    /// Why a message of a session that we don't have is dropped.
    #[cold]
    fn unknown_session(&self, index: u32, now: Instant) -> Reason {
        if self.departed.sessions.holds(&index, now) { Reason::Departed } else { Reason::UnknownSession }
    }

    /// A runner's tunnel, made if there is none.
    fn tunnel(&mut self, runner: u32, now: Instant) -> &mut Tunnel {
        let Self { identity, list, indexes, numbers, .. } = self;
        let peer = &mut list[runner as usize];
        peer.tunnel.get_or_insert_with(|| {
            let index = loop {
                let drawn = (numbers.draw() >> 40) as u32;
                if !indexes.contains_key(&drawn) {
                    break drawn;
                }
            };
            indexes.insert(index, runner);
            Box::new(Tunnel::new(identity, &peer.runner.public_key, index, now))
        })
    }
}

/// How packets go to a runner with which there is a session.
struct Way<'a> {
    tunnel: &'a mut Tunnel,
    hop: Hop,
    mtu: usize,
    outbox: &'a mut Outbox,
    tx_bytes: &'a mut u64,
}

impl Way<'_> {
    /// Notes whether a unit asks for an answer.
    #[inline]
    fn ask(&mut self, unit: &Unit<'_>, now: Instant) {
        let flags = unit.tcp.flags;
        if unit.packet.len > unit.tcp.headers || flags.has(Flags::SYN | Flags::FIN) {
            self.tunnel.ask(now);
        }
    }

    /// Sends the first `len` octets of `packet`.
    #[inline]
    fn seal<S: Sink>(&mut self, packet: &mut [u8], len: usize, turn: &mut Turn<'_, S>) -> Result<(), Reason> {
        let sealed = tunnel::sealed_len(len, self.mtu);
        if sealed > crate::MAX_BATCH {
            return Err(Reason::TooLarge);
        }
        let Self { tunnel, mtu, .. } = self;
        let write = |datagram: &mut [u8]| tunnel.seal(packet, len, *mtu, datagram, turn.now) == Some(sealed);
        if !self.outbox.push(self.hop, sealed, turn.sink, write) {
            return Err(Reason::NoHandshake);
        }
        *self.tx_bytes += len as u64;
        Ok(())
    }
}
