//! A token bucket.

use std::time::{Duration, Instant};

/// Work that is allowed each second, and at once.
pub(crate) const EACH_SECOND: u32 = 2000;
pub(crate) const AT_ONCE: u32 = 2000;

/// What is left, full at first. It is stored as the time when it will be full again (the virtual scheduling algorithm of
/// ITU-T I.371), so that rounding loses nothing.
#[derive(Debug)]
pub(crate) struct Bucket(Option<Instant>);

impl Bucket {
    pub(crate) const FULL: Self = Self(None);

    /// Whether anything is left.
    pub(crate) fn is_open(&self, now: Instant) -> bool {
        self.0.is_none_or(|full| full.saturating_duration_since(now) < Self::every() * AT_ONCE)
    }

    /// Takes so many tokens, also more than are left: the next ones wait for them.
    pub(crate) fn take(&mut self, tokens: u32, now: Instant) {
        self.0 = Some(self.0.map_or(now, |full| full.max(now)) + Self::every() * tokens);
    }

    fn every() -> Duration {
        Duration::from_secs(1) / EACH_SECOND
    }
}
