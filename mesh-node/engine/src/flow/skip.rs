//! Locations that have just refused a connection: no program listens there yet, or any more.

use std::time::{Duration, Instant};

use super::end::{End, Location};
use crate::limit::greediest;

/// How long a location is skipped if there is another one.
const SKIPPED: Duration = Duration::from_secs(1);

/// How many are remembered. Beyond that the oldest is tried again early.
const MOST: usize = 256;

/// The skipped locations, each for one port of a service.
#[derive(Debug, Default)]
pub(crate) struct Skips(Vec<(End, Location, Instant)>);

impl Skips {
    /// Notes that a location has just refused a connection to a service.
    pub(crate) fn add(&mut self, callee: End, location: Location, now: Instant) {
        self.0.retain(|(of, at, until)| *until > now && (*of, *at) != (callee, location));
        // The oldest of the service with most goes, so that a service that refuses on every port displaces only its own.
        if self.0.len() >= MOST
            && let Some(address) = greediest(self.0.iter().map(|(of, ..)| of.address))
            && let Some(oldest) = self.0.iter().position(|(of, ..)| of.address == address)
        {
            self.0.remove(oldest);
        }
        self.0.push((callee, location, now + SKIPPED));
    }

    /// A program listens there after all.
    pub(crate) fn remove(&mut self, callee: End, location: Location) {
        self.0.retain(|(of, at, _)| (*of, *at) != (callee, location));
    }

    /// Whether a location is skipped for a port of a service.
    #[inline]
    pub(crate) fn holds(&self, callee: End, location: Location, now: Instant) -> bool {
        self.0.iter().any(|(of, at, until)| (*of, *at) == (callee, location) && *until > now)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use mesh_proto::{InstanceId, RunnerId};

    use super::*;

    #[test]
    fn for_a_second_and_for_one_port_or_until_a_program_listens() {
        let (now, mut skips) = (Instant::now(), Skips::default());
        let port = |port| End { address: Ipv4Addr::new(100, 112, 0, 1), port };
        let there = Location::There(RunnerId(1));
        skips.add(port(1), there, now);
        assert!(skips.holds(port(1), there, now + SKIPPED / 2));
        assert!(!skips.holds(port(2), there, now) && !skips.holds(port(1), Location::Here(InstanceId(1)), now));
        assert!(!skips.holds(port(1), there, now + SKIPPED));
        skips.remove(port(1), there);
        assert!(!skips.holds(port(1), there, now));
        (0..1000).for_each(|id| skips.add(port(1), Location::Here(InstanceId(id)), now));
        assert!(skips.0.len() <= MOST && skips.holds(port(1), Location::Here(InstanceId(999)), now));
    }

    #[test]
    fn a_service_that_refuses_on_every_port_takes_no_others_place() {
        let (now, mut skips) = (Instant::now(), Skips::default());
        let at = |service, port| End { address: Ipv4Addr::new(100, 112, 0, service), port };
        let there = Location::There(RunnerId(1));
        skips.add(at(1, 5432), there, now);
        (0..5000).for_each(|port| skips.add(at(2, port), there, now));
        assert!(skips.holds(at(1, 5432), there, now) && skips.0.len() <= MOST);
    }
}
