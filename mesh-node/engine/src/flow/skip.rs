//! Who has refused a connection a moment ago: nobody listens there yet, or any more.

use std::time::{Duration, Instant};

use super::{End, Seat};
use crate::limit::greediest;

/// How long it is skipped where another one is there.
const SKIPPED: Duration = Duration::from_secs(1);

/// How many are remembered; more than that, and the oldest is tried again early.
const MOST: usize = 256;

/// Who is skipped, for one port of a service each.
#[derive(Debug, Default)]
pub(crate) struct Skips(Vec<(End, Seat, Instant)>);

impl Skips {
    /// Notes that a connection to a service was refused there just now.
    pub(crate) fn add(&mut self, callee: End, seat: Seat, now: Instant) {
        self.0.retain(|(of, at, until)| *until > now && (*of, *at) != (callee, seat));
        // Of the service that has most, so that one whose ports are all refused leaves others theirs.
        if self.0.len() >= MOST
            && let Some(address) = greediest(self.0.iter().map(|(of, ..)| of.address))
            && let Some(oldest) = self.0.iter().position(|(of, ..)| of.address == address)
        {
            self.0.remove(oldest);
        }
        self.0.push((callee, seat, now + SKIPPED));
    }

    /// Somebody listens there after all.
    pub(crate) fn remove(&mut self, callee: End, seat: Seat) {
        self.0.retain(|(of, at, _)| (*of, *at) != (callee, seat));
    }

    /// Whether a port of a service is skipped there.
    #[inline]
    pub(crate) fn holds(&self, callee: End, seat: Seat, now: Instant) -> bool {
        self.0.iter().any(|(of, at, until)| (*of, *at) == (callee, seat) && *until > now)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use mesh_proto::{InstanceId, RunnerId};

    use super::*;

    #[test]
    fn for_a_second_and_for_one_port_or_until_somebody_listens() {
        let (now, mut skips) = (Instant::now(), Skips::default());
        let port = |port| End { address: Ipv4Addr::new(100, 112, 0, 1), port };
        let there = Seat::There(RunnerId(1));
        skips.add(port(1), there, now);
        assert!(skips.holds(port(1), there, now + SKIPPED / 2));
        assert!(!skips.holds(port(2), there, now) && !skips.holds(port(1), Seat::Here(InstanceId(1)), now));
        assert!(!skips.holds(port(1), there, now + SKIPPED));
        skips.remove(port(1), there);
        assert!(!skips.holds(port(1), there, now));
        (0..1000).for_each(|id| skips.add(port(1), Seat::Here(InstanceId(id)), now));
        assert!(skips.0.len() <= MOST && skips.holds(port(1), Seat::Here(InstanceId(999)), now));
    }

    #[test]
    fn a_service_that_refuses_on_every_port_takes_no_others_place() {
        let (now, mut skips) = (Instant::now(), Skips::default());
        let at = |service, port| End { address: Ipv4Addr::new(100, 112, 0, service), port };
        let there = Seat::There(RunnerId(1));
        skips.add(at(1, 5432), there, now);
        (0..5000).for_each(|port| skips.add(at(2, port), there, now));
        assert!(skips.holds(at(1, 5432), there, now) && skips.0.len() <= MOST);
    }
}
