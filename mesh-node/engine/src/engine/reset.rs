//! Resets connections when the right to them, or one of their ends, is gone.

use std::time::Duration;

use mesh_proto::InstanceId;

use super::{
    core::Core,
    pending_resets::{Delivery, PendingReset},
};
use crate::{
    Map, Sink,
    cx::Cx,
    flow::{Flow, Location, Phase, Role, Slot},
    reject_packet::RejectPacket,
};

/// How long another runner may be out of reach. Its end of the connection is remembered for as long.
const GIVE_UP: Duration = Duration::from_secs(24 * 3600);

impl Core {
    /// Resets the connections whose right or whose end is missing in the current map.
    pub(super) fn reset_broken<S: Sink>(&mut self, cx: &mut Cx<'_, S>) {
        for slot in self.flows.resolve(&self.map.route, &self.map.filter) {
            if !self.move_attempt(slot, cx) {
                self.reset(slot, cx);
            }
        }
    }

    /// Forgets what is due. A connection that was silent for too long is reset: an end may still hold on to it.
    pub(super) fn reset_silent<S: Sink>(&mut self, cx: &mut Cx<'_, S>) {
        for slot in self.flows.tick(cx.now) {
            self.reset(slot, cx);
        }
    }

    /// Moves an attempt that has lost nothing but its callee, without a word to the caller. Returns false if it isn't
    /// such an attempt, or if there is no other callee.
    fn move_attempt<S: Sink>(&mut self, slot: Slot, cx: &mut Cx<'_, S>) -> bool {
        let opens = self.flows.get(slot).is_some_and(|flow| flow.phase() == Phase::Opening);
        opens && self.flows.may_be_opened(slot, &self.map.route, &self.map.filter) && self.try_another(slot, cx)
    }

    /// Resets the ends at runners that `next` no longer holds, while there still are sessions with them. (Local ends
    /// are reset when the map is replaced.)
    pub(super) fn reset_parting<S: Sink>(&mut self, next: &Map, cx: &mut Cx<'_, S>) {
        let parts = |location| matches!(location, Location::There(runner) if next.route.runner(runner).is_none());
        if !self.map.route.runners.values().any(|runner| parts(Location::There(runner.id))) {
            return;
        }
        let standing = self.flows.all().filter(|(_, flow)| flow.phase().stands());
        let far = standing.flat_map(|(slot, flow)| {
            Role::BOTH.into_iter().filter(move |role| parts(flow.location(*role))).map(move |role| (slot, role))
        });
        let far: Vec<(Slot, Role)> = far.collect();
        for (slot, role) in far {
            self.reset_end(slot, role, cx);
        }
    }

    /// Resets the connections of a local instance that has ended. The other ends are reset from here, since the
    /// coordinator may be away.
    pub(super) fn reset_connections_of<S: Sink>(&mut self, instance: InstanceId, cx: &mut Cx<'_, S>) {
        let here = Location::Here(instance);
        let of_instance = |flow: &Flow| Role::BOTH.iter().any(|role| flow.location(*role) == here);
        let standing = self.flows.all().filter(|(_, flow)| flow.phase().stands() && of_instance(flow));
        let slots: Vec<Slot> = standing.map(|(slot, _)| slot).collect();
        for slot in slots {
            let calls = self.flows.get(slot).is_some_and(|flow| flow.location(Role::Caller) == here);
            if calls || !self.move_attempt(slot, cx) {
                self.reset(slot, cx);
            }
        }
    }

    /// Resets a connection at both ends.
    fn reset<S: Sink>(&mut self, slot: Slot, cx: &mut Cx<'_, S>) {
        for role in Role::BOTH {
            self.reset_end(slot, role, cx);
        }
        self.flows.end(slot, Phase::Reset, cx.now);
    }

    /// Sends a RST to one end of a connection, wherever that is.
    pub(super) fn reset_end<S: Sink>(&mut self, slot: Slot, role: Role, cx: &mut Cx<'_, S>) {
        let delivery = self.send_reset(slot, role, cx);
        let Some(generation) = self.flows.get(slot).map(Flow::generation) else { return };
        self.resets.note(PendingReset::new(slot, generation, role, cx.now), delivery, cx.now);
    }

    /// Sends the RSTs again that are due, unless their connections were opened anew.
    pub(super) fn resend_resets<S: Sink>(&mut self, cx: &mut Cx<'_, S>) {
        for mut reset in self.resets.take_due(cx.now) {
            let same = |flow: &&Flow| flow.generation() == reset.generation && flow.phase() == Phase::Reset;
            let Some(flow) = self.flows.get(reset.slot).filter(same) else { continue };
            let far = match flow.location(reset.role) {
                Location::There(runner) => self.map.route.runner(runner),
                Location::Here(_) => None,
            };
            if let (Some(runner), Some(sent)) = (far, reset.sent.filter(|_| reset.is_slow())) {
                let heard = self.peers.list()[runner].heard.is_some_and(|heard| heard > sent);
                if heard && reset.heard {
                    self.flows.hold(reset.slot, false);
                    continue;
                }
                reset.heard = heard;
            }
            self.flows.hold(reset.slot, far.is_some() && cx.now.saturating_duration_since(reset.since) < GIVE_UP);
            let delivery = self.send_reset(reset.slot, reset.role, cx);
            self.resets.note(reset, delivery, cx.now);
        }
    }

    fn send_reset<S: Sink>(&mut self, slot: Slot, role: Role, cx: &mut Cx<'_, S>) -> Delivery {
        let (Some(mut reset), Some(flow)) = (self.reset_packet(slot, role), self.flows.get(slot)) else {
            return Delivery::Never;
        };
        match flow.location(role) {
            Location::Here(instance) => match self.ports.port_of(instance) {
                Some(port) => {
                    cx.sink.deliver(port, reset.bytes());
                    Delivery::Delivered
                }
                None => Delivery::NotYet,
            },
            Location::There(runner) => {
                let Some(runner) = self.map.route.runner(runner) else { return Delivery::NotYet };
                match self.peers.answer(runner, reset.packet_mut(), cx) {
                    Ok(()) => Delivery::Sent,
                    Err(_) => {
                        self.peers.reach(runner, cx);
                        Delivery::NotYet
                    }
                }
            }
        }
    }

    /// The RST for one end of a connection, as the other end would send it.
    fn reset_packet(&self, slot: Slot, role: Role) -> Option<RejectPacket> {
        let flow = self.flows.get(slot)?;
        let (from, to) = (flow.end(role.other()), flow.end(role));
        match (flow.ack(role), role, flow.phase()) {
            (Some(ack), ..) => Some(RejectPacket::abort(from, to, ack, None)),
            // It has sent nothing but its SYN (RFC 9293 §3.10.7.3).
            (None, Role::Caller, Phase::Opening) => {
                Some(RejectPacket::abort(from, to, 0, Some(flow.isn().wrapping_add(1))))
            }
            // The sequence number that it expects isn't known. Its next segment is answered by a RST.
            _ => None,
        }
    }
}
