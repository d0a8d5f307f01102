//! The search for the hosts file at a place.

use std::time::{Duration, Instant};

use mesh_proto::ServicePath;

use crate::patience;

/// The search for the hosts file at a place.
#[derive(Debug)]
pub(crate) struct Seek {
    pub(crate) service: ServicePath,
    pub(crate) pause: Duration,
    pub(crate) step: SeekStep,
    /// Another file may stand there: it is followed until it is the one that is kept, and has been for a while.
    pub(crate) follows: Option<Follow>,
    /// The start of the agent waits for the first attempt.
    pub(crate) at_start: bool,
    /// The log says already that another service keeps the file.
    pub(crate) said: bool,
}

/// How long the file at a place has stayed the same.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Follow {
    /// How many looks in a row found no other file.
    pub(crate) quiet: u32,
    /// It has moved again during the look.
    pub(crate) again: bool,
}

/// How far a search is.
#[derive(Debug)]
pub(crate) enum SeekStep {
    Waiting {
        until: Instant,
    },
    Comparing,
    Opening,
    /// The file is open, and waits for its turn, or is being written.
    Keeping,
}

impl Seek {
    /// For a hosts file of an earlier agent.
    pub(crate) const fn left(service: ServicePath) -> Self {
        let (pause, step) = (patience::HOSTS_SOON, SeekStep::Opening);
        Self { service, pause, step, follows: None, at_start: true, said: false }
    }

    /// For the file that may have taken the place of another one.
    pub(crate) const fn moved(service: ServicePath) -> Self {
        let (pause, step) = (patience::HOSTS_SOON, SeekStep::Comparing);
        let follows = Some(Follow { quiet: 0, again: false });
        Self { service, pause, step, follows, at_start: false, said: false }
    }

    /// When it goes on.
    pub(crate) const fn due(&self) -> Option<Instant> {
        match self.step {
            SeekStep::Waiting { until } => Some(until),
            SeekStep::Comparing | SeekStep::Opening | SeekStep::Keeping => None,
        }
    }
}
