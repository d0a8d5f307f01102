//! Pings to other runners, and what their answers say about the paths.

use std::time::Instant;

use super::Peers;
use crate::{
    Sink,
    cx::Cx,
    hop::Way,
    index::RunnerIx,
    path::{LEAST, Volley},
    peer::Peer,
    probe::{Ping, Pong, Probe, SHORT},
    tunnel::CONTROL,
};

impl Peers {
    /// There is the first data on the path to a runner.
    #[cold]
    pub(super) fn try_path<S: Sink>(&mut self, runner: RunnerIx, cx: &mut Cx<'_, S>) {
        let peer = &mut self.list[runner];
        if peer.is_ready()
            && let Some(volley) = peer.path.reach().begin(cx.now)
        {
            self.launch(runner, volley, cx);
        }
    }

    /// An instance sends a packet of `len` bytes to a runner again. Perhaps the path doesn't carry that much any more.
    #[cold]
    pub(crate) fn doubt_path<S: Sink>(&mut self, runner: RunnerIx, len: usize, cx: &mut Cx<'_, S>) {
        let peer = &mut self.list[runner];
        if len > usize::from(LEAST) && peer.can_pong {
            peer.path.reach().doubt();
            self.probe(runner, cx);
        }
    }

    /// Sends the pings that are due.
    pub(super) fn probe<S: Sink>(&mut self, runner: RunnerIx, cx: &mut Cx<'_, S>) {
        let top = self.top();
        let peer = &mut self.list[runner];
        if !peer.can_pong || peer.path.is_untried() || !peer.is_ready() || !peer.is_used(cx.now) {
            return;
        }
        match peer.path.reach().poll(top, cx.now) {
            Some(volley) => self.launch(runner, volley, cx),
            None => self.wake_for_probes(runner, cx.now),
        }
    }

    fn launch<S: Sink>(&mut self, runner: RunnerIx, volley: Volley, cx: &mut Cx<'_, S>) {
        let Peer { tunnel, path, .. } = &mut self.list[runner];
        let (Some(tunnel), Some(way)) = (tunnel.as_mut(), path.way()) else { return };
        for ping in volley.pings() {
            self.outbox.send_whole(way, cx.sink, |packet, datagram| {
                let len = Probe::Ping(ping).write(packet);
                tunnel.seal(packet, len, len, datagram, cx.now)
            });
        }
        self.wake_for_probes(runner, cx.now);
    }

    /// Ticks a runner in time for the next pings, if it is ticked at all.
    pub(super) fn wake_for_probes(&mut self, runner: RunnerIx, now: Instant) {
        let peer = &mut self.list[runner];
        let due = peer.path.pings_due().filter(|at| *at > now);
        if let (Some(next), Some(due)) = (&mut peer.next_tick, due) {
            *next = due.min(*next);
            self.schedule(runner);
        }
    }

    /// Handles a ping or a pong of a runner, which came from `back`. It is no use of the tunnel, which falls asleep in spite
    /// of it.
    #[cold]
    pub(super) fn take_probe<S: Sink>(&mut self, runner: RunnerIx, back: Way, probe: Probe, cx: &mut Cx<'_, S>) {
        let top = self.top();
        let peer = &mut self.list[runner];
        match probe {
            Probe::Ping(Ping { path, serial, len }) => {
                let Some(tunnel) = peer.tunnel.as_mut().filter(|tunnel| tunnel.has_session()) else { return };
                let (mut packet, mut datagram) = ([0; SHORT as usize], [0; CONTROL]);
                let len = Probe::Pong(Pong { path, serial, len, seen: back.to.address() }).write(&mut packet);
                if let Some(sealed) = tunnel.seal(&mut packet, len, len, &mut datagram, cx.now) {
                    self.outbox.send(back, &datagram[..sealed], cx.sink);
                }
            }
            Probe::Pong(pong) => {
                if peer.can_pong
                    && let Some(volley) = peer.path.reach().pong(&pong, top, cx.now)
                {
                    self.launch(runner, volley, cx);
                }
            }
        }
    }

    /// The longest packet of all.
    fn top(&self) -> u16 {
        u16::try_from(self.mtu).unwrap_or(u16::MAX)
    }

    /// The longest packet that a runner can be sent, if pings have found that out.
    pub(crate) fn proven(&self, runner: RunnerIx) -> Option<u16> {
        self.list[runner].path.proven()
    }
}
