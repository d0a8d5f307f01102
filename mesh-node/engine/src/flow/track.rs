//! Follows the segments of a flow.
//!
//! A connection ends only by what the kernels at its ends accept: a RST with the sequence number that its receiver
//! expects (RFC 5961 §3), or FINs of both ends that are acknowledged.

use std::time::Instant;

use super::{
    end::{Phase, Role},
    entry::{Flow, RstReceiver},
    pairs::Outcome,
    table::Flows,
};
use crate::{
    index::Slot,
    packet::{Flags, Packet, Tcp},
};

/// What a RST does at its receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reset {
    /// It has the expected sequence number.
    Accepted,
    /// It has the expected sequence number unless an earlier segment is lost. Then the receiver answers by a challenge
    /// ACK (RFC 5961 §3.2).
    PerhapsAccepted,
    Ignored,
}

/// Whether `a` is `b` or comes after it (RFC 9293 §3.4).
const fn reaches(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) as i32 >= 0
}

impl Flows {
    /// Follows a segment that passes.
    #[inline]
    pub(crate) fn pass(&mut self, slot: Slot, role: Role, packet: &Packet, tcp: &Tcp, now: Instant) {
        self.repeated = false;
        let Some(Some(flow)) = self.slots.get_mut(slot) else { return };
        (flow.since, self.latest) = (now, (slot, role));
        if tcp.flags.has(Flags::ACK) {
            let known = flow.pin.progress.acks[role as usize].replace(tcp.acknowledgment);
            if known.is_none() {
                if flow.pin.phase != Phase::Claimed {
                    self.pins.write(slot, &flow.pin);
                }
            } else if known != Some(tcp.acknowledgment) {
                self.pins.write_ack(slot, role, tcp.acknowledgment);
            }
        }
        const PLAIN: u8 = Flags::ACK | Flags::PSH | Flags::URG | Flags::ECE;
        if flow.pin.phase != Phase::Open || flow.pin.progress.fins == 3 || tcp.flags.0 & !PLAIN != 0 {
            self.follow(slot, role, packet, tcp, now);
        } else {
            let len = packet.len - tcp.headers;
            let new = flow.reach(role, tcp.sequence, tcp.sequence.wrapping_add(len as u32));
            self.counts.pairs.carried(flow.pair, role, new);
            self.repeated = new == 0 && len > 0;
        }
    }

    /// Follows segments that were joined to a group, up to the sequence number `end`.
    #[inline]
    pub(crate) fn extend(&mut self, slot: Slot, role: Role, end: u32) {
        if let Some(Some(flow)) = self.slots.get_mut(slot) {
            let new = flow.reach(role, end, end);
            self.counts.pairs.carried(flow.pair, role, new);
        }
    }

    /// Follows a segment that may change the flow's phase.
    fn follow(&mut self, slot: Slot, role: Role, packet: &Packet, tcp: &Tcp, now: Instant) {
        let Some(Some(flow)) = self.slots.get_mut(slot) else { return };
        let is_reset = tcp.flags.has(Flags::RST);
        if !flow.pin.phase.stands() {
            if flow.rst_receiver.is_some_and(|receiver| receiver.role == role) && !is_reset {
                self.revive(slot);
            }
            return;
        }
        if is_reset {
            let accepts = match flow.accepts(role, tcp) {
                Reset::Accepted => true,
                Reset::PerhapsAccepted => false,
                Reset::Ignored => return,
            };
            let receiver = RstReceiver { role: role.other(), accepts };
            return self.end_by(slot, Phase::Ended, Some(receiver), now);
        }
        let end = tcp.sequence.wrapping_add((packet.len - tcp.headers) as u32);
        let controls = u32::from(tcp.flags.has(Flags::SYN)) + u32::from(tcp.flags.has(Flags::FIN));
        let end = end.wrapping_add(controls);
        let new = flow.reach(role, tcp.sequence, end);
        self.counts.pairs.carried(flow.pair, role, new.saturating_sub(controls));
        if tcp.flags.has(Flags::FIN) {
            flow.pin.progress.fins |= 1 << role as u8;
            flow.pin.progress.fin_acks[role as usize] = Some(end);
        }
        if flow.is_over() {
            return self.end(slot, Phase::Ended, now);
        }
        let answered = match (flow.pin.phase, role) {
            (Phase::Opening, Role::Callee) => tcp.flags.has(Flags::SYN) && tcp.flags.has(Flags::ACK),
            // The SYN-ACK may have passed before this engine followed the flow.
            (Phase::Opening, Role::Caller) => tcp.flags.has(Flags::ACK),
            (Phase::Claimed, role) => role != flow.payer && tcp.flags.has(Flags::ACK),
            _ => false,
        };
        if answered {
            self.acknowledge(slot);
        } else if tcp.flags.has(Flags::FIN) && flow.pin.phase != Phase::Claimed {
            self.pins.write(slot, &flow.pin);
        }
    }

    /// Both ends have shown the flow: it is open from now on.
    fn acknowledge(&mut self, slot: Slot) {
        let Some(mut flow) = self.slots.get_mut(slot).and_then(Option::take) else { return };
        self.counts.leave(&flow);
        let claims = std::mem::replace(&mut flow.pin.phase, Phase::Open) == Phase::Claimed;
        if !claims {
            self.counts.pairs.note(flow.pair, Outcome::Opened);
        }
        flow.attempt = None;
        if claims && flow.payer != Role::Caller {
            // It counts for the caller from now on, if the caller may have one more.
            let claimed_by = std::mem::replace(&mut flow.payer, Role::Caller);
            if self.limit(&flow).is_some() {
                flow.payer = claimed_by;
            }
        }
        self.counts.enter(&flow);
        self.pins.write(slot, &flow.pin);
        self.slots[slot] = Some(flow);
    }

    /// An end has ignored the RST that ended the flow: it goes on.
    fn revive(&mut self, slot: Slot) {
        let Some(mut flow) = self.slots.get_mut(slot).and_then(Option::take) else { return };
        let ended = std::mem::replace(&mut flow.pin.phase, Phase::Open);
        if self.limit(&flow).is_none() {
            flow.rst_receiver = None;
            // Invalidates the entry in the queue of ended flows.
            self.generation += 1;
            flow.generation = self.generation;
            self.counts.enter(&flow);
            self.pins.write(slot, &flow.pin);
        } else {
            flow.pin.phase = ended;
        }
        self.slots[slot] = Some(flow);
    }
}

impl Flow {
    /// Notes that an end has sent what is between two sequence numbers, and everything before. Returns how much of that
    /// is news.
    #[inline]
    const fn reach(&mut self, role: Role, start: u32, end: u32) -> u32 {
        let Some(sent) = &mut self.sent[role as usize] else { return self.reach_first(role, start, end) };
        if reaches(*sent, end) {
            return 0;
        }
        end.wrapping_sub(std::mem::replace(sent, end))
    }

    /// The same of an end of which nothing was seen yet.
    #[cold]
    const fn reach_first(&mut self, role: Role, start: u32, end: u32) -> u32 {
        let known = match self.pin.progress.acks[role.other() as usize] {
            // The engine has followed the flow before its own restart.
            Some(ack) if reaches(end, ack) => ack,
            _ => start,
        };
        self.sent[role as usize] = Some(end);
        end.wrapping_sub(known)
    }

    /// Whether the other end accepts a RST of `role`.
    fn accepts(&self, role: Role, tcp: &Tcp) -> Reset {
        if self.pin.phase == Phase::Opening && role == Role::Callee {
            // In SYN-SENT the caller accepts only a RST that acknowledges its SYN (RFC 9293 §3.10.7.3).
            let answers = tcp.flags.has(Flags::ACK) && tcp.acknowledgment == self.pin.isn.wrapping_add(1);
            return if answers { Reset::Accepted } else { Reset::Ignored };
        }
        let asked = (self.pin.phase == Phase::Opening).then(|| self.pin.isn.wrapping_add(1));
        let Some(expected) = self.pin.progress.acks[role.other() as usize].or(asked) else {
            return Reset::PerhapsAccepted;
        };
        // Some stacks send a RST after a FIN with the FIN's own sequence number, and Linux accepts it (`tcp_reset_check`).
        let before_fin = self.pin.progress.fins & 1 << role as u8 != 0 && tcp.sequence == expected.wrapping_sub(1);
        if tcp.sequence == expected || before_fin {
            return Reset::Accepted;
        }
        let is_sent = self.sent[role as usize].is_none_or(|sent| reaches(sent, tcp.sequence));
        if is_sent && reaches(tcp.sequence, expected) { Reset::PerhapsAccepted } else { Reset::Ignored }
    }

    /// Whether both ends have sent a FIN and have acknowledged the other's.
    fn is_over(&self) -> bool {
        let is_acknowledged = |role: Role| {
            let ack = self.pin.progress.acks[role.other() as usize].zip(self.pin.progress.fin_acks[role as usize]);
            ack.is_some_and(|(ack, fin)| reaches(ack, fin))
        };
        self.pin.progress.fins == 3 && Role::BOTH.into_iter().all(is_acknowledged)
    }
}
