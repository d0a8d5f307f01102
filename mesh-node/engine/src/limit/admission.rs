//! Decides which initiations are examined when there are too many.
//!
//! It costs a Diffie-Hellman (0.05 ms) to find out the sender of an initiation, and its source address may be forged. So
//! there are four shares, and a flood of one leaves the others alone: for addresses of runners in the map and for all
//! others, each with a proof of the sender's address (a cookie, whitepaper §5.3) and without. If the share without proof
//! is used up, the sender gets a cookie, so that a runner needs one more round trip at worst. With a proof each address
//! has a limit of its own, so that no address can use up the share. The memory is bounded.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher},
    net::{IpAddr, Ipv6Addr},
    time::Instant,
};

use super::bucket::{Bucket, Rate};
use crate::{Hop, index::TunnelIx};

/// The limit on each of the four shares: at worst they take an eighth of a core.
const SHARE: Rate = Rate { each_second: 250, at_once: 250 };

/// The limit on one address. A runner starts a handshake in five seconds, but several may share an address, and all of
/// them may have restarted.
const ADDRESS: Rate = Rate { each_second: 10, at_once: 20 };

/// How many addresses outside of the map have a limit of their own at a time.
const PLACES: usize = 1024;

/// How many answered initiations are remembered.
const ANSWERED: usize = 256;

/// The authentication code of an initiation, which identifies it (whitepaper §5.4.4).
pub(crate) type Mac = [u8; 16];

/// The decision on an initiation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    Granted,
    /// The sender has to prove its address first.
    Unproven,
    Refused,
}

/// All shares and limits.
pub(crate) struct Admissions {
    seed: u64,
    /// The addresses of runners, sorted.
    known: Box<[Source]>,
    /// The limits of those that have sent something: most runners are idle.
    limits: BTreeMap<Source, Known>,
    known_claimed: Bucket,
    known_proven: Bucket,
    others_claimed: Bucket,
    others_proven: Bucket,
    /// Other addresses that were proven, each in the place that its hash selects. Empty until the first one.
    places: Vec<Option<(Source, Bucket)>>,
    /// Answered initiations and the tunnels of their senders, each in the place that its first byte selects. Empty until the
    /// first one.
    answered: Vec<(Mac, TunnelIx)>,
}

/// The limits of an address of runners.
#[derive(Debug, Default)]
struct Known {
    claimed: Bucket,
    proven: Bucket,
}

impl Admissions {
    /// `seed` decides which addresses share a place. It has to be secret.
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
            places: vec![],
            answered: vec![],
        }
    }

    /// Replaces the addresses of runners.
    pub(crate) fn set_known(&mut self, addresses: impl Iterator<Item = IpAddr>) {
        let mut sources: Vec<Source> = addresses.map(Source::of).collect();
        sources.sort_unstable();
        sources.dedup();
        self.limits.retain(|source, _| sources.binary_search(source).is_ok());
        self.known = sources.into();
    }

    /// The address that stands for a sender, in its limit and in its cookie. Those behind a relay share the relay's address,
    /// so each has one for its relayed address, which the relay has authenticated: in a block of IPv6 that is not used
    /// (0100::/8, RFC 4291 §4).
    pub(crate) fn source(&self, from: Hop) -> IpAddr {
        let (relay, peer) = match from {
            Hop::Direct(at) => return at.ip(),
            Hop::Relayed { relay, peer } => (relay, peer),
        };
        let mut hasher = DefaultHasher::new();
        (self.seed, relay, peer).hash(&mut hasher);
        let hash = hasher.finish();
        Ipv6Addr::from_bits(u128::from(hash >> 8 | 1 << 56) << 64 | u128::from(hash)).into()
    }

    /// Decides on an initiation from this address, which is `proven` or only claimed.
    pub(crate) fn admit(&mut self, from: IpAddr, proven: bool, now: Instant) -> Admission {
        let source = Source::of(from);
        let known = self.known.binary_search(&source).ok().map(|_| self.limits.entry(source).or_default());
        let (own, share) = match (known, proven) {
            (Some(known), false) => (Some(&mut known.claimed), &mut self.known_claimed),
            (Some(known), true) => (Some(&mut known.proven), &mut self.known_proven),
            // An attacker could use up a limit on an unproven address in its owner's name.
            (None, false) => (None, &mut self.others_claimed),
            (None, true) => (Some(place(&mut self.places, self.seed, source)), &mut self.others_proven),
        };
        let granted = own.is_none_or(|own| own.take(ADDRESS, now)) && share.take(SHARE, now);
        match (granted, proven) {
            (true, _) => Admission::Granted,
            (false, false) => Admission::Unproven,
            (false, true) => Admission::Refused,
        }
    }

    /// Notes that an initiation was answered by this tunnel. Copies of it are not examined.
    pub(crate) fn answered(&mut self, mac: Mac, tunnel: TunnelIx) {
        self.answered.resize(ANSWERED, (Mac::default(), TunnelIx(0)));
        self.answered[usize::from(mac[0])] = (mac, tunnel);
    }

    /// The tunnel that has answered this initiation lately.
    pub(crate) fn answerer(&self, mac: &Mac) -> Option<TunnelIx> {
        let (answered, tunnel) = self.answered.get(usize::from(mac[0]))?;
        (answered == mac).then_some(*tunnel)
    }
}

/// The limit of an address. Another address with the same place loses its state, which the share bounds.
fn place(places: &mut Vec<Option<(Source, Bucket)>>, seed: u64, source: Source) -> &mut Bucket {
    let mut hasher = DefaultHasher::new();
    hasher.write_u64(seed);
    hasher.write_u64(source.0);
    places.resize(PLACES, None);
    let place = &mut places[hasher.finish() as usize % PLACES];
    let (owner, bucket) = place.get_or_insert((source, Bucket::full()));
    if *owner != source {
        (*owner, *bucket) = (source, Bucket::full());
    }
    bucket
}

/// The part of an address that a sender can't choose: an IPv4 address, or the /64 of an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Source(u64);

impl Source {
    fn of(address: IpAddr) -> Self {
        Self(match address {
            // Only the obsolete IPv4-compatible addresses have a /64 that begins with 32 zero bits.
            IpAddr::V4(address) => u64::from(address.to_bits()),
            IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
        })
    }
}

/// The bytes that [`Admissions::set_known`] keeps for each address.
#[cfg(test)]
pub(super) const KNOWN: usize = size_of::<Source>();

#[cfg(test)]
mod tests;
