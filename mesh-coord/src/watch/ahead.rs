//! Serves no agent that has a later view than the database leads to: see [`mesh_sessions::Ahead`].

use mesh_model::Command;
use mesh_proto::RunnerId;
use mesh_sessions::Ahead;
use tracing::warn;

use super::end::End;
use crate::coordinator::Coordinator;

/// Lets the stream begin, in another epoch if the database was put back to an earlier state.
pub(super) async fn admit(coordinator: &Coordinator, runner: RunnerId, ahead: Option<Ahead>) -> Result<(), End> {
    match ahead {
        None => Ok(()),
        Some(Ahead::OfRestored { seen }) => {
            warn!(%runner, %seen, "the database was put back to an earlier state, so all maps begin anew");
            coordinator.submit(Command::PutBack { runner, seen }).await?;
            Ok(())
        }
        Some(Ahead::OfNothing) => {
            Err(End::lost("this coordinator is behind: the runner has a later map than it has ever made"))
        }
    }
}
