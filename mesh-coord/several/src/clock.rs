//! The running time, which all coordinators share although each has a clock of its own: it is the largest that any of
//! them has told.

use std::time::Duration;

use mesh_model::RunningSeconds;

/// A coordinator's running time: what it was at some moment, and its machine's uptime then.
#[derive(Debug, Clone, Copy)]
pub struct Running(RunningSeconds, Duration);

impl Running {
    /// It goes on from `running`, at this uptime.
    #[must_use]
    pub const fn new(running: RunningSeconds, uptime: Duration) -> Self {
        Self(running, uptime)
    }

    /// The running time at this uptime.
    #[must_use]
    pub const fn at(&self, uptime: Duration) -> RunningSeconds {
        let Self(running, began) = *self;
        RunningSeconds(running.0.saturating_add(uptime.saturating_sub(began).as_secs()))
    }

    /// Another coordinator's running time has come to this: time has passed for this one too.
    pub fn advance(&mut self, running: RunningSeconds, uptime: Duration) {
        if self.at(uptime) < running {
            *self = Self(running, uptime);
        }
    }
}
