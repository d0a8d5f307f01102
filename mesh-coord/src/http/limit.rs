//! Slows down guessing. A source that keeps failing learns only that. Good secrets don't get here.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use crate::places::share;

/// How many failures a source has in advance.
const BURST: u64 = 20;
/// The seconds after which a source has one more.
const SECONDS_EACH: u64 = 3;
/// How many sources are remembered. Beyond that, those that failed longest ago are forgotten.
const SOURCES: usize = 4096;

/// Failed attempts by source: an IPv4 address, or an IPv6 /64 (a customer's usual share).
#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<HashMap<IpAddr, Meter>>);

/// The failures that still count, as of a running time in seconds.
#[derive(Debug, Clone, Copy)]
struct Meter {
    count: u64,
    at: u64,
}

impl Meter {
    fn now(self, now: u64) -> u64 {
        self.count.saturating_sub(now.saturating_sub(self.at) / SECONDS_EACH)
    }
}

impl Failures {
    /// Whether the source may try now, by the coordinator's running time in seconds.
    pub(crate) fn may_try(&self, source: IpAddr, now: u64) -> bool {
        let meters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        meters.get(&share(source)).is_none_or(|meter| meter.now(now) < BURST)
    }

    /// Counts a failure.
    pub(crate) fn failed(&self, source: IpAddr, now: u64) {
        let mut meters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if meters.len() >= SOURCES {
            meters.retain(|_, meter| meter.now(now) > 0);
        }
        if meters.len() >= SOURCES {
            let mut times: Vec<u64> = meters.values().map(|meter| meter.at).collect();
            let (_, &mut middle, _) = times.select_nth_unstable(SOURCES / 2);
            meters.retain(|_, meter| meter.at > middle);
        }
        let meter = meters.entry(share(source)).or_insert(Meter { count: 0, at: now });
        *meter = Meter { count: meter.now(now).saturating_add(1).min(BURST), at: now };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_keeps_failing_waits_and_others_do_not() {
        let failures = Failures::default();
        let [bad, same, other] = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"].map(|a| a.parse().unwrap());
        for _ in 0..BURST {
            assert!(failures.may_try(bad, 100));
            failures.failed(bad, 100);
        }
        assert!(!failures.may_try(bad, 100) && !failures.may_try(same, 100) && failures.may_try(other, 100));
        assert!(failures.may_try(bad, 100 + SECONDS_EACH));
    }

    #[test]
    fn the_memory_is_bounded() {
        let failures = Failures::default();
        for n in 0..3 * SOURCES {
            failures.failed(IpAddr::from(std::net::Ipv4Addr::from_bits(u32::try_from(n).unwrap())), 5);
        }
        assert!(failures.0.lock().unwrap().len() <= SOURCES);
    }
}
