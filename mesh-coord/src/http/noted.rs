//! What every command of an administrator costs and leaves behind: a turn, and a note in the log and the audit.

use mesh_model::{Admin, Command, Via, record::By};
use tracing::{info, warn};

use super::failure::Refused;
use crate::{
    coordinator::{self, Coordinator, Failure},
    metrics::Verdict,
};

/// Carries out a command, and notes its result.
pub(super) async fn submit(
    coordinator: &Coordinator,
    by: Admin,
    what: &str,
    command: Command,
) -> Result<coordinator::Done, Failure> {
    let result = coordinator.submit(command).await;
    note(coordinator, by, what, &result).await;
    result
}

/// Logs the result of a command. A success is in the audit already; a refusal is added to it here.
pub(super) async fn note(
    coordinator: &Coordinator,
    by: Admin,
    what: &str,
    result: &Result<coordinator::Done, Failure>,
) {
    log(By::from(by.via), what, result);
    let verdict = match result {
        Ok(_) => Verdict::Done,
        Err(Failure::Refused(_)) => Verdict::Refused,
        Err(_) => Verdict::Failed,
    };
    coordinator.metrics.command(what, verdict);
    if let Err(Failure::Refused(refusal)) = result {
        let command = Command::Refused { by, action: what.to_owned(), detail: refusal.to_string() };
        if let Err(failure) = coordinator.submit(command).await {
            warn!(%failure, "a refusal could not be noted in the audit");
        }
    }
}

/// Tokens are rate-limited, as runners are; the operator is not.
pub(super) async fn take_turn(coordinator: &Coordinator, by: &Admin) -> Result<(), Refused> {
    take_turns(coordinator, by, 1).await
}

/// The same for a request with the weight of several.
pub(super) async fn take_turns(coordinator: &Coordinator, by: &Admin, weight: u32) -> Result<(), Refused> {
    if let Via::Token(id) = by.via {
        let limiter = coordinator.visit(move |core| core.limits.token(id)).await?;
        limiter.turn(weight).await?;
    }
    Ok(())
}

fn log(by: By, what: &str, result: &Result<coordinator::Done, Failure>) {
    match result {
        Ok(done) => info!(%by, what, result = "done", revision = %done.revision, "command"),
        Err(Failure::Refused(refusal)) => info!(%by, what, result = "refused", why = %refusal, "command"),
        Err(failure) => warn!(%by, what, result = "failed", why = %failure, "command"),
    }
}
