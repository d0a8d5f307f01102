//! A right in etcd: a key that goes with its holder's lease, `member/ID` for a place among others, `active` for the right
//! to use the records alone. Coordinators that serve together keep the key `active` too, without a lease.

use std::time::Duration;

use super::{
    layout::{Layout, compare, is_unchanged},
    wire::{Against, BY_LEASE, BY_VERSION, Compare, KeyValue, Op, RangeRequest, Request},
};
use crate::right::Right;

/// How long a commit may be prepared, by reads and by writes of its parts. With the time that a lease lasts it is less
/// than that by which quarantines are longer with several coordinators.
pub const PREPARATION: Duration = Duration::from_secs(15);

fn key(right: Right, layout: &Layout) -> Vec<u8> {
    match right {
        Right::Alone { .. } => layout.active(),
        Right::Place { member, .. } => layout.member(member),
    }
}

/// That the right is still there.
#[must_use]
pub fn fence(layout: &Layout, right: Right) -> Compare {
    compare(key(right, layout), BY_LEASE, Against::Lease(right.lease()))
}

/// The step that reads whether it is.
#[must_use]
pub fn look(layout: &Layout, right: Right) -> Op {
    Op { request: Some(Request::Range(RangeRequest { key: key(right, layout), ..RangeRequest::default() })) }
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
