//! By what right a coordinator commits: a key that goes with its holder's lease. It is either its place among those that
//! serve together, `member/ID`, or the right to use the records alone, `active`. Coordinators that serve together keep
//! the key `active` too, without a lease.
//!
//! A decision is made by a right, and its commit compares that right. A lease that has ended never comes back, so a
//! coordinator that stood still for longer between the two commits nothing: its decision has an old time, by which an
//! address would come out of its quarantine too early.

use std::time::Duration;

use mesh_model::record::MemberId;

use super::{
    layout::{Layout, compare, is_unchanged},
    wire::{Against, BY_LEASE, BY_VERSION, Compare, KeyValue, Op, RangeRequest, Request},
};

/// How long a commit may be prepared, by reads and by writes of its parts. With the time that a lease lasts it is less
/// than that by which quarantines are longer with several coordinators.
pub const PREPARATION: Duration = Duration::from_secs(15);

/// A right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// To use the records alone.
    Alone {
        /// The holder's lease.
        lease: i64,
    },
    /// A place among others.
    Place {
        /// The coordinator,
        member: MemberId,
        /// and its lease.
        lease: i64,
    },
}

impl Right {
    /// The holder's lease.
    #[must_use]
    pub const fn lease(self) -> i64 {
        match self {
            Self::Alone { lease } | Self::Place { lease, .. } => lease,
        }
    }

    fn key(self, layout: &Layout) -> Vec<u8> {
        match self {
            Self::Alone { .. } => layout.active(),
            Self::Place { member, .. } => layout.member(member),
        }
    }
}

/// That the right is still there.
#[must_use]
pub fn fence(layout: &Layout, right: Right) -> Compare {
    compare(right.key(layout), BY_LEASE, Against::Lease(right.lease()))
}

/// The step that reads whether it is.
#[must_use]
pub fn look(layout: &Layout, right: Right) -> Op {
    Op { request: Some(Request::Range(RangeRequest { key: right.key(layout), ..RangeRequest::default() })) }
}

/// Whether what was read is this right.
#[must_use]
pub fn is_held(right: Right, found: Option<&KeyValue>) -> bool {
    found.is_some_and(|kv| kv.lease == right.lease())
}

/// That the key is as it was found: not there, or that of coordinators that serve together. `None`: someone has the
/// records alone.
#[must_use]
pub fn is_open(layout: &Layout, found: Option<&KeyValue>) -> Option<Compare> {
    match found {
        Some(kv) if kv.lease != 0 => None,
        _ => Some(is_unchanged(layout.active(), found.map(|kv| kv.mod_revision))),
    }
}

/// That no one has the records alone.
#[must_use]
pub fn is_shared(layout: &Layout) -> Compare {
    compare(layout.active(), BY_LEASE, Against::Lease(0))
}

/// That there is no coordinator that serves with others.
#[must_use]
pub fn is_deserted(layout: &Layout) -> Compare {
    let (key, range_end) = layout.members();
    Compare { range_end, ..compare(key, BY_VERSION, Against::Version(0)) }
}
