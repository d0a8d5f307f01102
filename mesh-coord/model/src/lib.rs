//! The coordinator's state machine, pure: commands in, changes or a refusal out.
//!
//! The writer of the coordinator calls [`State::decide`], hands the changes to the store, and once they are there,
//! [`State::absorb`]. There is no clock and no randomness in here: the time and every secret come in with the command.

pub mod command;
pub mod declare;
pub mod limits;
pub mod outcome;
pub mod record;
pub mod refusal;
pub mod tables;

mod alloc;
mod auth;
mod deploy;
mod draft;
mod enrol;
mod grants;
mod host;
mod index;
mod state;
mod switch;
#[cfg(test)]
mod testing;
mod token;
mod trust;
mod view;
mod why;
mod words;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use command::{
    Admin, AdminCommand, Command, Enrolment, NewPurpose, NewToken, Offload, RunnerCommand, TrustChange, Via,
};
pub use outcome::{Decision, Outcome};
pub use record::{Change, Key, Record};
pub use refusal::{Class, Refusal};
pub use state::{LoadError, State};

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
