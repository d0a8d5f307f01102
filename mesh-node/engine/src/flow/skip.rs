//! Who has refused a connection a moment ago: nobody listens there yet, or any more.

use std::time::{Duration, Instant};

use mesh_proto::ServiceId;

use super::Seat;

/// How long it is skipped where another one is there.
const SKIPPED: Duration = Duration::from_secs(1);

/// How many are remembered; more than that, and the oldest is tried again early.
const MOST: usize = 256;

/// Who is skipped. A runner is skipped for one service at a time.
#[derive(Debug, Default)]
pub(crate) struct Skips(Vec<(ServiceId, Seat, Instant)>);

impl Skips {
    /// Notes that a connection to a service was refused there just now.
    pub(crate) fn add(&mut self, service: ServiceId, seat: Seat, now: Instant) {
        self.0.retain(|(of, at, until)| *until > now && (*of, *at) != (service, seat));
        if self.0.len() >= MOST {
            self.0.remove(0);
        }
        self.0.push((service, seat, now + SKIPPED));
    }

    /// Whether a service is skipped there.
    #[inline]
    pub(crate) fn holds(&self, service: ServiceId, seat: Seat, now: Instant) -> bool {
        self.0.iter().any(|(of, at, until)| (*of, *at) == (service, seat) && *until > now)
    }
}

#[cfg(test)]
mod tests {
    use mesh_proto::{InstanceId, RunnerId};

    use super::*;

    #[test]
    fn for_a_second_and_for_one_service() {
        let (now, mut skips) = (Instant::now(), Skips::default());
        let there = Seat::There(RunnerId(1));
        skips.add(ServiceId(1), there, now);
        assert!(skips.holds(ServiceId(1), there, now + SKIPPED / 2));
        assert!(!skips.holds(ServiceId(2), there, now) && !skips.holds(ServiceId(1), Seat::Here(InstanceId(1)), now));
        assert!(!skips.holds(ServiceId(1), there, now + SKIPPED));
        (0..1000).for_each(|id| skips.add(ServiceId(1), Seat::Here(InstanceId(id)), now));
        assert!(skips.0.len() <= MOST && skips.holds(ServiceId(1), Seat::Here(InstanceId(999)), now));
    }
}
