//! Commands that are only tried, with what they would take away; and `apply` with expectations.

use axum::{Json, Router, routing::post};
use mesh_model::{AdminCommand, Apply, Command, Preview};

use super::{
    Api,
    admin::{Answer, COMMAND_KIB},
    auth::Administrator,
    body::Body,
    failure::Refused,
    noted::{note, take_turns},
};
use crate::{
    api::Previewed,
    coordinator::{Coordinator, Failure},
};

/// How many turns a preview takes: it copies the state.
const TURNS: u32 = 10;

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/apply", post(apply)).route("/preview", post(preview))
}

/// Tries a command.
async fn preview(
    Administrator { by, coordinator }: Administrator,
    Body(what, _loan): Body<AdminCommand, COMMAND_KIB>,
) -> Answer<Previewed> {
    take_turns(&coordinator, &by, TURNS).await?;
    let command = Command::Admin { by: by.clone(), what };
    tried(&coordinator, by, command).await.map(Json)
}

/// Applies files if what they expect holds then, or tries that.
async fn apply(
    Administrator { by, coordinator }: Administrator,
    Body(what, _loan): Body<Apply, COMMAND_KIB>,
) -> Answer<Previewed> {
    take_turns(&coordinator, &by, if what.dry_run || !what.expect.is_empty() { TURNS } else { 1 }).await?;
    let dry_run = what.dry_run;
    let command = Command::Apply { by: by.clone(), what };
    if dry_run {
        return tried(&coordinator, by, command).await.map(Json);
    }
    let result = coordinator.submit(command).await;
    note(&coordinator, by, "apply", &result).await;
    let done = result?;
    Ok(Json(Previewed { revision: done.revision, outcome: done.outcome, effect: None }))
}

/// What a command would do, found on a copy of the state, so that others wait for the copy only.
async fn tried(coordinator: &Coordinator, by: mesh_model::Admin, command: Command) -> Result<Previewed, Refused> {
    let now = coordinator.clock.now();
    let state = coordinator.visit(|core| core.state.clone()).await?;
    let revision = state.revision();
    let preview = tokio::task::spawn_blocking(move || state.preview(&by, &command, now)).await;
    let Preview { outcome, effect } = preview.map_err(|error| Failure::Internal(error.to_string()))??;
    Ok(Previewed { revision, outcome, effect: Some(effect) })
}
