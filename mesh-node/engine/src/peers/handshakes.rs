//! Handshakes with other runners.

use std::time::Instant;

use super::{Peers, lanes::draw};
use crate::{
    Event, Reason, Sink,
    cx::Cx,
    hop::Way,
    index::RunnerIx,
    lane_set::LaneIx,
    limit::{Admission, Mac},
    peer::{INITIATIONS, RESPONSES},
    route::Route,
    tunnel::{self, CONTROL, Handshake, Outcome, Tunnel, TunnelIx},
};

impl Peers {
    /// Handles a message that isn't data, and returns its runner. `back` is the way to its sender.
    ///
    /// # Errors
    /// If it isn't for this runner, or leads to nothing.
    pub(crate) fn handshake<S: Sink>(
        &mut self,
        back: Way,
        datagram: &[u8],
        route: &Route,
        cx: &mut Cx<'_, S>,
    ) -> Result<RunnerIx, Reason> {
        let (runner, initiation) = match self.identity.read(datagram)? {
            Handshake::Initiation(mac) => {
                if let Some(tunnel) = self.admissions.answerer(&mac) {
                    return self.respond_again(tunnel, &mac, back, cx);
                }
                let runner = self.initiator(back, datagram, route, cx)?;
                let lane = tunnel::first_index(datagram).map_or(LaneIx::FIRST, TunnelIx::lane);
                if lane != LaneIx::FIRST && self.list[runner].speaks_of_lanes() {
                    return self.initiate_lane(lane, runner, back, datagram, cx).map(|()| runner);
                }
                (runner, Some(mac))
            }
            Handshake::Response { index } => {
                let runner = *self.by_tunnel.get(&index).ok_or(Reason::UnknownSession)?;
                let copies = &self.list[runner].active().copies;
                if tunnel::mac(datagram).is_some_and(|mac| copies.has_accepted(&mac, back.to, cx.now)) {
                    // The runner has answered by each path on which the initiation arrived.
                    self.take_copy(runner, back, cx);
                    return Ok(runner);
                }
                if !self.list[runner].active().responses.take(RESPONSES, cx.now) {
                    return Err(Reason::HandshakeLimited);
                }
                if index.lane() != LaneIx::FIRST {
                    // An older agent answers by the one tunnel that it has.
                    if tunnel::first_index(datagram).map(TunnelIx::lane) != Some(index.lane()) {
                        return Err(Reason::HandshakeRejected);
                    }
                    return self.pass_on(index, runner, back, datagram, cx).map(|()| runner);
                }
                (runner, None)
            }
            Handshake::Cookie { index } => {
                let runner = *self.by_tunnel.get(&index).ok_or(Reason::UnknownSession)?;
                if index.lane() != LaneIx::FIRST {
                    return self.pass_on(index, runner, back, datagram, cx).map(|()| runner);
                }
                (runner, None)
            }
        };
        self.tick_one(runner, true, cx);
        self.wake(runner, cx.now);
        let mut reply = [0; CONTROL];
        let outcome = match self.tunnel(runner, cx.now).handshake(datagram, &mut reply, cx.now) {
            Err(reason) if initiation.is_some() => {
                self.ask_back(runner, back, cx);
                return Err(reason);
            }
            other => other?,
        };
        if !matches!(outcome, Outcome::Cookie) {
            let theirs = tunnel::first_index(datagram);
            let before = std::mem::replace(&mut self.list[runner].active().theirs, theirs);
            if before.is_some() && before != theirs {
                // The runner has started anew: its earlier sessions are gone.
                self.renew_lanes(runner, cx);
            }
        }
        let peer = &mut self.list[runner];
        if let (Some(mac), Some(tunnel)) = (initiation, &peer.tunnel) {
            self.admissions.answered(mac, tunnel.index());
            peer.active().initiations.take(INITIATIONS, cx.now);
        }
        match outcome {
            // An attacker may replay an initiation from another address, so only data moves the endpoint.
            Outcome::Response(len) => {
                peer.link.claim(back);
                peer.link.note_relayed(back);
                if let Some(mac) = initiation {
                    peer.active().copies.responded(mac, &reply[..len], back.to, cx.now);
                }
                self.outbox.send(back, &reply[..len], cx.sink);
            }
            Outcome::Session(len) => {
                if let Some(mac) = tunnel::mac(datagram) {
                    peer.active().copies.accepted(mac, back.to, cx.now);
                }
                self.outbox.send(back, &reply[..len], cx.sink);
                if peer.answered() {
                    cx.sink.event(Event::Reachable { runner: peer.runner.id });
                }
                self.take_answer(runner, back, cx);
            }
            Outcome::Cookie => {
                let tunnel = peer.tunnel.as_mut();
                if tunnel.and_then(|tunnel| tunnel.retry(&mut reply, cx.now)).is_some() {
                    // The cookie proves this runner's address as the other runner sees it.
                    self.outbox.send(back, &reply, cx.sink);
                    peer.attempted(&reply, 1, false, cx.now);
                }
            }
        }
        self.use_now(runner, cx);
        Ok(runner)
    }

    /// A copy of an answered initiation gets the same response, by the path by which it came: the first path may carry
    /// datagrams one way only. It costs no Diffie-Hellman, and the answer is shorter than the question.
    ///
    /// # Errors
    /// If it has come by the same path, late or too often: then it is a copy that the network made, or a replay.
    fn respond_again<S: Sink>(
        &mut self,
        tunnel: TunnelIx,
        mac: &Mac,
        back: Way,
        cx: &mut Cx<'_, S>,
    ) -> Result<RunnerIx, Reason> {
        let runner = *self.by_tunnel.get(&tunnel).ok_or(Reason::HandshakeRejected)?;
        let response =
            self.list[runner].active().copies.respond_again(mac, back.to, cx.now).ok_or(Reason::HandshakeRejected)?;
        self.outbox.send(back, response, cx.sink);
        self.list[runner].link.note_relayed(back);
        Ok(runner)
    }

    /// The runner that sent an initiation. The cheapest check comes first.
    ///
    /// # Errors
    /// If the initiation isn't worth an answer, or if its sender was sent a cookie to prove its address.
    fn initiator<S: Sink>(
        &mut self,
        back: Way,
        initiation: &[u8],
        route: &Route,
        cx: &mut Cx<'_, S>,
    ) -> Result<RunnerIx, Reason> {
        let mut cookie = [0; CONTROL];
        let source = self.admissions.source(back.to);
        let proof = self.identity.prove(source, initiation, &mut cookie);
        match (self.admissions.admit(source, proof.is_ok(), cx.now), proof) {
            (Admission::Granted, _) => {}
            (Admission::Unproven, Err(len)) => {
                self.outbox.send(back, &cookie[..len], cx.sink);
                return Err(Reason::UnderLoad);
            }
            (Admission::Unproven | Admission::Refused, _) => return Err(Reason::HandshakeLimited),
        }
        let key = self.identity.initiator(initiation)?;
        let unknown = || if self.departed.keys.holds(&key, cx.now) { Reason::Departed } else { Reason::UnknownRunner };
        let runner = route.runner_by_key(&key).ok_or_else(unknown)?;
        if self.list[runner].has_begun_enough(cx.now) {
            return Err(Reason::HandshakeLimited);
        }
        Ok(runner)
    }

    /// A runner's tunnel, which is made if there is none.
    pub(super) fn tunnel(&mut self, runner: RunnerIx, now: Instant) -> &mut Tunnel {
        let Self { identity, list, by_tunnel, numbers, .. } = self;
        let peer = &mut list[runner];
        peer.tunnel.get_or_insert_with(|| {
            let index = draw(numbers, by_tunnel, LaneIx::FIRST);
            by_tunnel.insert(index, runner);
            Box::new(Tunnel::new(identity, &peer.runner.public_key, index, now))
        })
    }
}
