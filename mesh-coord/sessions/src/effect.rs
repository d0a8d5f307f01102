//! Effects for the coordinator's shell to carry out.

use mesh_proto::{RunnerId, message::Switches};

use crate::{session::StreamId, wait::WaitId};

/// An effect to carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The view of this stream's runner is outdated. The stream asks for it ([`crate::Sessions::view`]) when it is
    /// ready.
    Outdated(StreamId),
    /// The offloads of this stream's runner have changed.
    Switches(StreamId, Switches),
    /// The stream ends: a newer one of its runner has begun, or the runner was removed.
    End(StreamId),
    /// The runner was removed. Nothing about it is needed any more.
    Removed(RunnerId),
    /// A wait is over: either all have confirmed, or its deadline has passed without these runners.
    Waited(WaitId, Vec<RunnerId>),
}
