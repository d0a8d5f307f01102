//! What the other runners' tunnels need as time passes.

use std::time::{Duration, Instant};

use super::{Peers, Turn};
use crate::{
    Event, Sink,
    outbox::Hop,
    peer::{Peer, TICK},
    tunnel::{self, CONTROL, Tunnel},
};

/// How long a runner may say nothing before a caller that waits for it makes us ask: less than the wait between two SYNs.
const DOUBT: Duration = Duration::from_millis(500);

/// How long it may leave unanswered what asks for an answer before we ask whether it is there: longer than a round trip
/// and a delayed acknowledgement.
const SILENT: Duration = Duration::from_millis(1500);

/// The age at which the handshake with a runner that doesn't answer is made anew when that is asked again: so long before
/// it would be given up that there is time for an answer.
const OLD: Duration = Duration::from_secs(50);

/// After how long without a datagram a keepalive is sent, at the latest, in steps of two seconds: a NAT that forgets after
/// 30 s, as many do, has had one by then. How much earlier one may go, so that those to many runners don't go together, in milliseconds.
const KEEPALIVE: Duration = Duration::from_secs(20);
const JITTER: u64 = 5000;

impl Peers {
    /// Does what has come due.
    pub(crate) fn tick<S: Sink>(&mut self, turn: &mut Turn<'_, S>) {
        if self.next_tick.is_none_or(|at| at > turn.now) {
            return;
        }
        self.greet(turn);
        let mut awake = std::mem::take(&mut self.awake);
        for runner in &awake {
            if self.list[*runner as usize].next_tick.is_some_and(|at| at <= turn.now) {
                self.tick_one(*runner, false, turn);
                self.doubt_after(SILENT, *runner, turn);
            }
        }
        awake.append(&mut self.awake);
        awake.retain(|runner| {
            let peer = &mut self.list[*runner as usize];
            peer.listed = peer.next_tick.is_some();
            peer.listed
        });
        self.awake = awake;
        self.next_tick = self.awake.iter().filter_map(|runner| self.list[*runner as usize].next_tick).min();
    }

    /// Begins a handshake with a runner, unless one is under way. One that doesn't answer is asked now and then only.
    pub(super) fn begin<S: Sink>(&mut self, runner: u32, turn: &mut Turn<'_, S>) {
        let peer = &self.list[runner as usize];
        let (broken, may_ask) = (peer.is_broken(), peer.may_ask(peer.has_staged(), turn.now));
        if may_ask {
            // A handshake that was begun so long ago is about to be given up, whatever is answered.
            let is_old = |tunnel: &Tunnel| tunnel.asking_for(turn.now) >= OLD;
            if broken && peer.tunnel.as_deref().is_some_and(is_old) {
                self.drop_tunnel(runner);
            }
            let (mut message, tunnel) = ([0; CONTROL], self.tunnel(runner, turn.now));
            let begun = if broken {
                tunnel.initiate_anew(&mut message, turn.now)
            } else {
                tunnel.initiate(&mut message, turn.now)
            };
            if begun.is_some() {
                let left = self.ask_at(runner, &message, true, turn);
                self.list[runner as usize].attempted(&message, if broken { 0 } else { left }, turn.now);
            }
        }
        self.wake(runner, turn.now);
    }

    fn drop_tunnel(&mut self, runner: u32) {
        if let Some(tunnel) = self.list[runner as usize].tunnel.take() {
            self.indexes.remove(&tunnel.index());
        }
    }

    /// Sends an initiation where the runner may be. Gives how often that takes until it was sent everywhere.
    fn ask_at<S: Sink>(&mut self, runner: u32, message: &[u8; CONTROL], begins: bool, turn: &mut Turn<'_, S>) -> usize {
        let (targets, rounds) = self.list[runner as usize].targets(begins, self.has_loopback, turn.now);
        targets.into_iter().for_each(|hop| self.outbox.send(hop, message, turn.sink));
        rounds
    }

    /// There is something to tell a runner: begins a handshake if there is no session.
    pub(crate) fn reach<S: Sink>(&mut self, runner: u32, turn: &mut Turn<'_, S>) {
        if !self.list[runner as usize].is_ready() {
            self.begin(runner, turn);
        }
    }

    /// An initiation of a runner's is not newer than one before: it was recorded, and sent again by anybody; or the clock
    /// there was set back, and it would be refused for as long as we remember. So it is asked in turn, by our clock, if
    /// nothing else has come from it lately. (Its answer is the proof; whoever sends recorded ones gains nothing.)
    pub(super) fn ask_back<S: Sink>(&mut self, runner: u32, back: Hop, turn: &mut Turn<'_, S>) {
        let peer = &mut self.list[runner as usize];
        if peer.tunnel.as_ref().is_some_and(|tunnel| tunnel.silent_for(turn.now) >= SILENT) {
            peer.path.claim(back);
            self.begin(runner, turn);
        }
    }

    /// Keeps the path to a runner open, with which connections stand: with a keepalive if nothing was sent for a while, and
    /// with a handshake if there is no session, or none for long.
    pub(crate) fn keep_alive<S: Sink>(&mut self, runner: u32, turn: &mut Turn<'_, S>) {
        let jitter = Duration::from_millis(self.numbers.draw() % JITTER);
        let peer = &mut self.list[runner as usize];
        if peer.is_failing() {
            // It is being looked for, and that goes on.
            return peer.want(turn.now);
        }
        let Some(tunnel) = peer.tunnel.as_mut().filter(|tunnel| tunnel.has_session()) else {
            // Only where it was once: who never was there has no part in a connection.
            if peer.path.is_known() {
                peer.want(turn.now);
                self.begin(runner, turn);
            }
            return;
        };
        if turn.now.saturating_duration_since(tunnel.sent()) + jitter < KEEPALIVE {
            return;
        }
        if tunnel.is_stale(turn.now) {
            self.tick_one(runner, false, turn);
        }
        let Peer { tunnel, path, .. } = &mut self.list[runner as usize];
        let (Some(tunnel), Some(hop)) = (tunnel.as_mut(), path.hop()) else { return };
        let silent = tunnel.silent_for(turn.now) >= 3 * KEEPALIVE;
        let (mut message, renew) = ([0; CONTROL], (silent || tunnel.is_worn()) && tunnel.asking().is_none());
        if let Some(len) = tunnel.keepalive(&mut message, turn.now) {
            self.outbox.send(hop, &message[..len], turn.sink);
        }
        if renew {
            self.begin(runner, turn);
        }
    }

    /// Somebody there has not answered what surely asks for an answer: it may be the runner that isn't there any more.
    pub(crate) fn doubt<S: Sink>(&mut self, runner: u32, turn: &mut Turn<'_, S>) {
        self.doubt_after(DOUBT, runner, turn);
    }

    /// If nothing at all has come from the runner for so long, a handshake finds out within seconds whether it is there:
    /// boringtun would wait for fifteen.
    fn doubt_after<S: Sink>(&mut self, limit: Duration, runner: u32, turn: &mut Turn<'_, S>) {
        let tunnel = self.list[runner as usize].tunnel.as_ref();
        let silent = |tunnel: &Tunnel| tunnel.asking().is_none() && tunnel.ignored_for(turn.now) >= limit;
        if tunnel.is_some_and(|tunnel| tunnel.has_session() && silent(tunnel)) {
            self.begin(runner, turn);
        }
    }

    /// Notes that there is data for or from a runner; ticks its tunnel if it has slept.
    #[inline]
    pub(super) fn use_now<S: Sink>(&mut self, runner: u32, turn: &mut Turn<'_, S>) {
        let peer = &mut self.list[runner as usize];
        peer.touch(turn.now);
        if peer.tunnel.as_ref().is_some_and(|tunnel| tunnel.is_stale(turn.now)) {
            self.tick_one(runner, false, turn);
        }
        self.wake(runner, turn.now);
    }

    /// Sees to it that a runner is ticked before long.
    #[inline]
    pub(super) fn wake(&mut self, runner: u32, now: Instant) {
        let (peer, soon) = (&mut self.list[runner as usize], now + TICK);
        if peer.next_tick.is_none_or(|at| at > soon) {
            peer.next_tick = Some(soon);
            self.schedule(runner);
        }
    }

    /// Takes account of when a runner wants to be ticked next.
    fn schedule(&mut self, runner: u32) {
        let peer = &mut self.list[runner as usize];
        let Some(at) = peer.next_tick else { return };
        if !std::mem::replace(&mut peer.listed, true) {
            self.awake.push(runner);
        }
        self.next_tick = Some(self.next_tick.map_or(at, |next| next.min(at)));
    }

    /// Ticks one runner's tunnel: `anyway` before a handshake.
    pub(super) fn tick_one<S: Sink>(&mut self, runner: u32, anyway: bool, turn: &mut Turn<'_, S>) {
        let peer = &mut self.list[runner as usize];
        if peer.breaks(turn.now) {
            turn.sink.event(Event::Unreachable { runner: peer.runner.id });
            self.broken.push(peer.runner.id);
            self.broken_at = Some(turn.now);
        }
        let id = peer.runner.id;
        self.refused.extend(peer.expire_staged(turn.now, turn.drops).into_iter().map(|staged| (id, staged)));
        let mut message = [0; CONTROL];
        let due = peer.tunnel.as_mut().map_or(Ok(None), |tunnel| {
            if anyway { tunnel.tick_anyway(&mut message, turn.now) } else { tunnel.tick(&mut message, turn.now) }
        });
        match due {
            // One that doesn't answer is asked at another pace.
            Ok(Some(CONTROL)) if peer.is_broken() => {}
            Ok(Some(CONTROL)) => {
                self.ask_at(runner, &message, false, turn);
                self.list[runner as usize].attempted(&message, 0, turn.now);
            }
            Ok(Some(len)) => {
                peer.path.hop().into_iter().for_each(|hop| self.outbox.send(hop, &message[..len], turn.sink));
            }
            Ok(None) => {
                if let Some(message) = peer.attempt_again(turn.now) {
                    self.ask_at(runner, &message, false, turn);
                }
            }
            Err(tunnel::Dead) => {
                self.drop_tunnel(runner);
                if self.list[runner as usize].has_staged() {
                    self.begin(runner, turn);
                }
            }
        }
        let peer = &self.list[runner as usize];
        if peer.is_broken() && peer.may_ask(peer.has_staged(), turn.now) {
            self.begin(runner, turn);
        }
        if let Some(index) = self.list[runner as usize].rest(turn.now) {
            self.indexes.remove(&index);
        }
        self.schedule(runner);
    }
}
