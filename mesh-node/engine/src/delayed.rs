//! Rejects that are delivered a millisecond later.
//!
//! An ICMP error that arrives while the connecting thread still holds the socket is only noted by Linux, and the thread
//! then waits for its SYN's retransmission (net/ipv4/tcp_ipv4.c, `tcp_v4_err`, `sock_owned_by_user`). A SYN gets only
//! one error, so that one is delayed.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::{Port, Sink, limit::greediest, reject_packet::RejectPacket};

/// The delay. The kernel releases the socket within microseconds.
const WAIT: Duration = Duration::from_millis(1);

/// How many wait at most. Beyond that, the oldest of the TUN with most is delivered early.
const WAITING: usize = 256;

/// Delayed rejects, oldest first.
#[derive(Default)]
pub(crate) struct DelayedRejects(VecDeque<(Instant, Port, RejectPacket)>);

impl DelayedRejects {
    /// Delays a reject.
    pub(crate) fn push(&mut self, to: Port, refusal: RejectPacket, now: Instant, sink: &mut impl Sink) {
        if self.0.len() >= WAITING
            && let Some(most) = greediest(self.0.iter().map(|(_, port, _)| *port))
            && let Some(oldest) = self.0.iter().position(|(_, port, _)| *port == most)
            && let Some((_, port, refusal)) = self.0.remove(oldest)
        {
            sink.deliver(port, refusal.bytes());
        }
        self.0.push_back((now + WAIT, to, refusal));
    }

    /// When [`Self::deliver`] is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.front().map(|(at, ..)| *at)
    }

    /// Delivers the rejects that are due.
    pub(crate) fn deliver(&mut self, now: Instant, sink: &mut impl Sink) {
        while self.next().is_some_and(|at| at <= now)
            && let Some((_, port, refusal)) = self.0.pop_front()
        {
            sink.deliver(port, refusal.bytes());
        }
    }

    /// Drops the rejects for a TUN that is gone.
    pub(crate) fn forget(&mut self, port: Port) {
        self.0.retain(|(_, to, _)| *to != port);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        reject_packet::Unreachable,
        testing::{Recorder, packet, tcp},
    };

    #[test]
    fn a_flood_of_refusals_to_one_makes_no_others_go_early() {
        let (start, mut waiting, mut sink) = (Instant::now(), DelayedRejects::default(), Recorder::default());
        let syn = tcp().syn().build();
        let refusal = RejectPacket::unreachable(&syn, &packet(&syn).0, Unreachable::Prohibited);
        waiting.push(Port(1), refusal.clone(), start, &mut sink);
        (0..1000).for_each(|_| waiting.push(Port(2), refusal.clone(), start, &mut sink));
        assert!(sink.delivered.iter().all(|(port, _)| *port == Port(2)));
        waiting.deliver(start + WAIT, &mut sink);
        assert!(sink.delivered.iter().any(|(port, _)| *port == Port(1)));
    }

    #[test]
    fn each_is_delivered_once_in_order_and_none_is_lost() {
        let (start, mut waiting, mut sink) = (Instant::now(), DelayedRejects::default(), Recorder::default());
        let syn = tcp().syn().build();
        let refusal = RejectPacket::unreachable(&syn, &packet(&syn).0, Unreachable::Prohibited);
        assert_eq!(waiting.next(), None);
        for port in 0..=WAITING as u32 {
            waiting.push(Port(port), refusal.clone(), start, &mut sink);
        }
        assert_eq!(sink.delivered.len(), 1, "there is no room for the oldest");
        assert_eq!(waiting.next(), Some(start + WAIT));
        waiting.deliver(start + WAIT / 2, &mut sink);
        assert_eq!(sink.delivered.len(), 1);
        waiting.forget(Port(7));
        waiting.deliver(start + WAIT, &mut sink);
        let ports: Vec<u32> = sink.delivered.iter().map(|(port, _)| port.0).collect();
        assert_eq!(ports, (0..=WAITING as u32).filter(|port| *port != 7).collect::<Vec<_>>());
        assert_eq!(waiting.next(), None);
    }
}
