//! The right to use the records alone, by the key `active`, which goes with its holder's lease. Coordinators that serve
//! together keep the key too, without a lease.

use super::{
    layout::{Layout, compare, is_unchanged},
    wire::{Against, BY_LEASE, BY_VERSION, Compare, KeyValue, Op, RangeRequest, Request},
};

/// A right: the lease of its holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    /// The lease.
    pub lease: i64,
}

/// That no one else has got the right since.
#[must_use]
pub fn fence(layout: &Layout, right: Right) -> Compare {
    compare(layout.active(), BY_LEASE, Against::Lease(right.lease))
}

/// The step that reads who has the right.
#[must_use]
pub fn look(layout: &Layout) -> Op {
    Op { request: Some(Request::Range(RangeRequest { key: layout.active(), ..RangeRequest::default() })) }
}

/// Whether what was read is this right.
#[must_use]
pub fn is_held(right: Right, found: Option<&KeyValue>) -> bool {
    found.is_some_and(|kv| kv.lease == right.lease)
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
