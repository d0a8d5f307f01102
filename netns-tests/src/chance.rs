//! Chance that can be had again.

use std::time::Duration;

/// Numbers by chance: Marsaglia, Xorshift RNGs, 2003.
#[derive(Debug)]
pub struct Chance(u64);

impl Chance {
    /// What comes of it is decided by the seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Less than `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % limit
    }

    /// A time up to `limit`.
    pub fn up_to(&mut self, limit: Duration) -> Duration {
        limit * self.below(1000) as u32 / 1000
    }
}
