//! Connections: their ends, their instances, and whether they stand.
//!
//! A flow is pinned. Packets carry only the service address, so the caller's engine keeps the runner and the callee's
//! engine keeps the instance. At least one end of every followed flow is local.

mod attempt;
mod count;
mod due;
mod end;
mod entry;
mod expire;
mod hash;
mod kept_syns;
mod lanes;
mod loads;
mod pairs;
mod pins;
mod resolve;
mod skip;
mod table;
mod track;
mod usage;

pub use self::pins::{MAX_CONNECTIONS, PIN_MEMORY, PinMemory};
pub(crate) use self::{
    end::{End, Location, Phase, Role, Target},
    entry::{Flow, Resolved},
    lanes::Lane,
    pins::{Pin, Progress},
    skip::Skips,
    table::Flows,
};
pub(crate) use crate::index::Slot;

#[cfg(test)]
mod tests;
