//! The two clocks, as the caller has read them.

use std::time::Duration;

/// The time: one clock for deadlines and one for what others have dated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Since the relay's start, by a clock that never jumps.
    pub since: Duration,
    /// Seconds since 1970.
    pub unix: u64,
}

impl Now {
    /// Seconds since the relay's start, enough for 136 years.
    pub(crate) fn seconds(self) -> u32 {
        u32::try_from(self.since.as_secs()).unwrap_or(u32::MAX)
    }
}
