//! Pings to other runners, what their answers say about the paths, and meetings.

use std::time::Instant;

use super::{Peers, ticks::SILENT};
use crate::{
    Event, Sink,
    cx::Cx,
    hop::Way,
    index::RunnerIx,
    path::{Around, Cause, Errand, LEAST, Link, Volley},
    peer::Peer,
    probe::{MEETING, Ping, Pong, Probe},
    tunnel::OVERHEAD,
};

impl Peers {
    /// Lets the paths of a runner decide, and does what they demand.
    fn decide<S: Sink>(
        &mut self,
        runner: RunnerIx,
        decide: impl FnOnce(&mut Link, Around<'_>, Instant) -> Vec<Errand>,
        cx: &mut Cx<'_, S>,
    ) {
        let Peer { link, runner: record, .. } = &mut self.list[runner];
        let errands = decide(link, Around { site: &self.site, runner: record }, cx.now);
        self.run(runner, errands, cx);
    }

    /// There is the first data on the path to a runner, or a meeting waited for data.
    #[cold]
    pub(super) fn begin_probes<S: Sink>(&mut self, runner: RunnerIx, cx: &mut Cx<'_, S>) {
        if self.list[runner].can_pong && self.list[runner].is_ready() {
            self.decide(runner, Link::begin, cx);
        }
    }

    /// Data or a keepalive has come from elsewhere than the path that is used and works.
    #[cold]
    pub(super) fn hear<S: Sink>(&mut self, runner: RunnerIx, back: Way, cx: &mut Cx<'_, S>) {
        let opens = !self.list[runner].link.is_up();
        self.decide(runner, |link, around, now| link.heard(back, around, now), cx);
        let peer = &mut self.list[runner];
        if opens && let Some(rtt) = peer.active().copies.responded_for(cx.now) {
            // The first message of a session answers the response.
            peer.link.note_rtt(rtt);
        }
    }

    /// A runner has answered a handshake by a path.
    pub(super) fn take_answer<S: Sink>(&mut self, runner: RunnerIx, back: Way, cx: &mut Cx<'_, S>) {
        self.decide(runner, |link, around, now| link.answered(back, around, now), cx);
        let peer = &mut self.list[runner];
        if let Some(rtt) = peer.asked_for(cx.now) {
            peer.link.note_rtt(rtt);
        }
        self.send_tickets(cx);
    }

    /// The answer to a handshake has come by another path as well.
    pub(super) fn take_copy<S: Sink>(&mut self, runner: RunnerIx, back: Way, cx: &mut Cx<'_, S>) {
        self.decide(runner, |link, around, now| link.pinged(back, around, now), cx);
    }

    /// An instance sends a packet of `len` bytes to a runner again. Perhaps the path doesn't carry that much any more.
    #[cold]
    pub(crate) fn doubt_path<S: Sink>(&mut self, runner: RunnerIx, len: usize, cx: &mut Cx<'_, S>) {
        self.decide(runner, |link, around, now| link.suspect(Cause::Repetition, around, now), cx);
        let peer = &mut self.list[runner];
        if len > usize::from(LEAST)
            && peer.can_pong
            && let Some(reach) = peer.link.reach()
        {
            reach.doubt();
            self.probe(runner, cx);
        }
    }

    /// Sends the pings that are due.
    pub(super) fn probe<S: Sink>(&mut self, runner: RunnerIx, cx: &mut Cx<'_, S>) {
        let peer = &mut self.list[runner];
        if peer.can_pong && peer.is_ready() {
            let in_use = peer.is_used(cx.now);
            self.decide(runner, |link, around, now| link.poll(around, in_use, now), cx);
        }
    }

    /// Does what the paths of a runner demand.
    pub(super) fn run<S: Sink>(&mut self, runner: RunnerIx, errands: Vec<Errand>, cx: &mut Cx<'_, S>) {
        for errand in errands {
            match errand {
                Errand::Ping(way, volley) => self.launch(runner, way, volley, cx),
                Errand::Meet(way, meet) => self.tell(runner, way, &Probe::Meet(meet), cx),
                Errand::Endpoint(endpoint) => {
                    cx.sink.event(Event::Endpoint { runner: self.list[runner].runner.id, endpoint });
                }
                Errand::Moved => {
                    self.list[runner].tunnel.iter_mut().for_each(|tunnel| tunnel.note_answer());
                }
            }
        }
        self.wake_for_probes(runner, cx.now);
    }

    fn launch<S: Sink>(&mut self, runner: RunnerIx, way: Way, volley: Volley, cx: &mut Cx<'_, S>) {
        let Some(tunnel) = self.list[runner].tunnel.as_mut().filter(|tunnel| tunnel.has_session()) else { return };
        for ping in volley.pings() {
            self.outbox.send_whole(way, cx.sink, |packet, datagram| {
                let len = Probe::Ping(ping).write(packet);
                tunnel.seal(packet, len, len, datagram, cx.now)
            });
        }
    }

    /// Sends a pong or a message of a meeting.
    fn tell<S: Sink>(&mut self, runner: RunnerIx, way: Way, probe: &Probe, cx: &mut Cx<'_, S>) {
        let Some(tunnel) = self.list[runner].tunnel.as_mut().filter(|tunnel| tunnel.has_session()) else { return };
        let (mut packet, mut datagram) = ([0; MEETING as usize], [0; MEETING as usize + OVERHEAD]);
        let len = probe.write(&mut packet);
        if let Some(sealed) = tunnel.seal(&mut packet, len, len, &mut datagram, cx.now) {
            self.outbox.send(way, &datagram[..sealed], cx.sink);
        }
    }

    /// Ticks a runner in time for the next pings, if it is ticked at all.
    pub(super) fn wake_for_probes(&mut self, runner: RunnerIx, now: Instant) {
        let Peer { link, runner: record, tunnel, next_tick, can_pong, .. } = &mut self.list[runner];
        let around = Around { site: &self.site, runner: record };
        let due = link.due(around).filter(|_| *can_pong);
        let silent = tunnel.as_ref().and_then(|tunnel| tunnel.ignored()).filter(|_| around.has_relay() && link.is_up());
        let due = due.into_iter().chain(silent.map(|since| since + SILENT)).filter(|at| *at > now).min();
        if let (Some(next), Some(due)) = (next_tick, due) {
            *next = due.min(*next);
            self.schedule(runner);
        }
    }

    /// Handles a ping, a pong or a message of a meeting, which came from `back`. It is no use of the tunnel, which falls
    /// asleep in spite of it, and it doesn't move the runner.
    #[cold]
    pub(super) fn take_probe<S: Sink>(&mut self, runner: RunnerIx, back: Way, probe: Probe, cx: &mut Cx<'_, S>) {
        match probe {
            Probe::Ping(Ping { path, serial, len }) => {
                let pong = Pong { path, serial, len, seen: back.to.address() };
                self.tell(runner, back, &Probe::Pong(pong), cx);
                self.decide(runner, |link, around, now| link.pinged(back, around, now), cx);
            }
            Probe::Pong(pong) => {
                if self.list[runner].can_pong {
                    self.decide(runner, |link, around, now| link.pong(&pong, around, now), cx);
                    self.answer_ticket(runner, &pong, cx);
                }
            }
            Probe::Meet(meet) => self.decide(runner, |link, around, now| link.met(&meet, back, around, now), cx),
        }
    }

    /// The longest packet that a runner can be sent, if pings have found that out.
    pub(crate) fn proven(&self, runner: RunnerIx) -> Option<u16> {
        self.list[runner].link.proven()
    }
}
