//! What is said of a runner that doesn't answer to those whose connections it was to have.

use std::time::Instant;

use mesh_proto::RunnerId;

use super::Engine;
use crate::{
    Port, Reason, Sink,
    flow::{Flow, Phase, Role, Seat},
    packet::{Content, Packet},
    refuse::Unreachable,
    vnet::Vnet,
};

impl Engine {
    /// Refuses what has waited in vain.
    pub(super) fn refuse_unreachable(&mut self, now: Instant, sink: &mut impl Sink) {
        for runner in self.peers.take_broken() {
            self.refuse_attempts(runner, now, sink);
        }
        for (runner, staged) in self.peers.take_refused() {
            let reason =
                self.refuse_syn(runner, staged.from, &staged.octets, now, sink).err().unwrap_or(Reason::NoHandshake);
            self.drops.count(reason);
        }
    }

    /// Gives what is being opened at a runner that doesn't answer to others, or refuses it. (It may have gone there by a
    /// session that was of no use any more.)
    fn refuse_attempts(&mut self, runner: RunnerId, now: Instant, sink: &mut impl Sink) {
        let is_there = |flow: &Flow| {
            flow.phase() == Phase::Opening
                && flow.seat(Role::Callee) == Seat::There(runner)
                && matches!(flow.seat(Role::Caller), Seat::Here(_))
        };
        let slots: Vec<u32> = self.flows.all().filter(|(_, flow)| is_there(flow)).map(|(slot, _)| slot).collect();
        for slot in slots {
            let Some(Seat::Here(caller)) = self.flows.get(slot).map(|flow| flow.seat(Role::Caller)) else { continue };
            if let (Some(octets), Some(from)) = (self.flows.kept(slot), self.homes.port_of(caller)) {
                // What becomes of it is counted with the packets that are lost.
                let _ = self.refuse_syn(runner, from, &octets, now, sink);
            }
        }
    }

    /// Gives a connection that `runner` was to have to another one, or refuses it. What stands in `octets` and opens
    /// none is sent again by TCP.
    ///
    /// # Errors
    /// The reason why it died, if it isn't that the runner doesn't answer.
    pub(super) fn refuse_syn(
        &mut self,
        runner: RunnerId,
        from: Port,
        octets: &[u8],
        now: Instant,
        sink: &mut impl Sink,
    ) -> Result<(), Reason> {
        let (_, ip) = Vnet::parse(octets)?;
        let packet = Packet::parse(ip)?;
        let tcp = match packet.content {
            Content::Tcp(tcp) if tcp.flags.opens() => tcp,
            _ => return Ok(()),
        };
        let found = self.flows.find(&packet, &tcp).and_then(|(slot, role)| Some((slot, role, self.flows.get(slot)?)));
        match found {
            Some((slot, Role::Caller, flow)) if flow.phase() == Phase::Opening && flow.isn() == tcp.sequence => {
                if flow.seat(Role::Callee) != Seat::There(runner) {
                    return Err(Reason::Moved);
                }
                if self.try_another(slot, now, sink) {
                    return Err(Reason::TriedAnother);
                }
                self.flows.end(slot, Phase::Ended, now);
            }
            // It was answered, or given up.
            _ => return Ok(()),
        }
        self.denials.note(self.map.route.parties(&packet), tcp.destination_port, Reason::NoHandshake, now);
        self.refuse(from, ip, &packet, Some(&tcp), Unreachable::Host, now, sink);
        Ok(())
    }
}
