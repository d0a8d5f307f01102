//! Steps that block.

use std::fmt;

use mesh_proto::message::Refusal;
use tokio::task::spawn_blocking;

/// Runs what blocks where it may. What there is to try next is in these errors' texts already.
pub(super) async fn blocking<T: Send + 'static, E: fmt::Display + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Refusal> {
    match spawn_blocking(work).await {
        Ok(result) => result.map_err(|e| Refusal::bare(e.to_string())),
        Err(panic) => Err(Refusal::new(format!("the agent failed: {panic}"), "this is a bug: please report it")),
    }
}
