//! The one place where the coordinator reads the time of day.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

/// Seconds since 1970 that never go back while the process runs: a clock that is set back stands still here until it has
/// caught up, so that nothing which has expired comes to life again and no address rests for less than it should.
#[derive(Debug, Default)]
pub(crate) struct Clock(AtomicU64);

impl Clock {
    /// The time now, in unix seconds.
    pub(crate) fn now(&self) -> u64 {
        self.not_before(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
    }

    /// The time now, which is at least this.
    pub(crate) fn not_before(&self, seconds: u64) -> u64 {
        self.0.fetch_max(seconds, Ordering::Relaxed).max(seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_goes_back() {
        let clock = Clock::default();
        assert_eq!([10, 12, 3, 0, 12, 13].map(|t| clock.not_before(t)), [10, 12, 12, 12, 12, 13]);
        assert!(clock.now() > 1_700_000_000);
    }
}
