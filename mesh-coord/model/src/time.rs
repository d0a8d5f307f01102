//! Time: of day, which people know and which can be wrong, and of running, which only passes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A time in whole seconds since 1970-01-01 00:00 UTC, leap seconds not counted (POSIX).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixSeconds(pub u64);

impl UnixSeconds {
    /// How many seconds this is after `earlier`; none if it isn't.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The time so many seconds later.
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

/// For how many whole seconds coordinators have run on these records, more or less: never more than they have, counted
/// from anywhere. Whatever the clocks on the walls do, between two of these as much time has passed as they say at least.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunningSeconds(pub u64);

impl RunningSeconds {
    /// How many seconds this is after `earlier`; none if it isn't.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The time at which a command is decided on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The time of day. Tokens expire by it; the audit and the tables tell it. It may jump, either way.
    pub day: UnixSeconds,
    /// The running time: not before [`crate::State::running`], and never back. Addresses rest by it.
    pub running: RunningSeconds,
}

/// Where no clock is ever wrong, as in a simulation, one is enough.
impl From<UnixSeconds> for Now {
    fn from(day: UnixSeconds) -> Self {
        Self { day, running: RunningSeconds(day.0) }
    }
}
