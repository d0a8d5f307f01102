//! Chance that can be had again.

use std::time::Duration;

/// Marsaglia, Xorshift RNGs, 2003.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Less than `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % limit
    }

    pub(crate) fn up_to(&mut self, limit: Duration) -> Duration {
        limit * self.below(1000) as u32 / 1000
    }
}
