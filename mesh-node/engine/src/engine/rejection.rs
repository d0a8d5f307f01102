//! Why a segment is rejected, and how its sender is answered.

use crate::{Reason, reject_packet::Unreachable};

/// Why a segment may not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rejection {
    pub(super) reason: Reason,
    /// The answer to the sender: ICMP if the sender is local and the segment opens a connection, else a RST. `None`: no
    /// answer.
    pub(super) answer: Option<Unreachable>,
}

impl Rejection {
    /// Without an answer.
    pub(super) const fn silent(reason: Reason) -> Self {
        Self { reason, answer: None }
    }

    pub(super) const fn prohibited(reason: Reason) -> Self {
        Self { reason, answer: Some(Unreachable::Prohibited) }
    }

    /// The segment is allowed, but there is no instance to take it.
    pub(super) const fn no_host(reason: Reason) -> Self {
        Self { reason, answer: Some(Unreachable::Host) }
    }
}
