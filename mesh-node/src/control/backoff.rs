//! How long to wait before the next attempt: longer each time, and never the same for all runners.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// Counts attempts that failed in a row.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failed: u32,
}

impl Backoff {
    /// The wait after one more failure: 100 ms, doubled with each failure up to 5 s, of which a random half to all.
    pub(crate) fn next(&mut self, random: u64) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.failed.min(10)).min(LONGEST);
        self.failed = self.failed.saturating_add(1);
        let half = whole / 2;
        #[expect(clippy::cast_possible_truncation, reason = "half of 5 s in microseconds is far below 2^64")]
        let spread = half.as_micros() as u64;
        half + Duration::from_micros(random % (spread + 1))
    }

    /// An attempt has succeeded.
    pub(crate) fn reset(&mut self) {
        self.failed = 0;
    }
}

/// An unpredictable number; if the system has no randomness, always the same.
pub(crate) fn random() -> u64 {
    getrandom::u64().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_a_cap_and_starts_anew_after_a_success() {
        let mut backoff = Backoff::default();
        let longest: Vec<u128> = (0..8)
            .map(|_| {
                let failed = backoff.failed;
                let most = (0..=2_500_000).step_by(50_000).map(|r| Backoff { failed }.next(r)).max().unwrap();
                backoff.next(0);
                most.as_millis()
            })
            .collect();
        assert_eq!(longest, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        backoff.reset();
        assert_eq!(backoff.next(0), FIRST / 2);
    }

    #[test]
    fn no_number_of_failures_or_random_number_is_too_large() {
        let mut backoff = Backoff { failed: u32::MAX };
        for random in [0, 1, u64::MAX] {
            let wait = backoff.next(random);
            assert!((LONGEST / 2..=LONGEST).contains(&wait), "{wait:?}");
        }
    }
}
