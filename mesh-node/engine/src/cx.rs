//! What every step of a turn needs.

use std::time::Instant;

use crate::drop::Drops;

/// The context of one call of the engine.
pub(crate) struct Cx<'a, S> {
    pub(crate) now: Instant,
    pub(crate) sink: &'a mut S,
    pub(crate) drops: &'a mut Drops,
}
