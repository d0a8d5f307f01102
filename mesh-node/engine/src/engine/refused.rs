//! Why a segment may not pass, and what its sender is told.

use crate::{Reason, refuse::Unreachable};

/// Why a segment may not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct No {
    pub(super) reason: Reason,
    /// What its sender is told: by ICMP if it is here and opens a connection, else by RST. `None`: nothing.
    pub(super) told: Option<Unreachable>,
}

impl No {
    /// Nothing is said.
    pub(super) const fn silent(reason: Reason) -> Self {
        Self { reason, told: None }
    }

    /// It is not allowed.
    pub(super) const fn prohibited(reason: Reason) -> Self {
        Self { reason, told: Some(Unreachable::Prohibited) }
    }

    /// Nobody is there.
    pub(super) const fn nobody(reason: Reason) -> Self {
        Self { reason, told: Some(Unreachable::Host) }
    }
}
