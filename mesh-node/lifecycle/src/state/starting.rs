//! The start of the agent.

use std::time::Instant;

use crate::{CallId, Remembered};

/// How far the start of the agent is.
#[derive(Debug)]
pub(crate) enum Starting {
    /// It has not begun.
    Remembering(Box<Remembered>),
    /// The instances are looked for, each with its containers after it. So many of both are left, and then it goes on
    /// without them.
    Looking {
        call: CallId,
        left: usize,
        until: Instant,
    },
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
            Self::Looking { until, .. } => Some((*until, "the instances of an earlier agent are taken up")),
            Self::Hosts(_, until) => Some((*until, "the hosts files of an earlier agent are found")),
            _ => None,
        }
    }

    /// A container is looked for.
    pub(crate) const fn one_more(&mut self) {
        if let Self::Looking { left, .. } = self {
            *left += 1;
        }
    }

    /// An instance or a container is taken up, or is not there any more.
    pub(crate) const fn one_less(&mut self) {
        if let Self::Looking { left, .. } = self {
            *left = left.saturating_sub(1);
        }
    }
}
