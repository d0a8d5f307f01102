//! Time of day, which people know and which can be wrong; and running time, which only passes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Seconds since 1970-01-01 00:00 UTC, without leap seconds (POSIX).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct UnixSeconds(pub u64);

impl UnixSeconds {
    /// How many seconds this is after `earlier`; 0 if it is before.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The time this many seconds later.
    #[must_use]
    pub const fn plus(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }
}

impl fmt::Display for UnixSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// For how many seconds coordinators have run on these records, counted from any start and never too many. Between
/// two of these, at least as much time has passed as they differ by, whatever the system's clock does.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunningSeconds(pub u64);

impl RunningSeconds {
    /// How many seconds this is after `earlier`; 0 if it is before.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The time of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The time of day, for expiry, the audit and tables. It may jump either way.
    pub day: UnixSeconds,
    /// The running time, for quarantines: not before [`crate::State::running`], and never back.
    pub running: RunningSeconds,
}

/// For simulations, where no clock is ever wrong.
impl From<UnixSeconds> for Now {
    fn from(day: UnixSeconds) -> Self {
        Self { day, running: RunningSeconds(day.0) }
    }
}
