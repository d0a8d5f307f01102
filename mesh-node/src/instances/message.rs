//! What the task of the lifecycle is sent.

use mesh_lifecycle::{CallId, ContainerId, Error, Input, Lifecycle, Mark, Reply};
use tokio::sync::oneshot;

use super::request::Wish;

/// Takes the reply to a call.
pub(super) type Replies = oneshot::Sender<Result<Reply, Error>>;

/// A message to the task.
pub(super) enum Message {
    /// A caller asks, and waits for the reply.
    Call(CallId, Replies, Asked),
    /// It waits no longer.
    HungUp(CallId),
    /// Something has happened.
    Happened(Input),
    /// Another part of the agent looks at the lifecycle.
    Look(Box<dyn FnOnce(&mut Lifecycle) + Send>),
}

/// What a caller asks for.
pub(super) enum Asked {
    /// An instance, perhaps for a container with its first process.
    Attach(Box<Wish>, Mark, Option<(ContainerId, Option<i32>)>),
    /// Anything for which nothing is open.
    Other(Input),
}
