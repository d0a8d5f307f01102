//! All other runners, and the datagrams from and to them.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use mesh_proto::RunnerId;

use crate::{
    Port, Reason, Sink,
    cx::Cx,
    departed::Departed,
    hop::Way,
    index::{IxVec, RunnerIx},
    limit::Admissions,
    number::{NumberMap, Numbers},
    outbox::Outbox,
    path::Site,
    peer::Peer,
    probe,
    ready::ReadyPeer,
    segment::Unit,
    staged::Staged,
    tunnel::{self, Identity, TunnelIx},
};

mod handshakes;
mod lanes;
mod moves;
mod pings;
mod probes;
mod roster;
mod ticks;

use self::{moves::Moves, pings::Tickets};

/// A runner with a handshake that is unanswered for this long is chosen last: two initiations are lost by then.
const DEMOTED: Duration = Duration::from_secs(2);

/// All other runners, in the order of [`Route::runners`].
pub(crate) struct Peers {
    identity: Identity,
    list: IxVec<RunnerIx, Peer>,
    by_tunnel: NumberMap<TunnelIx, RunnerIx>,
    numbers: Numbers,
    outbox: Outbox,
    /// The peers that need ticks, and when the first tick is due.
    awake: Vec<RunnerIx>,
    next_tick: Option<Instant>,
    /// The last endpoints of runners that the map doesn't hold, from an earlier run or an earlier map.
    recalled: BTreeMap<RunnerId, SocketAddr>,
    /// The runners that get a handshake with the next tick.
    greet: Vec<RunnerId>,
    /// The runners that have just turned out not to answer.
    broken: Vec<RunnerId>,
    broken_at: Option<Instant>,
    /// Packets that have waited in vain for a runner that doesn't answer.
    rejected: Vec<(RunnerId, Staged)>,
    pub(crate) departed: Departed,
    site: Site,
    admissions: Admissions,
    /// Pings whose answers are waited for.
    tickets: Tickets,
    moves: Moves,
    /// How many lanes this runner has.
    lanes: usize,
}

impl Peers {
    pub(crate) fn new(identity: Identity, mut numbers: Numbers) -> Self {
        let admissions = Admissions::new(numbers.draw());
        Self {
            identity,
            list: IxVec::new(),
            by_tunnel: NumberMap::default(),
            numbers,
            outbox: Outbox::new(),
            awake: vec![],
            next_tick: None,
            recalled: BTreeMap::new(),
            greet: vec![],
            broken: vec![],
            broken_at: None,
            departed: Departed::default(),
            rejected: vec![],
            site: Site::default(),
            admissions,
            tickets: Tickets::default(),
            moves: Moves::default(),
            lanes: 1,
        }
    }

    pub(crate) const fn list(&self) -> &IxVec<RunnerIx, Peer> {
        &self.list
    }

    /// All direct addresses of a peer.
    pub(crate) fn all<'a>(&'a self, peer: &'a Peer) -> impl Iterator<Item = SocketAddr> {
        peer.all(&self.site)
    }

    pub(crate) fn get_mut(&mut self, runner: RunnerIx) -> &mut Peer {
        &mut self.list[runner]
    }

    /// Whether a runner doesn't answer, so that others are chosen first.
    pub(crate) fn is_demoted(&self, runner: RunnerIx, now: Instant) -> bool {
        let peer = &self.list[runner];
        let in_vain = peer.tunnel.as_ref().and_then(|tunnel| tunnel.asking_in_vain(now));
        peer.is_broken() || in_vain.is_some_and(|silent| silent >= DEMOTED)
    }

    /// The runners that have turned out not to answer since the last call.
    pub(crate) fn take_broken(&mut self) -> Vec<RunnerId> {
        std::mem::take(&mut self.broken)
    }

    /// The packets to reject because their runner doesn't answer.
    pub(crate) fn take_rejected(&mut self) -> Vec<(RunnerId, Staged)> {
        std::mem::take(&mut self.rejected)
    }

    /// Switches batches of datagrams on or off.
    pub(crate) const fn enable_batches(&mut self, enabled: bool) {
        self.outbox.enable(enabled);
    }

    /// Sends the datagrams that wait for more of their kind.
    pub(crate) fn flush(&mut self, sink: &mut impl Sink) {
        self.outbox.flush(sink);
    }

    /// When [`Self::tick`] is due.
    pub(crate) fn next_tick(&self) -> Option<Instant> {
        let now = self.broken.first().and(self.broken_at);
        let soonest = [self.next_tick, self.moves.next()].into_iter().flatten().min();
        self.rejected.first().map(|(_, staged)| staged.since).or(now).or(soonest)
    }

    /// Sends a packet that was read from the TUN `from` to a runner, in segments that the path carries. Without a session it
    /// waits for one. Returns the number of segments.
    ///
    /// # Errors
    /// If it can't even wait.
    #[inline]
    pub(crate) fn send<S: Sink>(
        &mut self,
        runner: RunnerIx,
        from: Port,
        unit: &mut Unit<'_>,
        cx: &mut Cx<'_, S>,
    ) -> Result<usize, Reason> {
        self.use_now(runner, cx);
        let mut blocked = false;
        let peer = &mut self.list[runner];
        if peer.is_failing() {
            peer.want(cx.now);
            // A SYN is rejected rather than sent by a session that may no longer work.
            blocked = peer.is_broken() && unit.tcp.flags.opens();
        }
        if peer.waits_for_data() {
            self.begin_probes(runner, cx);
        }
        let Some(mut ready) = self.ready(runner).filter(|_| !blocked) else {
            self.list[runner].want(cx.now);
            let staged = self.list[runner].stage(from, unit.bytes, cx.now, cx.drops);
            self.begin(runner, cx);
            return staged.map(|()| 1);
        };
        unit.complete()?;
        ready.note_question(unit, cx.now);
        ready.send(unit, cx)
    }

    /// Sends a packet that the engine made to a runner.
    ///
    /// # Errors
    /// If there is no session.
    pub(crate) fn answer<S: Sink>(
        &mut self,
        runner: RunnerIx,
        packet: &mut [u8],
        cx: &mut Cx<'_, S>,
    ) -> Result<(), Reason> {
        let len = packet.len();
        self.ready(runner).ok_or(Reason::NoHandshake)?.seal(packet, len, cx)
    }

    /// The peer, if packets can be sent to it at once.
    #[inline]
    fn ready(&mut self, runner: RunnerIx) -> Option<ReadyPeer<'_>> {
        let Peer { tunnel, link, tx_bytes, .. } = &mut self.list[runner];
        let tunnel = tunnel.as_mut().filter(|tunnel| tunnel.has_session())?;
        let (way, cut) = (link.way()?, link.cut().unwrap_or(usize::MAX));
        Some(ReadyPeer {
            tunnel,
            way,
            mtu: self.site.mtu.min(cut),
            cut,
            proven: link.proven(),
            outbox: &mut self.outbox,
            tx_bytes,
        })
    }

    /// Decrypts a data message into `packet`. `back` is the way to its sender. Returns the runner and the length of the
    /// packet, which is zero for a keepalive. Pings and pongs are handled here, and look like keepalives to the caller.
    ///
    /// # Errors
    /// If the message belongs to no session, isn't authentic, or isn't IPv4.
    #[inline]
    pub(crate) fn open<S: Sink>(
        &mut self,
        back: Way,
        datagram: &[u8],
        packet: &mut [u8],
        cx: &mut Cx<'_, S>,
    ) -> Result<(RunnerIx, usize), Reason> {
        let index = tunnel::data_index(datagram).ok_or(Reason::NotWireGuard)?;
        let runner = *self.by_tunnel.get(&index).ok_or_else(|| self.unknown_session(index, cx.now))?;
        if self.list[runner].tunnel.as_ref().is_some_and(|tunnel| tunnel.is_stale(cx.now)) {
            self.tick_one(runner, false, cx);
        }
        let peer = &mut self.list[runner];
        let tunnel = peer.tunnel.as_mut().ok_or(Reason::UnknownSession)?;
        let len = tunnel.open(datagram, packet, cx.now)?;
        let probe = probe::parse(&packet[..len]);
        if probe.is_none() {
            tunnel.note_answer();
        }
        Self::note_life(peer, cx);
        if let Some(probe) = probe {
            self.take_probe(runner, back, probe, cx);
            return Ok((runner, 0));
        }
        self.note_data(runner, back, len, cx);
        Ok((runner, len))
    }

    /// The packets that waited for a session with a runner, if there is one now.
    #[inline]
    pub(crate) fn released(&mut self, runner: RunnerIx) -> Option<VecDeque<Staged>> {
        let peer = &mut self.list[runner];
        (peer.has_staged() && peer.is_ready()).then(|| peer.take_staged())
    }

    /// Why a message of an unknown session is dropped.
    #[cold]
    fn unknown_session(&self, index: TunnelIx, now: Instant) -> Reason {
        if self.departed.sessions.holds(&index, now) { Reason::Departed } else { Reason::UnknownSession }
    }
}
