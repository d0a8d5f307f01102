//! The start of the agent.

use std::time::Instant;

use crate::{CallId, Remembered};

/// How far the start of the agent is.
#[derive(Debug)]
pub(crate) enum Starting {
    /// It has not begun.
    Remembering(Box<Remembered>),
    /// The instances are looked for: so many are left.
    Instances(CallId, Box<Remembered>, usize),
    /// The containers are looked for: so many are left.
    Containers(CallId, usize),
    /// The hosts files are looked for, until then.
    Hosts(CallId, Instant),
    Over,
}

impl Starting {
    pub(crate) const fn is_over(&self) -> bool {
        matches!(self, Self::Over | Self::Hosts(..))
    }

    /// When it goes on at the latest, and what it waits for.
    pub(crate) const fn due(&self) -> Option<(Instant, &'static str)> {
        match self {
            Self::Hosts(_, until) => Some((*until, "the hosts files of an earlier agent are found")),
            _ => None,
        }
    }

    /// An instance is taken up, or is not there any more.
    pub(crate) const fn one_looked_for(&mut self) {
        if let Self::Instances(_, _, left) = self {
            *left = left.saturating_sub(1);
        }
    }

    /// A container is taken up, or has let go.
    pub(crate) const fn one_let_go(&mut self) {
        if let Self::Containers(_, left) = self {
            *left = left.saturating_sub(1);
        }
    }
}
