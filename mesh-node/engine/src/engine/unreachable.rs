//! Rejects or moves connections whose runner doesn't answer.

use mesh_proto::RunnerId;

use super::core::Core;
use crate::{
    Port, Reason, Sink,
    cx::Cx,
    flow::{Flow, Location, Phase, Role, Slot},
    packet::{Content, Packet},
    reject_packet::Unreachable,
    vnet::Vnet,
};

impl Core {
    /// Rejects what has waited in vain.
    pub(super) fn reject_unreachable<S: Sink>(&mut self, cx: &mut Cx<'_, S>) {
        for runner in self.peers.take_broken() {
            self.reject_attempts(runner, cx);
        }
        for (runner, staged) in self.peers.take_rejected() {
            let reason = self.reject_syn(runner, staged.from, &staged.bytes, cx).err().unwrap_or(Reason::NoHandshake);
            cx.drops.count(reason);
        }
    }

    /// Moves the attempts at a runner that doesn't answer, or rejects them. (Their SYNs may have been sent by a session
    /// that no longer worked.)
    fn reject_attempts<S: Sink>(&mut self, runner: RunnerId, cx: &mut Cx<'_, S>) {
        let is_there = |flow: &Flow| {
            flow.phase() == Phase::Opening
                && flow.location(Role::Callee) == Location::There(runner)
                && matches!(flow.location(Role::Caller), Location::Here(_))
        };
        let slots: Vec<Slot> = self.flows.all().filter(|(_, flow)| is_there(flow)).map(|(slot, _)| slot).collect();
        for slot in slots {
            let Some(Location::Here(caller)) = self.flows.get(slot).map(|flow| flow.location(Role::Caller)) else {
                continue;
            };
            if let (Some(syn), Some(from)) = (self.flows.kept(slot), self.ports.port_of(caller)) {
                // The packet was counted when it was sent.
                let _ = self.reject_syn(runner, from, &syn, cx);
            }
        }
    }

    /// Moves the connection that the SYN in `bytes` opens at `runner`, or rejects it. Other segments are ignored: TCP
    /// retransmits them.
    ///
    /// # Errors
    /// The reason of the drop, if it isn't that the runner doesn't answer.
    pub(super) fn reject_syn<S: Sink>(
        &mut self,
        runner: RunnerId,
        from: Port,
        bytes: &[u8],
        cx: &mut Cx<'_, S>,
    ) -> Result<(), Reason> {
        let (_, ip) = Vnet::parse(bytes)?;
        let packet = Packet::parse(ip)?;
        let tcp = match packet.content {
            Content::Tcp(tcp) if tcp.flags.opens() => tcp,
            _ => return Ok(()),
        };
        let found = self.flows.find(&packet, &tcp).and_then(|(slot, role)| Some((slot, role, self.flows.get(slot)?)));
        match found {
            Some((slot, Role::Caller, flow)) if flow.phase() == Phase::Opening && flow.isn() == tcp.sequence => {
                if flow.location(Role::Callee) != Location::There(runner) {
                    return Err(Reason::Moved);
                }
                if self.try_another(slot, cx) {
                    return Err(Reason::TriedAnother);
                }
                self.flows.end(slot, Phase::Ended, cx.now);
            }
            // It was answered, or the caller has given up.
            _ => return Ok(()),
        }
        self.denials.note(self.map.route.parties(&packet), tcp.destination_port, Reason::NoHandshake, cx.now);
        self.send_reject(from, ip, &packet, Some(&tcp), Unreachable::Host, cx);
        Ok(())
    }
}
