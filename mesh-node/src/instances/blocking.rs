//! Steps that block.

use std::fmt;

use mesh_proto::message::Refusal;
use tokio::task::{JoinError, spawn_blocking};

use crate::sys::turns::Turns;

/// Runs what blocks where it may. What there is to try next is in these errors' texts already.
pub(super) async fn blocking<T: Send + 'static, E: fmt::Display + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Refusal> {
    refused(spawn_blocking(work).await)
}

/// The same, in its turn.
pub(super) async fn in_turn<T: Send + 'static, E: fmt::Display + Send + 'static>(
    turns: Turns,
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Refusal> {
    refused(turns.run(work).await)
}

fn refused<T, E: fmt::Display>(result: Result<Result<T, E>, JoinError>) -> Result<T, Refusal> {
    match result {
        Ok(result) => result.map_err(|e| Refusal::bare(e.to_string())),
        Err(panic) => Err(Refusal::new(format!("the agent failed: {panic}"), "this is a bug: please report it")),
    }
}
