//! Pauses between attempts, which grow with each failure.

use std::time::Duration;

/// Pauses that double with each failure, up to a limit.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failed: u32,
}

impl Backoff {
    /// Pauses from `first` to `longest`.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failed: 0 }
    }

    /// The pause after one more failure.
    pub fn next_pause(&mut self) -> Duration {
        // 2^31 is more than any pair of limits needs, and stays within u32.
        let pause = self.first.saturating_mul(1 << self.failed.min(31)).min(self.longest);
        self.failed = self.failed.saturating_add(1);
        pause
    }

    /// The pause after one more failure, of which a random part between half and all, so that many clients don't
    /// retry at the same moment.
    pub fn next_spread(&mut self, random: u64) -> Duration {
        let half = self.next_pause() / 2;
        let spread = u64::try_from(half.as_micros()).unwrap_or(u64::MAX - 1);
        half + Duration::from_micros(random % (spread + 1))
    }

    /// An attempt has succeeded. The next pause is the first one again.
    pub const fn reset(&mut self) {
        self.failed = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff() -> Backoff {
        Backoff::new(Duration::from_millis(100), Duration::from_secs(5))
    }

    #[test]
    fn pauses_double_up_to_the_limit_and_start_again_after_a_success() {
        let mut backoff = backoff();
        let pauses: Vec<u128> = (0..100).map(|_| backoff.next_pause().as_millis()).collect();
        assert_eq!(pauses[..8], [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(pauses[99], 5000);
        backoff.reset();
        assert_eq!(backoff.next_pause(), Duration::from_millis(100));
    }

    #[test]
    fn a_spread_pause_is_between_half_and_all() {
        for random in [0, 1, 49_999, 50_000, 50_001, u64::MAX] {
            let pause = backoff().next_spread(random);
            assert!((50..=100).contains(&pause.as_millis()), "{random}: {pause:?}");
        }
        assert_eq!(backoff().next_spread(0), Duration::from_millis(50));
        assert_eq!(backoff().next_spread(50_000), Duration::from_millis(100));
    }
}
