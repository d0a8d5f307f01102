//! The timers of the tunnels to other runners.

use std::time::{Duration, Instant};

use super::Peers;
use crate::{
    Event, Sink,
    cx::Cx,
    hop::Way,
    index::RunnerIx,
    path::Around,
    peer::{Peer, Round, TICK, Targets},
    tunnel::{self, CONTROL, Tunnel},
};

/// If a runner is silent for this long, a retransmitted SYN for it starts a handshake: less than the wait between two
/// SYNs.
const DOUBT: Duration = Duration::from_millis(500);

/// If a runner doesn't answer data for this long, a handshake finds out whether it is there: longer than a round trip and
/// a delayed acknowledgement.
pub(super) const SILENT: Duration = Duration::from_millis(1500);

/// A handshake of this age with a runner that doesn't answer is replaced by a new one when the runner is asked again: the
/// old one would be given up before the answer.
const OLD: Duration = Duration::from_secs(50);

/// A keepalive is sent after this long without a datagram, at the latest, in steps of two seconds: in time for a NAT that
/// forgets after 30 s, as many do.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// How much earlier it may be sent, in milliseconds, so that keepalives to many runners don't come together.
const JITTER: u64 = 5000;

impl Peers {
    /// Does what is due.
    pub(crate) fn tick<S: Sink>(&mut self, cx: &mut Cx<'_, S>) {
        if self.next_tick.is_none_or(|at| at > cx.now) {
            return;
        }
        self.greet(cx);
        self.send_tickets(cx);
        let mut awake = std::mem::take(&mut self.awake);
        for runner in &awake {
            if self.list[*runner].next_tick.is_some_and(|at| at <= cx.now) {
                self.tick_one(*runner, false, cx);
                self.doubt_path_after(SILENT, *runner, cx);
                self.doubt_after(SILENT, *runner, cx);
                self.probe(*runner, cx);
            }
        }
        awake.append(&mut self.awake);
        awake.retain(|runner| {
            let peer = &mut self.list[*runner];
            peer.listed = peer.next_tick.is_some();
            peer.listed
        });
        self.awake = awake;
        self.next_tick = self.awake.iter().filter_map(|runner| self.list[*runner].next_tick).min();
    }

    /// Starts a handshake with a runner, unless one is under way. A runner that doesn't answer is asked less often.
    pub(super) fn begin<S: Sink>(&mut self, runner: RunnerIx, cx: &mut Cx<'_, S>) {
        self.begin_with(Round::First, runner, cx);
    }

    /// As [`Self::begin`]. `round` is the first one.
    pub(super) fn begin_with<S: Sink>(&mut self, round: Round, runner: RunnerIx, cx: &mut Cx<'_, S>) {
        let peer = &self.list[runner];
        let (broken, may_ask) = (peer.is_broken(), peer.may_ask(peer.has_staged(), cx.now));
        if may_ask {
            let is_old = |tunnel: &Tunnel| tunnel.asking_for(cx.now) >= OLD;
            if broken && peer.tunnel.as_deref().is_some_and(is_old) {
                self.drop_tunnel(runner);
            }
            let (mut message, tunnel) = ([0; CONTROL], self.tunnel(runner, cx.now));
            let begun =
                if broken { tunnel.initiate_anew(&mut message, cx.now) } else { tunnel.initiate(&mut message, cx.now) };
            if begun.is_some() {
                let (left, relays_later) = self.ask_at(runner, &message, round, cx);
                self.list[runner].attempted(&message, if broken { 0 } else { left }, relays_later, cx.now);
            }
        }
        self.wake(runner, cx.now);
    }

    #[cfg(test)]
    pub(crate) fn forget_first_lane(&mut self, runner: RunnerIx) {
        self.drop_tunnel(runner);
    }

    fn drop_tunnel(&mut self, runner: RunnerIx) {
        if let Some(tunnel) = self.list[runner].tunnel.take() {
            self.by_tunnel.remove(&tunnel.index());
            self.list[runner].link.close();
        }
    }

    /// Sends an initiation to the addresses of a runner. Returns how many rounds it takes to try all of them, and whether it
    /// goes by relays as well, a moment later.
    fn ask_at<S: Sink>(
        &mut self,
        runner: RunnerIx,
        message: &[u8; CONTROL],
        round: Round,
        cx: &mut Cx<'_, S>,
    ) -> (usize, bool) {
        let Targets { ways, rounds, relays_later } = self.list[runner].targets(round, &self.site, cx.now);
        ways.into_iter().for_each(|way| self.outbox.send(way, message, cx.sink));
        self.want_relay(runner, round, cx);
        (rounds, relays_later)
    }

    /// Asks the owner for an allocation at a relay of a runner, if there is none that both share: at its first one, and at the
    /// others too when that hasn't helped. (It may be out of reach from here, or dead.)
    fn want_relay<S: Sink>(&mut self, runner: RunnerIx, round: Round, cx: &mut Cx<'_, S>) {
        let peer = &self.list[runner];
        let around = Around { site: &self.site, runner: &peer.runner };
        let most = match round {
            _ if !around.is_able() || around.has_relay() => 0,
            Round::First | Round::Greeting if !peer.is_broken() => 1,
            Round::First | Round::Greeting | Round::Again => peer.runner.relayed.len(),
            // A session may just be renewed.
            Round::Timer | Round::Relays => 0,
        };
        for at in peer.runner.relayed.iter().take(most) {
            cx.sink.event(Event::NeedRelay { runner: peer.runner.id, relay: at.relay });
        }
    }

    /// Starts a handshake with a runner if there is no session.
    pub(crate) fn reach<S: Sink>(&mut self, runner: RunnerIx, cx: &mut Cx<'_, S>) {
        if !self.list[runner].is_ready() {
            self.begin(runner, cx);
        }
    }

    /// An initiation of a runner isn't newer than an earlier one. Either an attacker has replayed it, or the runner's clock
    /// was set back, and all of its initiations would be refused from now on. So this runner starts a handshake itself, if
    /// the other one was silent lately. (The other runner's answer is the proof, so that a replay gains nothing.)
    pub(super) fn ask_back<S: Sink>(&mut self, runner: RunnerIx, back: Way, cx: &mut Cx<'_, S>) {
        let peer = &mut self.list[runner];
        if peer.tunnel.as_ref().is_some_and(|tunnel| tunnel.silent_for(cx.now) >= SILENT) {
            peer.link.claim(back);
            self.begin(runner, cx);
        }
    }

    /// Keeps the path to a runner open while connections to it stand: by a keepalive if nothing was sent for a while, and
    /// by a handshake if there is no session, or soon will be none.
    pub(crate) fn keep_alive<S: Sink>(&mut self, runner: RunnerIx, cx: &mut Cx<'_, S>) {
        let jitter = Duration::from_millis(self.numbers.draw() % JITTER);
        let peer = &mut self.list[runner];
        if peer.is_failing() {
            // The search for the runner goes on.
            return peer.want(cx.now);
        }
        let Some(tunnel) = peer.tunnel.as_mut().filter(|tunnel| tunnel.has_session()) else {
            // A runner that was never seen is no end of a standing connection.
            if peer.link.is_known() {
                peer.want(cx.now);
                self.begin(runner, cx);
            }
            return;
        };
        if cx.now.saturating_duration_since(tunnel.sent()) + jitter < KEEPALIVE {
            return;
        }
        if tunnel.is_stale(cx.now) {
            self.tick_one(runner, false, cx);
        }
        let Peer { tunnel, link, .. } = &mut self.list[runner];
        let (Some(tunnel), Some(way)) = (tunnel.as_mut(), link.way()) else { return };
        let silent = tunnel.silent_for(cx.now) >= 3 * KEEPALIVE;
        let (mut message, renew) = ([0; CONTROL], (silent || tunnel.is_worn()) && tunnel.asking().is_none());
        if let Some(len) = tunnel.keepalive(&mut message, cx.now) {
            self.outbox.send(way, &message[..len], cx.sink);
        }
        if renew {
            self.begin(runner, cx);
        }
    }

    /// A callee has not answered a SYN: perhaps because its runner is gone.
    pub(crate) fn doubt<S: Sink>(&mut self, runner: RunnerIx, cx: &mut Cx<'_, S>) {
        self.doubt_after(DOUBT, runner, cx);
    }

    /// If data has gone unanswered for this long, a handshake finds out within seconds whether the runner is there;
    /// boringtun would wait for fifteen.
    fn doubt_after<S: Sink>(&mut self, limit: Duration, runner: RunnerIx, cx: &mut Cx<'_, S>) {
        let tunnel = self.list[runner].tunnel.as_ref();
        let silent = |tunnel: &Tunnel| tunnel.asking().is_none() && tunnel.ignored_for(cx.now) >= limit;
        if tunnel.is_some_and(|tunnel| tunnel.has_session() && silent(tunnel)) {
            self.renew_lanes(runner, cx);
            self.begin(runner, cx);
        }
    }

    /// Data has gone unanswered for this long: if there are other paths, all are asked, and the first answer decides.
    fn doubt_path_after<S: Sink>(&mut self, limit: Duration, runner: RunnerIx, cx: &mut Cx<'_, S>) {
        let Peer { tunnel, link, runner: record, .. } = &mut self.list[runner];
        let silent = tunnel.as_ref().is_some_and(|tunnel| tunnel.has_session() && tunnel.ignored_for(cx.now) >= limit);
        if silent && link.is_up() {
            let errands = link.doubt(Around { site: &self.site, runner: record }, true, cx.now);
            self.run(runner, errands, cx);
        }
    }

    /// Notes that there is data for or from a runner, and ticks its tunnel if that is stale.
    #[inline]
    pub(super) fn use_now<S: Sink>(&mut self, runner: RunnerIx, cx: &mut Cx<'_, S>) {
        let peer = &mut self.list[runner];
        peer.touch(cx.now);
        if peer.tunnel.as_ref().is_some_and(|tunnel| tunnel.is_stale(cx.now)) {
            self.tick_one(runner, false, cx);
        }
        self.wake(runner, cx.now);
    }

    /// Makes sure that a runner is ticked soon.
    #[inline]
    pub(super) fn wake(&mut self, runner: RunnerIx, now: Instant) {
        let (peer, soon) = (&mut self.list[runner], now + TICK);
        if peer.next_tick.is_none_or(|at| at > soon) {
            peer.next_tick = Some(soon);
            self.schedule(runner);
        }
    }

    /// Puts a runner on the list of those that need ticks.
    pub(super) fn schedule(&mut self, runner: RunnerIx) {
        let peer = &mut self.list[runner];
        let Some(at) = peer.next_tick else { return };
        if !std::mem::replace(&mut peer.listed, true) {
            self.awake.push(runner);
        }
        self.next_tick = Some(self.next_tick.map_or(at, |next| next.min(at)));
    }

    /// Ticks one runner's tunnel, `anyway` if a handshake follows.
    pub(super) fn tick_one<S: Sink>(&mut self, runner: RunnerIx, anyway: bool, cx: &mut Cx<'_, S>) {
        let peer = &mut self.list[runner];
        if peer.breaks(cx.now) {
            cx.sink.event(Event::Unreachable { runner: peer.runner.id });
            self.broken.push(peer.runner.id);
            self.broken_at = Some(cx.now);
        }
        let id = peer.runner.id;
        self.rejected.extend(peer.expire_staged(cx.now, cx.drops).into_iter().map(|staged| (id, staged)));
        let mut message = [0; CONTROL];
        let due = peer.tunnel.as_mut().map_or(Ok(None), |tunnel| {
            if anyway { tunnel.tick_anyway(&mut message, cx.now) } else { tunnel.tick(&mut message, cx.now) }
        });
        match due {
            // A runner that doesn't answer is asked at a pace of its own.
            Ok(Some(CONTROL)) if peer.is_broken() => {}
            Ok(Some(CONTROL)) => {
                let (_, relays_later) = self.ask_at(runner, &message, Round::Timer, cx);
                self.list[runner].attempted(&message, 0, relays_later, cx.now);
            }
            Ok(Some(len)) => {
                let way = peer.link.way();
                way.into_iter().for_each(|way| self.outbox.send(way, &message[..len], cx.sink));
            }
            Ok(None) => {
                if let Some((message, round)) = peer.attempt_again(cx.now) {
                    self.ask_at(runner, &message, round, cx);
                }
            }
            Err(tunnel::Dead) => {
                self.drop_tunnel(runner);
                if self.list[runner].has_staged() {
                    self.begin(runner, cx);
                }
            }
        }
        let peer = &self.list[runner];
        if peer.is_broken() && peer.may_ask(peer.has_staged(), cx.now) {
            self.begin(runner, cx);
        }
        if let Some((index, lanes)) = self.list[runner].rest(cx.now) {
            self.by_tunnel.remove(&index);
            lanes.iter().for_each(|lanes| self.close_lanes(lanes.indices(), cx.sink));
        }
        self.schedule(runner);
        self.wake_for_probes(runner, cx.now);
    }
}
