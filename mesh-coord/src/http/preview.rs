//! Commands that are only tried, with what they would take away; and `apply` with expectations.

use axum::Json;
use mesh_model::{AdminCommand, Apply, Command, Preview, Usage, Used};
use mesh_proto::RunnerId;
use tokio::time::Instant;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api,
    asked::{Asked, is_dry_run},
    auth::Administrator,
    body::{Body, COMMAND_KIB},
    failure::{Answer, Refused},
    noted::{submit, take_turns},
};
use crate::{
    api::{Previewed, WriteQuery},
    coordinator::{Coordinator, Core, Failure},
    telemetry::All,
};

/// How many turns a preview takes: it copies the state.
const TURNS: u32 = 10;
/// For how long a pair of services counts as in use, in seconds.
const DAY: u64 = 24 * 3600;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(apply)).routes(routes!(preview))
}

/// Tries a command
#[utoipa::path(post, path = "/preview", request_body = AdminCommand, responses((status = 200, body = Previewed)))]
async fn preview(
    Administrator { by, coordinator }: Administrator,
    Body(what, _loan): Body<AdminCommand, COMMAND_KIB>,
) -> Answer<Previewed> {
    let command = Command::Admin { by: by.clone(), what };
    try_out(&coordinator, by, command).await.map(Json)
}

/// Applies files if what they expect holds then, or tries that
#[utoipa::path(
    post, path = "/apply",
    params(WriteQuery), request_body = Apply,
    responses((status = 200, body = Previewed))
)]
async fn apply(
    administrator: Administrator,
    asked: Asked<WriteQuery>,
    Body(what, _loan): Body<Apply, COMMAND_KIB>,
) -> Answer<Previewed> {
    let dry_run = is_dry_run(asked)?;
    carry_out(administrator, Apply { dry_run: dry_run || what.dry_run, ..what }).await
}

/// Applies files, or tries that.
pub(super) async fn carry_out(Administrator { by, coordinator }: Administrator, what: Apply) -> Answer<Previewed> {
    take_turns(&coordinator, &by, if what.dry_run || !what.expect.is_empty() { TURNS } else { 1 }).await?;
    let dry_run = what.dry_run;
    let command = Command::Apply { by: by.clone(), what };
    if dry_run {
        return tried(&coordinator, by, command).await.map(Json);
    }
    let done = submit(&coordinator, by, "apply", command).await?;
    Ok(Json(done.into()))
}

/// What a command would do.
pub(super) async fn try_out(
    coordinator: &Coordinator,
    by: mesh_model::Admin,
    command: Command,
) -> Result<Previewed, Refused> {
    take_turns(coordinator, &by, TURNS).await?;
    tried(coordinator, by, command).await
}

/// What a command would do, found on a copy of the state, so that others wait for the copy only.
async fn tried(coordinator: &Coordinator, by: mesh_model::Admin, command: Command) -> Result<Previewed, Refused> {
    let now = coordinator.clock.now();
    let removed = match &command {
        Command::Admin { what: AdminCommand::RemoveNode { name, .. }, .. } => Some(name.clone()),
        _ => None,
    };
    let look = move |core: &mut Core| {
        let removed = removed.and_then(|name| Some(core.state.runner_named(&name)?.id));
        // A runner without a stream has no connections that anything could cut.
        let connected = core.state.active_runners().filter(|runner| core.sessions.is_connected(runner.id));
        let connected: Vec<RunnerId> = connected.map(|runner| runner.id).collect();
        (core.state.clone(), removed, connected)
    };
    let (state, removed, connected) = coordinator.visit(look).await?;
    let usage = coordinator.reports(0, false).await.map(|(all, _)| usage(&all, removed, &connected));
    let revision = state.revision();
    let preview = tokio::task::spawn_blocking(move || state.preview(&by, &command, now, usage.as_ref())).await;
    let Preview { outcome, effect } = preview.map_err(|error| Failure::Internal(error.to_string()))??;
    Ok(Previewed { revision, outcome, effect: Some(effect) })
}

/// What runners report of connections in use.
fn usage(all: &All, removed: Option<RunnerId>, connected: &[RunnerId]) -> Usage {
    let now = Instant::now().into_std();
    let seconds = |at: std::time::Instant| now.saturating_duration_since(at).as_secs();
    let used = |edge: crate::telemetry::Edge| {
        Some(Used { caller: edge.caller, callee: edge.callee, open: edge.counts.open, seconds: seconds(edge.used?) })
    };
    let pairs = all.edges().into_iter().filter_map(used).filter(|used| used.open > 0 || used.seconds < DAY).collect();
    let heard: Option<Vec<_>> = connected.iter().map(|runner| all.heard().get(runner).copied()).collect();
    let oldest = heard.map(|heard| heard.into_iter().map(seconds).max().unwrap_or_default());
    Usage { pairs, oldest, at_removed: removed.and_then(|runner| all.open_at(runner)) }
}
