//! What is said of a runner that doesn't answer to those whose connections it was to have.

use std::time::Instant;

use mesh_proto::RunnerId;

use super::Engine;
use crate::{
    Reason, Sink,
    flow::{Phase, Role, Seat},
    packet::{Content, Packet},
    peer::Staged,
    refuse::Unreachable,
    vnet::Vnet,
};

impl Engine {
    /// Refuses what has waited in vain.
    pub(super) fn refuse_unreachable(&mut self, now: Instant, sink: &mut impl Sink) {
        for (runner, staged) in self.peers.take_refused() {
            let reason = self.refuse_staged(runner, &staged, now, sink).err().unwrap_or(Reason::NoHandshake);
            self.drops.count(reason);
        }
    }

    /// Gives a connection that `runner` was to have to another one, or refuses it. What opens none is sent again by TCP.
    ///
    /// # Errors
    /// The reason why it died, if it isn't that the runner doesn't answer.
    fn refuse_staged(
        &mut self,
        runner: RunnerId,
        staged: &Staged,
        now: Instant,
        sink: &mut impl Sink,
    ) -> Result<(), Reason> {
        let (_, ip) = Vnet::parse(&staged.octets)?;
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
        self.denials.note(&packet, tcp.destination_port, Reason::NoHandshake, now);
        self.refuse(staged.from, ip, &packet, Some(&tcp), Unreachable::Host, now, sink);
        Ok(())
    }
}
