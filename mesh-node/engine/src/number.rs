//! Hash maps keyed by numbers, and numbers drawn from a seed.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, DefaultHasher, Hasher},
};

/// A map whose keys no attacker chooses: addresses and indices that the coordinator or this engine assigned.
pub(crate) type NumberMap<K, V> = HashMap<K, V, BuildHasherDefault<NumberHasher>>;

/// Multiplication by 2^64/φ (Knuth, TAOCP 3, §6.4), folded since hashbrown uses both ends of the hash.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

/// Numbers that differ from run to run and are no secrets: SipHash over the seed and a counter.
#[derive(Debug)]
pub(crate) struct Numbers {
    seed: [u8; 32],
    drawn: u64,
}

impl Numbers {
    pub(crate) const fn new(seed: [u8; 32]) -> Self {
        Self { seed, drawn: 0 }
    }

    pub(crate) fn draw(&mut self) -> u64 {
        self.drawn += 1;
        let mut hasher = DefaultHasher::new();
        hasher.write(&self.seed);
        hasher.write_u64(self.drawn);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_a_row_fall_into_different_buckets() {
        use std::collections::BTreeSet;
        let hash = |n: u32| {
            let mut hasher = NumberHasher::default();
            hasher.write_u32(n);
            hasher.finish()
        };
        // hashbrown takes the bucket from the low bits and a tag from the top seven.
        let low: BTreeSet<u64> = (0..1024).map(|n| hash(0x6470_0000 + n) % 1024).collect();
        let top: BTreeSet<u64> = (0..1024).map(|n| hash(0x6470_0000 + n) >> 57).collect();
        assert!(low.len() > 500 && top.len() == 128, "{} {}", low.len(), top.len());
    }

    #[test]
    fn the_same_seed_draws_the_same_numbers() {
        let draw = |seed| {
            let mut numbers = Numbers::new([seed; 32]);
            [numbers.draw(), numbers.draw(), numbers.draw()]
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert_ne!(draw(1)[0], draw(1)[1]);
    }
}
