//! Answers to agents' questions.

use std::time::Duration;

use futures_util::{FutureExt as _, future::BoxFuture};
use mesh_model::{Command, Outcome, RunnerCommand};
use mesh_proto::{
    RunnerId,
    message::{Answer, Ask, Down},
};

use crate::{
    coordinator::{Coordinator, Failure},
    rate::RunnerLimits,
};

/// The longest wait of [`Ask::Settle`].
const SETTLE: Duration = Duration::from_secs(2);

/// Answers once the rate limit allows it.
pub(super) fn answer(
    coordinator: Coordinator,
    limits: RunnerLimits,
    runner: RunnerId,
    request: u64,
    ask: Ask,
) -> BoxFuture<'static, Down> {
    async move {
        let turn = match ask {
            // Waiting costs little, and leaving happens once.
            Ask::Settle { .. } => limits.notes.turn(1).await,
            Ask::Leave => Ok(()),
            _ => limits.commands.turn(1).await,
        };
        let result = match turn {
            Ok(()) => find_answer(&coordinator, runner, ask).await.map_err(|failure| failure.refusal()),
            Err(busy) => Err(busy.into()),
        };
        Down::Answer { request, result }
    }
    .boxed()
}

async fn find_answer(coordinator: &Coordinator, runner: RunnerId, ask: Ask) -> Result<Answer, Failure> {
    let submit = |what| coordinator.submit(Command::Runner { by: runner, what });
    match ask {
        Ask::Attach { service, client, release } => {
            let done = submit(RunnerCommand::Attach { service, client, release }).await?;
            match done.outcome {
                Outcome::Attached { instance, address, .. } => {
                    Ok(Answer::Attached { instance, address, revision: done.revision })
                }
                other => Err(Failure::unexpected(&other)),
            }
        }
        Ask::Detach { instance } => {
            let done = submit(RunnerCommand::Detach { instance }).await?;
            Ok(Answer::Detached { revision: done.revision })
        }
        Ask::Drain { instance } => {
            let done = submit(RunnerCommand::Drain { instance }).await?;
            Ok(Answer::Drained { revision: done.revision })
        }
        Ask::Undrain { instance } => {
            let done = submit(RunnerCommand::Undrain { instance }).await?;
            Ok(Answer::Undrained { revision: done.revision })
        }
        Ask::Leave => {
            submit(RunnerCommand::Leave).await?;
            Ok(Answer::Left)
        }
        Ask::Settle { revision } => {
            Ok(Answer::Settled { pending: coordinator.wait_for_peers(runner, revision, SETTLE).await? })
        }
        Ask::Lookup { service } => {
            let view = coordinator
                .visit(move |core| core.state.lookup_view(runner, &service, core.sessions.epoch()))
                .await??;
            Ok(Answer::Found { view })
        }
        Ask::Why { caller, callee, port } => {
            Ok(coordinator.visit(move |core| core.state.why(runner, &caller, &callee, port)).await??)
        }
    }
}
