//! The further lanes of each runner.
//!
//! They are opened once there is enough to carry, and closed by themselves when their sessions end unused. All of them use
//! the path that the first lane has found. What goes by them counts as data of the first lane: so the silence of a runner
//! or of a path is noticed as ever.

use std::time::{Duration, Instant};

use mesh_proto::{Ability, RunnerId};

use super::Peers;
use crate::{
    Event, Reason, Sink,
    cx::Cx,
    hop::Way,
    index::{RunnerIx, TunnelIx},
    lane_set::{LANES, LaneIx, LaneSet},
    number::{NumberMap, Numbers},
    order::{Course, Errand, Message, Order},
    peer::{INITIATIONS, LaneState, Peer},
    segment::{self, Unit},
    tunnel::CONTROL,
};

/// Lanes are asked for once this many bytes of bulk go to one runner within this time (80 Mbit/s): then their handshakes
/// and their memory are worth it.
const ENOUGH: usize = 1_000_000;
const WINDOW: Duration = Duration::from_millis(100);

/// How often lanes are asked for that a runner hasn't answered.
const AGAIN: Duration = Duration::from_secs(60);

/// After this long without a packet a lane isn't worth a handshake.
const UNUSED: Duration = Duration::from_secs(20);

impl Peers {
    /// Says how many lanes this runner has, with the engine's own.
    pub(crate) const fn set_lanes(&mut self, lanes: usize) {
        self.lanes = if lanes > LANES { LANES } else { lanes };
    }

    /// Whether there are lanes beside the engine's own.
    #[inline]
    pub(crate) const fn has_lanes(&self) -> bool {
        self.lanes > 1
    }

    /// The lanes by which a runner can be sent packets, and whether connections may be assigned to them now.
    #[inline]
    pub(crate) fn lanes(&self, runner: RunnerIx, now: Instant) -> (LaneSet, bool) {
        let peer = &self.list[runner];
        let is_direct = peer.link.way().is_some_and(|way| !way.to.is_relayed());
        match peer.lanes().filter(|_| is_direct && peer.is_ready()) {
            Some(lanes) => (lanes.up(), lanes.is_settled(now)),
            None => (LaneSet::FIRST, true),
        }
    }

    /// Notes bulk for a runner, and asks for lanes if it is enough.
    pub(crate) fn note_load<S: Sink>(&mut self, runner: RunnerIx, bytes: usize, cx: &mut Cx<'_, S>) {
        let peer = &mut self.list[runner];
        if !peer.runner.can.has(Ability::Lanes) {
            return;
        }
        let lanes = peer.active().lanes.get_or_insert_default();
        if lanes.since.is_none_or(|since| cx.now.saturating_duration_since(since) >= WINDOW) {
            (lanes.since, lanes.carried) = (Some(cx.now), 0);
        }
        lanes.carried += bytes;
        let may_ask = lanes.asked.is_none_or(|then| cx.now.saturating_duration_since(then) >= AGAIN);
        if lanes.carried >= ENOUGH && may_ask {
            lanes.asked = Some(cx.now);
            self.ask_for_lanes(runner, |state| state == LaneState::Closed, cx);
        }
    }

    /// The runner may have lost its sessions, or the path is silent: the first lane carries everything until each other lane
    /// has made a handshake. Lanes that are idle are closed.
    pub(super) fn renew_lanes<S: Sink>(&mut self, runner: RunnerIx, cx: &mut Cx<'_, S>) {
        let lanes = self.list[runner].active().lanes.as_deref_mut();
        let Some(lanes) = lanes.filter(|lanes| lanes.up() != LaneSet::FIRST) else { return };
        if lanes.used.is_some_and(|then| cx.now.saturating_duration_since(then) < UNUSED) {
            lanes.asked = Some(cx.now);
            return self.ask_for_lanes(runner, |state| matches!(state, LaneState::Up(_)), cx);
        }
        let idle = std::mem::take(&mut lanes.states);
        self.close_lanes(idle.into_iter().filter_map(LaneState::index), cx.sink);
    }

    fn ask_for_lanes<S: Sink>(&mut self, runner: RunnerIx, which: impl Fn(LaneState) -> bool, cx: &mut Cx<'_, S>) {
        let Some(way) = self.list[runner].link.way().filter(|way| !way.to.is_relayed()) else { return };
        for lane in LaneIx::further(self.lanes) {
            let state = self.list[runner].active().lanes.get_or_insert_default().states[lane.0 as usize];
            if which(state) {
                let index = self.lane_index(runner, lane);
                self.set_state(runner, lane, LaneState::Asked(index));
                let key = self.list[runner].runner.public_key;
                cx.sink.order(lane, Order(Errand::Begin(index, key, way)));
            }
        }
    }

    /// The index of a runner's tunnel on this lane, which is drawn if there is none.
    fn lane_index(&mut self, runner: RunnerIx, lane: LaneIx) -> TunnelIx {
        let lanes = self.list[runner].active().lanes.get_or_insert_default();
        if let Some(index) = lanes.states[lane.0 as usize].index() {
            return index;
        }
        let index = draw(&mut self.numbers, &self.by_tunnel, lane);
        self.by_tunnel.insert(index, runner);
        self.set_state(runner, lane, LaneState::Asked(index));
        index
    }

    fn set_state(&mut self, runner: RunnerIx, lane: LaneIx, state: LaneState) {
        self.list[runner].active().lanes.get_or_insert_default().states[lane.0 as usize] = state;
    }

    /// Passes an initiation on to the lane that it is for.
    ///
    /// # Errors
    /// If this runner doesn't have that lane, or the other one has started as many handshakes as it may.
    pub(super) fn initiate_lane<S: Sink>(
        &mut self,
        lane: LaneIx,
        runner: RunnerIx,
        back: Way,
        datagram: &[u8],
        cx: &mut Cx<'_, S>,
    ) -> Result<(), Reason> {
        if usize::from(lane.0) >= self.lanes || back.to.is_relayed() {
            return Err(Reason::NoLane);
        }
        let lanes = self.list[runner].active().lanes.get_or_insert_default();
        if !lanes.initiations.take(INITIATIONS, cx.now) {
            return Err(Reason::HandshakeLimited);
        }
        let index = self.lane_index(runner, lane);
        self.pass_on(index, runner, back, datagram, cx)
    }

    /// Passes a message of a handshake on to the lane of its tunnel.
    ///
    /// # Errors
    /// If it is longer than any.
    pub(super) fn pass_on<S: Sink>(
        &mut self,
        index: TunnelIx,
        runner: RunnerIx,
        back: Way,
        datagram: &[u8],
        cx: &mut Cx<'_, S>,
    ) -> Result<(), Reason> {
        let mut bytes = [0; CONTROL];
        bytes.get_mut(..datagram.len()).ok_or(Reason::NotWireGuard)?.copy_from_slice(datagram);
        let message = Box::new(Message { bytes, len: datagram.len() });
        let key = self.list[runner].runner.public_key;
        cx.sink.order(index.lane(), Order(Errand::Handshake(index, key, back, message)));
        Ok(())
    }

    /// Passes data on to the lane of its tunnel: it came by a relay, or the kernel doesn't tell lanes apart.
    ///
    /// # Errors
    /// If there is no such tunnel.
    #[cold]
    pub(crate) fn redirect<S: Sink>(
        &mut self,
        index: TunnelIx,
        back: Way,
        datagram: &[u8],
        cx: &mut Cx<'_, S>,
    ) -> Result<(), Reason> {
        if !self.by_tunnel.contains_key(&index) {
            return Err(self.unknown_session(index, cx.now));
        }
        cx.sink.order(index.lane(), Order(Errand::Open(back, datagram.into())));
        Ok(())
    }

    /// Hands a packet over to a lane that is up. Returns the number of segments.
    pub(crate) fn hand_over<S: Sink>(
        &mut self,
        runner: RunnerIx,
        lane: LaneIx,
        unit: &Unit<'_>,
        waits: bool,
        cx: &mut Cx<'_, S>,
    ) -> Option<usize> {
        self.use_now(runner, cx);
        if self.list[runner].waits_for_data() {
            self.begin_probes(runner, cx);
        }
        if self.list[runner].is_failing() {
            self.list[runner].want(cx.now);
        }
        let lanes = self.list[runner].active().lanes.as_deref_mut()?;
        lanes.used = Some(cx.now);
        let tunnel = lanes.states.get(usize::from(lane.0))?.index()?;
        let id: RunnerId = self.list[runner].runner.id;
        let mut ready = self.ready(runner)?;
        ready.note_question(unit, cx.now);
        let segments = segment::count(unit.bytes);
        *ready.tx_bytes += (unit.packet.len + (segments - 1) * unit.tcp.headers) as u64;
        let (way, cut, mtu) = (ready.way, ready.cut, ready.mtu);
        cx.sink.order(lane, Order(Errand::Send(Course { tunnel, runner: id, way, cut, mtu, waits })));
        Some(segments)
    }

    /// Notes a packet that has come by a lane: as many bytes as its segments have together. Returns its runner.
    ///
    /// # Errors
    /// If the tunnel was closed meanwhile.
    pub(crate) fn hear_by_lane<S: Sink>(
        &mut self,
        index: TunnelIx,
        back: Way,
        bytes: usize,
        cx: &mut Cx<'_, S>,
    ) -> Result<RunnerIx, Reason> {
        let runner = *self.by_tunnel.get(&index).ok_or_else(|| self.unknown_session(index, cx.now))?;
        let peer = &mut self.list[runner];
        peer.tunnel.iter_mut().for_each(|tunnel| tunnel.note_answer());
        if let Some(lanes) = peer.active().lanes.as_deref_mut() {
            lanes.used = Some(cx.now);
        }
        Self::note_life(peer, cx);
        self.note_data(runner, back, bytes, cx);
        Ok(runner)
    }

    /// What has come from a runner, by any lane.
    #[inline]
    pub(super) fn note_data<S: Sink>(&mut self, runner: RunnerIx, back: Way, len: usize, cx: &mut Cx<'_, S>) {
        let peer = &mut self.list[runner];
        let settled = peer.link.is_settled(&back);
        if len > 0 {
            peer.rx_bytes += len as u64;
        }
        if !settled {
            self.hear(runner, back, cx);
        }
        if len > 0 {
            if self.list[runner].link.has_meeting() {
                self.begin_probes(runner, cx);
            }
            self.use_now(runner, cx);
        }
    }

    /// Notes that a runner is alive.
    #[inline]
    pub(super) fn note_life<S: Sink>(peer: &mut Peer, cx: &mut Cx<'_, S>) {
        peer.heard = Some(cx.now);
        if peer.is_failing() && peer.answered() {
            cx.sink.event(Event::Reachable { runner: peer.runner.id });
        }
    }

    /// A lane has a session.
    pub(crate) fn note_up(&mut self, index: TunnelIx) {
        if let Some(runner) = self.by_tunnel.get(&index).copied() {
            self.set_state(runner, index.lane(), LaneState::Up(index));
        }
    }

    /// A lane has forgotten a tunnel.
    pub(crate) fn note_down(&mut self, index: TunnelIx) {
        if let Some(runner) = self.by_tunnel.remove(&index) {
            self.set_state(runner, index.lane(), LaneState::Closed);
        }
    }

    /// Closes lanes of a runner, by their tunnels.
    pub(super) fn close_lanes<S: Sink>(&mut self, tunnels: impl Iterator<Item = TunnelIx>, sink: &mut S) {
        for index in tunnels {
            self.by_tunnel.remove(&index);
            sink.order(index.lane(), Order(Errand::Close(index)));
        }
    }
}

/// An index that no tunnel has.
pub(super) fn draw(numbers: &mut Numbers, taken: &NumberMap<TunnelIx, RunnerIx>, lane: LaneIx) -> TunnelIx {
    loop {
        let drawn = TunnelIx::on(lane, (numbers.draw() >> 40) as u32);
        if !taken.contains_key(&drawn) {
            return drawn;
        }
    }
}
