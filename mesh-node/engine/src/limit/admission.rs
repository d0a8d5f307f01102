//! Which initiations are looked into when more come than there is time for.
//!
//! To look into one costs a Diffie-Hellman (0.05 ms) before anything is known of its sender, whose address may be forged
//! as well. So there are four shares, and whoever floods one leaves the others: addresses where the map has runners,
//! and all others; each with a proof that the sender is at its address (a cookie, whitepaper §5.3), and without. Who
//! finds the share without proof used up is sent a cookie, so that a runner needs one round trip more at worst; with
//! proof each address has a limit of its own, so that one can't use up the share. What is remembered is bounded.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hasher},
    net::IpAddr,
    time::Instant,
};

use super::{Bucket, Rate};

/// What all addresses together have, in each of the four shares: at worst an eighth of a core goes into them.
const SHARE: Rate = Rate { each_second: 250, at_once: 250 };

/// What one address has. A runner begins a handshake in five seconds, but several may share an address, and all of them
/// may have restarted.
const ADDRESS: Rate = Rate { each_second: 10, at_once: 20 };

/// How many addresses that are not in the map have a limit of their own at one time.
const SEATS: usize = 1024;

/// How many initiations are remembered that have been answered.
const ANSWERED: usize = 256;

/// The authentication of an initiation, by which two are told apart (whitepaper §5.4.4).
pub(crate) type Mac = [u8; 16];

/// What becomes of an initiation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    Granted,
    /// The sender is to prove its address first.
    Unproven,
    Refused,
}

/// What is left of each share and limit.
pub(crate) struct Admissions {
    seed: u64,
    /// Where runners are, in order.
    known: Box<[Source]>,
    /// The limits of those from where something came: most that are known are idle.
    limits: BTreeMap<Source, Known>,
    known_claimed: Bucket,
    known_proven: Bucket,
    others_claimed: Bucket,
    others_proven: Bucket,
    /// Those that have proven their address, in the places that it gives them. Empty until the first one.
    seats: Vec<Option<(Source, Bucket)>>,
    /// Initiations that have been answered, in the places that they give themselves. Empty until the first one.
    answered: Vec<Mac>,
}

/// What is left to an address where runners are.
#[derive(Debug, Default)]
struct Known {
    claimed: Bucket,
    proven: Bucket,
}

impl Admissions {
    /// `seed` decides which addresses share a place; nobody else should know.
    pub(crate) fn new(seed: u64) -> Self {
        let full = Bucket::full();
        Self {
            seed,
            known: Box::default(),
            limits: BTreeMap::new(),
            known_claimed: full,
            known_proven: full,
            others_claimed: full,
            others_proven: full,
            seats: vec![],
            answered: vec![],
        }
    }

    /// From now on, these are the addresses where runners are.
    pub(crate) fn know(&mut self, addresses: impl Iterator<Item = IpAddr>) {
        let mut sources: Vec<Source> = addresses.map(Source::of).collect();
        sources.sort_unstable();
        sources.dedup();
        self.limits.retain(|source, _| sources.binary_search(source).is_ok());
        self.known = sources.into();
    }

    /// Whether an initiation from this address, `proven` or only claimed, is to be looked into.
    pub(crate) fn admit(&mut self, from: IpAddr, proven: bool, now: Instant) -> Admission {
        let source = Source::of(from);
        let known = self.known.binary_search(&source).ok().map(|_| self.limits.entry(source).or_default());
        let (own, share) = match (known, proven) {
            (Some(known), false) => (Some(&mut known.claimed), &mut self.known_claimed),
            (Some(known), true) => (Some(&mut known.proven), &mut self.known_proven),
            // A limit on an address that anybody can claim would be a limit on its owner.
            (None, false) => (None, &mut self.others_claimed),
            (None, true) => (Some(seat(&mut self.seats, self.seed, source)), &mut self.others_proven),
        };
        let granted = own.is_none_or(|own| own.take(ADDRESS, now)) && share.take(SHARE, now);
        match (granted, proven) {
            (true, _) => Admission::Granted,
            (false, false) => Admission::Unproven,
            (false, true) => Admission::Refused,
        }
    }

    /// Notes that an initiation was answered: another copy of it is not worth looking into.
    pub(crate) fn answered(&mut self, mac: Mac) {
        self.answered.resize(ANSWERED, Mac::default());
        self.answered[usize::from(mac[0])] = mac;
    }

    /// Whether this initiation is known to have been answered.
    pub(crate) fn was_answered(&self, mac: &Mac) -> bool {
        self.answered.get(usize::from(mac[0])) == Some(mac)
    }
}

/// The limit of an address: whoever had the place before begins anew when it comes back, which the share bounds.
fn seat(seats: &mut Vec<Option<(Source, Bucket)>>, seed: u64, source: Source) -> &mut Bucket {
    let mut hasher = DefaultHasher::new();
    hasher.write_u64(seed);
    hasher.write_u64(source.0);
    seats.resize(SEATS, None);
    let seat = &mut seats[hasher.finish() as usize % SEATS];
    let (owner, bucket) = seat.get_or_insert((source, Bucket::full()));
    if *owner != source {
        (*owner, *bucket) = (source, Bucket::full());
    }
    bucket
}

/// Where something comes from, as far as one sender can't choose: an IPv4 address or the /64 of an IPv6 one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Source(u64);

impl Source {
    fn of(address: IpAddr) -> Self {
        Self(match address {
            // No /64 begins with 32 zero bits but those of the obsolete IPv4-compatible addresses.
            IpAddr::V4(address) => u64::from(address.to_bits()),
            IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
        })
    }
}

/// What [`Admissions::know`] keeps of an address.
#[cfg(test)]
pub(super) const KNOWN: usize = size_of::<Source>();

#[cfg(test)]
mod tests;
