//! The last refusals, for people who ask why.

use std::{net::Ipv4Addr, time::Instant};

use crate::{Reason, packet::Packet};

/// How many are kept.
const KEPT: usize = 100;

/// The last refusals: equal ones are counted, and the one that was longest ago gives way. Of fixed size, so that a flood
/// of refusals costs no memory.
#[derive(Debug)]
pub(crate) struct Denials(Vec<Denial>);

#[derive(Debug)]
pub(crate) struct Denial {
    pub(crate) caller: Ipv4Addr,
    pub(crate) callee: Ipv4Addr,
    /// Zero for what isn't TCP.
    pub(crate) port: u16,
    pub(crate) reason: Reason,
    pub(crate) count: u64,
    pub(crate) last: Instant,
}

impl Denials {
    pub(crate) fn new() -> Self {
        Self(Vec::with_capacity(KEPT))
    }

    /// Notes that `packet` to TCP port `port` was refused.
    pub(crate) fn note(&mut self, packet: &Packet, port: u16, reason: Reason, now: Instant) {
        let (caller, callee) = (packet.source, packet.destination);
        let same = |d: &&mut Denial| (d.caller, d.callee, d.port, d.reason) == (caller, callee, port, reason);
        if let Some(denial) = self.0.iter_mut().find(same) {
            denial.count += 1;
            denial.last = now;
            return;
        }
        let denial = Denial { caller, callee, port, reason, count: 1, last: now };
        if self.0.len() < KEPT {
            self.0.push(denial);
        } else if let Some(oldest) = self.0.iter_mut().min_by_key(|d| d.last) {
            *oldest = denial;
        }
    }

    /// Latest first.
    pub(crate) fn all(&self) -> Vec<&Denial> {
        let mut all: Vec<&Denial> = self.0.iter().collect();
        all.sort_by_key(|denial| std::cmp::Reverse(denial.last));
        all
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::{packet, tcp};

    #[test]
    fn equal_ones_are_counted_and_the_oldest_gives_way() {
        let start = Instant::now();
        let (syn, _) = packet(&tcp().syn().build());
        let mut denials = Denials::new();
        denials.note(&syn, 7, Reason::NoTrust, start);
        for port in 0..150 {
            denials.note(&syn, port, Reason::NoTrust, start + Duration::from_secs(port.into()));
        }
        denials.note(&syn, 149, Reason::NoTrust, start + Duration::from_secs(150));
        denials.note(&syn, 149, Reason::WrongWay, start + Duration::from_secs(151));
        let all: Vec<_> = denials.all().iter().map(|d| (d.port, d.reason, d.count)).collect();
        assert_eq!(all.len(), KEPT);
        assert_eq!(all[..3], [(149, Reason::WrongWay, 1), (149, Reason::NoTrust, 2), (148, Reason::NoTrust, 1)]);
        assert_eq!(all[99], (51, Reason::NoTrust, 1));
    }
}
