//! How often who has proved nothing, or only an address, gets an answer: counters in a table of constant size, found by
//! a keyed hash. Two networks with one counter share it, so a flood from all networks leaves most others theirs.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::{IpAddr, SocketAddr},
    sync::{Mutex, PoisonError},
};

use crate::{
    limits::{PROVEN, STRANGERS},
    time::Now,
};

/// Counters of each kind.
const SLOTS: usize = 1 << 16;

/// The counters of the current second.
pub(crate) struct Strangers {
    keys: RandomState,
    counts: Mutex<Counts>,
}

struct Counts {
    second: u32,
    networks: Box<[u8]>,
    addresses: Box<[u16]>,
}

impl Strangers {
    pub(crate) fn new() -> Self {
        let counts = Counts { second: 0, networks: vec![0; SLOTS].into(), addresses: vec![0; SLOTS].into() };
        Self { keys: RandomState::new(), counts: Mutex::new(counts) }
    }

    /// Whether an address that has proved nothing gets an answer.
    pub(crate) fn admit(&self, remote: SocketAddr, now: Now) -> bool {
        self.count(now, |counts| {
            let slot = &mut counts.networks[self.slot(network(remote.ip()))];
            *slot = slot.saturating_add(1);
            *slot <= STRANGERS
        })
    }

    /// Whether a request of an address that has proved itself is looked at.
    pub(crate) fn admit_proven(&self, remote: SocketAddr, now: Now) -> bool {
        self.count(now, |counts| {
            let slot = &mut counts.addresses[self.slot(host(remote.ip()))];
            *slot = slot.saturating_add(1);
            *slot <= PROVEN
        })
    }

    fn count<T>(&self, now: Now, with: impl FnOnce(&mut Counts) -> T) -> T {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        // Threads read their clocks at slightly different times: an earlier second doesn't count anew.
        if now.seconds() > counts.second {
            counts.second = now.seconds();
            counts.networks.fill(0);
            counts.addresses.fill(0);
        }
        with(&mut counts)
    }

    fn slot(&self, of: (u8, u64)) -> usize {
        usize::try_from(self.keys.hash_one(of)).unwrap_or_default() % SLOTS
    }
}

impl std::fmt::Debug for Strangers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Strangers(..)")
    }
}

/// The /24 or /64 of an address.
fn network(ip: IpAddr) -> (u8, u64) {
    match ip {
        IpAddr::V4(ip) => (4, u64::from(ip.to_bits() >> 8)),
        IpAddr::V6(_) => host(ip),
    }
}

/// The address, or the /64 of one.
fn host(ip: IpAddr) -> (u8, u64) {
    match ip {
        IpAddr::V4(ip) => (5, u64::from(ip.to_bits())),
        IpAddr::V6(ip) => (6, u64::try_from(ip.to_bits() >> 64).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Now {
        Now { since: Duration::from_secs(seconds), unix: 0 }
    }

    fn admitted(strangers: &Strangers, prefix: &str, seconds: u64) -> usize {
        let remotes = (0..100).map(|i| format!("{prefix}{i}").parse::<IpAddr>().unwrap());
        remotes.filter(|ip| strangers.admit((*ip, 1000).into(), at(seconds))).count()
    }

    #[test]
    fn a_network_gets_twenty_answers_a_second() {
        let strangers = Strangers::new();
        assert_eq!(admitted(&strangers, "192.0.2.", 1), 20);
        assert_eq!(admitted(&strangers, "192.0.2.", 1), 0);
        assert_eq!(admitted(&strangers, "198.51.100.", 1), 20, "others have their own");
        assert_eq!(admitted(&strangers, "2001:db8::", 1), 20);
        assert_eq!(admitted(&strangers, "192.0.2.", 2), 20, "and again in the next second");
    }

    #[test]
    fn a_flood_from_everywhere_leaves_most_networks_theirs() {
        let strangers = Strangers::new();
        for i in 0..200_000_u32 {
            strangers.admit((std::net::Ipv4Addr::from(i.wrapping_mul(2_654_435_761)), 1).into(), at(1));
        }
        let left = (0..100).filter(|i| strangers.admit((IpAddr::from([203, 0, *i, 1]), 1).into(), at(1))).count();
        assert!(left > 90, "{left} of 100 networks still get an answer");
    }
}
