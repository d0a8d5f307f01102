//! A call that waits until other runners know of a change.

use std::time::Instant;

use mesh_proto::{Label, message::Have};

use crate::{Reply, Shown};

/// A call that waits.
#[derive(Debug)]
pub(crate) struct Settling {
    pub(crate) subject: Subject,
    pub(crate) since: Have,
    /// Until when the view may come into force here; `None`: it is, and the coordinator was asked about the other
    /// runners.
    pub(crate) until: Option<Instant>,
}

/// What the answer is about.
#[derive(Debug)]
pub(crate) enum Subject {
    Attached(Shown),
    DrainingSet(Shown),
}

impl Settling {
    /// Until when this runner's own view is waited for.
    pub(crate) const fn due(&self) -> Option<Instant> {
        self.until
    }
}

impl Subject {
    pub(crate) fn reply(self, pending: Vec<Label>) -> Reply {
        match self {
            Self::Attached(shown) => Reply::Attached(shown, pending),
            Self::DrainingSet(shown) => Reply::DrainingSet(shown, pending),
        }
    }
}
