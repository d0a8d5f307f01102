//! Limits on what one sender can cause: rejects and handshakes.

use std::time::Instant;

use crate::{
    number::{NumberHasher, NumberMap},
    packet::{Packet, Tcp},
};

mod admission;
mod bucket;

pub(crate) use admission::{Admission, Admissions, Mac};
pub(crate) use bucket::{Bucket, Pace, Rate};

/// The size in bytes of a known address among the limits.
#[cfg(test)]
pub(crate) const ADMISSION_BYTES: usize = admission::KNOWN;

/// Rejects to an instance, a second and at once. Each answers one packet, so that nothing is amplified: the limit bounds
/// the work, and is more than connects can fail one after another.
pub(crate) const INSTANCE: u32 = 10_000;

/// Rejects to another runner, whose own engine should have rejected the packet already.
pub(crate) const RUNNER: u32 = 1000;

/// How many SYNs are remembered.
const SYNS: usize = 1024;

/// How many tenants of one sender are distinguished at a time.
const TENANTS: usize = 1024;

/// The most frequent key, and between equals the first: the holder of most of a shared resource makes room.
pub(crate) fn greediest<K: Copy + PartialEq>(keys: impl Iterator<Item = K>) -> Option<K> {
    let mut counts: Vec<(K, usize)> = vec![];
    for key in keys {
        match counts.iter_mut().find(|(known, _)| *known == key) {
            Some((_, count)) => *count += 1,
            None => counts.push((key, 1)),
        }
    }
    counts.into_iter().rev().max_by_key(|(_, count)| *count).map(|(key, _)| key)
}

/// A limit on rejects to each tenant of one sender. Retransmitted SYNs are exempt: their sender got no reject, or missed
/// it, and would wait in vain.
#[derive(Debug)]
pub(crate) struct Limit {
    rate: Rate,
    /// Empty until the first reject.
    left: NumberMap<u32, Bucket>,
    /// Fingerprints of SYNs, each in the place that it selects. Empty until the first one.
    syns: Vec<u64>,
}

impl Limit {
    /// A limit of `rate` rejects a second.
    pub(crate) fn new(rate: u32) -> Self {
        Self { rate: Rate { each_second: rate, at_once: rate }, left: NumberMap::default(), syns: Vec::new() }
    }

    /// Whether a reject of this packet of `tenant` may be sent.
    pub(crate) fn admits(&mut self, tenant: u32, packet: &Packet, tcp: Option<&Tcp>, now: Instant) -> bool {
        if tcp.is_some_and(|tcp| tcp.flags.opens() && self.is_retransmitted(packet, tcp)) {
            return true;
        }
        if self.left.len() >= TENANTS && !self.left.contains_key(&tenant) {
            let Self { left, rate, .. } = self;
            left.retain(|_, bucket| bucket.is_empty(*rate, now));
            if left.len() >= TENANTS {
                return false;
            }
        }
        self.left.entry(tenant).or_default().take(self.rate, now)
    }

    fn is_retransmitted(&mut self, packet: &Packet, tcp: &Tcp) -> bool {
        use std::hash::Hasher;
        let mut hasher = NumberHasher::default();
        hasher.write_u64(u64::from(packet.source.to_bits()) << 32 | u64::from(packet.destination.to_bits()));
        hasher.write_u64(
            u64::from(tcp.source_port) << 48 | u64::from(tcp.destination_port) << 32 | u64::from(tcp.sequence),
        );
        let fingerprint = hasher.finish();
        self.syns.resize(SYNS, 0);
        let place = &mut self.syns[fingerprint as usize % SYNS];
        let known = *place == fingerprint;
        *place = fingerprint;
        known
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::{packet, tcp};

    #[test]
    fn a_flood_is_limited_and_a_retransmitted_syn_is_not() {
        let now = Instant::now();
        let mut limit = Limit::new(RUNNER);
        let syn = |port| packet(&tcp().source_port(port).syn().build());
        let mut admits = |(packet, tcp): (Packet, Tcp), now| limit.admits(0, &packet, Some(&tcp), now);
        assert!((0..RUNNER).all(|port| admits(syn(port as u16), now)));
        assert!(!admits(syn(5000), now), "the limit");
        assert!(admits(syn(5000), now) && admits(syn(5000), now), "the same SYN again");
        assert!(!admits(syn(5001), now), "an exempt SYN adds no tokens");
        assert!(admits(syn(5002), now + Duration::from_millis(1)), "tokens come back");
        assert!(!admits(syn(5003), now + Duration::from_millis(1)));
        let later = now + Duration::from_secs(3600);
        assert!((6000..6000 + RUNNER).all(|port| admits(syn(port as u16), later)));
        assert!(!admits(syn(9000), later), "but not without bound");
    }

    #[test]
    fn a_tenant_that_is_refused_without_end_leaves_others_theirs() {
        let now = Instant::now();
        let mut limit = Limit::new(RUNNER);
        let mut admits = |tenant, port| {
            let (packet, tcp) = packet(&tcp().source_port(port).build());
            limit.admits(tenant, &packet, Some(&tcp), now)
        };
        let admitted = (0..5 * RUNNER).filter(|port| admits(1, *port as u16)).count();
        assert_eq!(admitted as u32, RUNNER);
        assert!(admits(2, 1));
    }
}
