//! What the segments that pass say of a flow.
//!
//! Only what the kernels at its ends take ends a connection: a RST with the sequence number that its receiver expects
//! (RFC 5961 §3), and FINs of both once they are acknowledged.

use std::time::Instant;

use super::{Flow, Flows, Phase, Role, entry::GoesOn};
use crate::packet::{Flags, Packet, Tcp};

/// What becomes of a RST where it arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reset {
    /// It has the sequence number that is expected there.
    Taken,
    /// It will have if all before it arrives. If something is missing, the other end says so (RFC 5961 §3.2, challenge
    /// ACK).
    PerhapsTaken,
    Ignored,
}

/// Whether `a` is `b` or comes after it (RFC 9293 §3.4).
const fn reaches(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) as i32 >= 0
}

impl Flows {
    /// Takes account of a segment that passes.
    #[inline]
    pub(crate) fn pass(&mut self, slot: u32, role: Role, packet: &Packet, tcp: &Tcp, now: Instant) {
        let Some(Some(flow)) = self.slots.get_mut(slot as usize) else { return };
        (flow.since, self.latest) = (now, (slot, role));
        if tcp.flags.has(Flags::ACK) {
            let known = flow.pin.acks[role as usize].replace(tcp.acknowledgment);
            if known.is_none() {
                if flow.pin.phase != Phase::Claimed {
                    self.pins.write(slot, &flow.pin);
                }
            } else if known != Some(tcp.acknowledgment) {
                self.pins.write_ack(slot, role, tcp.acknowledgment);
            }
        }
        const PLAIN: u8 = Flags::ACK | Flags::PSH | Flags::URG | Flags::ECE;
        if flow.pin.phase != Phase::Open || flow.pin.fins == 3 || tcp.flags.0 & !PLAIN != 0 {
            self.follow(slot, role, packet, tcp, now);
        } else {
            flow.reach(role, tcp.sequence.wrapping_add((packet.len - tcp.headers) as u32));
        }
    }

    /// Takes account of segments of the flow that have passed unseen, up to the sequence number `end`.
    #[inline]
    pub(crate) fn extend(&mut self, slot: u32, role: Role, end: u32) {
        if let Some(Some(flow)) = self.slots.get_mut(slot as usize) {
            flow.reach(role, end);
        }
    }

    /// The same for a segment that may change the flow's phase.
    fn follow(&mut self, slot: u32, role: Role, packet: &Packet, tcp: &Tcp, now: Instant) {
        let Some(Some(flow)) = self.slots.get_mut(slot as usize) else { return };
        let is_reset = tcp.flags.has(Flags::RST);
        if !flow.pin.phase.stands() {
            if flow.goes_on.is_some_and(|end| end.role == role) && !is_reset {
                self.go_on(slot);
            }
            return;
        }
        if is_reset {
            let surely = match flow.takes(role, tcp) {
                Reset::Taken => true,
                Reset::PerhapsTaken => false,
                Reset::Ignored => return,
            };
            return self.end_unless(slot, Phase::Ended, Some(GoesOn { role: role.other(), surely_not: surely }), now);
        }
        let end = tcp.sequence.wrapping_add((packet.len - tcp.headers) as u32);
        let controls = u32::from(tcp.flags.has(Flags::SYN)) + u32::from(tcp.flags.has(Flags::FIN));
        let end = end.wrapping_add(controls);
        flow.reach(role, end);
        if tcp.flags.has(Flags::FIN) {
            flow.pin.fins |= 1 << role as u8;
            flow.pin.fin_acks[role as usize] = Some(end);
        }
        if flow.is_over() {
            return self.end(slot, Phase::Ended, now);
        }
        let answered = match (flow.pin.phase, role) {
            (Phase::Opening, Role::Callee) => tcp.flags.has(Flags::SYN) && tcp.flags.has(Flags::ACK),
            // We may have missed the SYN-ACK.
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

    /// Both ends have spoken: a flow is open from now on.
    fn acknowledge(&mut self, slot: u32) {
        let Some(mut flow) = self.slots.get_mut(slot as usize).and_then(Option::take) else { return };
        self.counts.leave(&flow);
        let claims = std::mem::replace(&mut flow.pin.phase, Phase::Open) == Phase::Claimed;
        flow.attempt = None;
        if claims && flow.payer != Role::Caller {
            // It is the caller's, if the caller may have one more.
            let claimed_by = std::mem::replace(&mut flow.payer, Role::Caller);
            if self.limit(&flow).is_some() {
                flow.payer = claimed_by;
            }
        }
        self.counts.enter(&flow);
        self.pins.write(slot, &flow.pin);
        self.slots[slot as usize] = Some(flow);
    }

    /// An end has not taken the RST that seemed to end a flow.
    fn go_on(&mut self, slot: u32) {
        let Some(mut flow) = self.slots.get_mut(slot as usize).and_then(Option::take) else { return };
        let ended = std::mem::replace(&mut flow.pin.phase, Phase::Open);
        if self.limit(&flow).is_none() {
            flow.goes_on = None;
            // What was due for its end is no longer.
            self.generation += 1;
            flow.generation = self.generation;
            self.counts.enter(&flow);
            self.pins.write(slot, &flow.pin);
        } else {
            flow.pin.phase = ended;
        }
        self.slots[slot as usize] = Some(flow);
    }
}

impl Flow {
    /// Notes that an end has sent what comes before the sequence number `end`.
    #[inline]
    const fn reach(&mut self, role: Role, end: u32) {
        match self.sent[role as usize] {
            Some(sent) if !reaches(end, sent) => {}
            _ => self.sent[role as usize] = Some(end),
        }
    }

    /// What the other end makes of a RST of `role`.
    fn takes(&self, role: Role, tcp: &Tcp) -> Reset {
        if self.pin.phase == Phase::Opening && role == Role::Callee {
            // RFC 9293 §3.10.7.3: while its SYN is out, the caller takes nothing but an answer to that.
            let answers = tcp.flags.has(Flags::ACK) && tcp.acknowledgment == self.pin.isn.wrapping_add(1);
            return if answers { Reset::Taken } else { Reset::Ignored };
        }
        let asked = (self.pin.phase == Phase::Opening).then(|| self.pin.isn.wrapping_add(1));
        let Some(expected) = self.pin.acks[role.other() as usize].or(asked) else {
            return Reset::PerhapsTaken;
        };
        // Some send a RST after their FIN as if they hadn't sent that, and Linux takes it (`tcp_reset_check`).
        let before_fin = self.pin.fins & 1 << role as u8 != 0 && tcp.sequence == expected.wrapping_sub(1);
        if tcp.sequence == expected || before_fin {
            return Reset::Taken;
        }
        let is_sent = self.sent[role as usize].is_none_or(|sent| reaches(sent, tcp.sequence));
        if is_sent && reaches(tcp.sequence, expected) { Reset::PerhapsTaken } else { Reset::Ignored }
    }

    /// Whether both ends have said all, and have acknowledged that.
    fn is_over(&self) -> bool {
        let is_acknowledged = |role: Role| {
            let ack = self.pin.acks[role.other() as usize].zip(self.pin.fin_acks[role as usize]);
            ack.is_some_and(|(ack, fin)| reaches(ack, fin))
        };
        self.pin.fins == 3 && Role::BOTH.into_iter().all(is_acknowledged)
    }
}
