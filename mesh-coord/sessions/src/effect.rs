//! What the coordinator's shell has to carry out.

use mesh_proto::{RunnerId, message::Switches};

use crate::{session::StreamId, wait::WaitId};

/// One thing to carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The view of this stream's runner is outdated: the stream asks for it ([`crate::Sessions::view`]) when it has time.
    Outdated(StreamId),
    /// The offloads that are on at this stream's runner have changed.
    Switches(StreamId, Switches),
    /// The stream ends: a newer one of its runner has begun, or the runner was removed.
    End(StreamId),
    /// The runner was removed: nothing about it is needed any more.
    Removed(RunnerId),
    /// A wait is over. All have confirmed, or these hadn't when its time was up.
    Waited(WaitId, Vec<RunnerId>),
}
