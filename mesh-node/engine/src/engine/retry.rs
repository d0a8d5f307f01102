//! Moves a refused attempt to another callee.

use mesh_proto::InstanceId;

use super::{
    choose::{Call, Choice},
    core::Core,
};
use crate::{
    Reason, Sink,
    cx::Cx,
    flow::{Location, Phase, Role, Slot, Target},
    index::RunnerIx,
    packet::{Content, Packet},
    segment::Unit,
    vnet::Vnet,
};

impl Core {
    /// The callee of an attempt has refused it: sends the kept SYN to another one. Returns false if there is none, so
    /// that the refusal has to reach the caller.
    pub(super) fn try_another<S: Sink>(&mut self, slot: Slot, cx: &mut Cx<'_, S>) -> bool {
        let Some(flow) = self.flows.get(slot) else { return false };
        let (caller, callee, from) = (flow.end(Role::Caller), flow.end(Role::Callee), flow.location(Role::Caller));
        let refuser = flow.location(Role::Callee);
        let Some(owner) = self.map.route.owner(callee.address) else { return false };
        let call = Call { caller, callee, from, owner };
        self.skips.add(callee, refuser, cx.now);
        let Some(mut attempt) = self.flows.take_attempt(slot) else { return false };
        attempt.note_refused(refuser);
        let fresh = self.choose(&call, &attempt.tried(), cx.now);
        // A callee that left one SYN unanswered may have missed it, and is asked again before the caller gets a refusal.
        let choice = fresh.or_else(|_| self.choose(&call, &attempt.hopeless(), cx.now));
        let Ok(Choice { location, target }) = choice else { return false };
        let Some(resolved) = self.resolved_call(&call, target) else { return false };
        let mut syn = attempt.syn.clone();
        self.flows.repin(slot, location, resolved, Some(attempt), cx.now);
        match target {
            Target::Instance(instance) => {
                if let Some(port) = self.ports.port(instance) {
                    cx.sink.deliver(port, &syn);
                }
            }
            Target::Runner(runner) => {
                if let Err(reason) = self.send_kept(runner, from, &mut syn, cx) {
                    cx.drops.count(reason);
                }
            }
        }
        true
    }

    /// Sends a kept SYN of a local instance to another runner.
    fn send_kept<S: Sink>(
        &mut self,
        runner: RunnerIx,
        from: Location,
        syn: &mut [u8],
        cx: &mut Cx<'_, S>,
    ) -> Result<(), Reason> {
        let Location::Here(caller) = from else { return Err(Reason::NoConnection) };
        let port = self.ports.port_of(caller).ok_or(Reason::NotAttached)?;
        let (vnet, ip) = Vnet::parse(syn)?;
        let packet = Packet::parse(ip)?;
        let Content::Tcp(tcp) = packet.content else { return Err(Reason::NotTcp) };
        let mut unit = Unit { bytes: syn, packet, tcp, size: vnet.size, partial: vnet.partial };
        self.peers.send(runner, port, &mut unit, cx).map(drop)
    }

    /// Handles an ICMP error of the instance `from`, in `ip`, if it refuses a connection, as a packet filter in a
    /// container does. ICMP doesn't cross, so the caller gets a RST if no callee is left.
    pub(super) fn refused_by_icmp<S: Sink>(&mut self, from: InstanceId, ip: &[u8], cx: &mut Cx<'_, S>) -> bool {
        let Some((packet, tcp)) = Packet::quoted(ip) else { return false };
        let Some((slot, Role::Caller)) = self.flows.find(&packet, &tcp) else { return false };
        let Some(flow) = self.flows.get(slot) else { return false };
        let refuses = flow.phase() == Phase::Opening
            && flow.location(Role::Callee) == Location::Here(from)
            && flow.isn() == tcp.sequence
            && tcp.flags.opens();
        if !refuses {
            return false;
        }
        if !self.try_another(slot, cx) {
            self.reset_end(slot, Role::Caller, cx);
            self.flows.end(slot, Phase::Ended, cx.now);
        }
        true
    }
}
