//! Administrators' commands, and trust with its confirmations.

use std::time::Duration;

use axum::Json;
use mesh_model::{Admin, AdminCommand, Command, Outcome, TrustChange};
use mesh_proto::Label;
use tokio::time::Instant;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api,
    asked::{Asked, Named, is_dry_run, named},
    auth::Administrator,
    body::{Body, COMMAND_KIB},
    failure::Answer,
    noted::{submit, take_turn},
    preview, relays,
};
use crate::{
    api::{Previewed, TrustAndWait, TrustPage, WriteQuery},
    coordinator::{self, Coordinator, Core, Failure},
    store::StoreError,
};

/// The longest wait for confirmations of trust.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(command)).routes(routes!(trust))
}

/// Those that may take longer than others.
pub(super) fn slow_routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(trust_and_wait))
}

/// Carries out a command, as the command line asks for it
#[utoipa::path(
    post, path = "/command",
    params(WriteQuery), request_body = AdminCommand,
    responses((status = 200, body = Previewed))
)]
async fn command(
    administrator: Administrator,
    asked: Asked<WriteQuery>,
    Body(what, _loan): Body<AdminCommand, COMMAND_KIB>,
) -> Answer<Previewed> {
    let dry_run = is_dry_run(asked)?;
    write(administrator, what, dry_run).await
}

/// Carries out a command, or tries it.
pub(super) async fn write(
    Administrator { by, coordinator }: Administrator,
    what: AdminCommand,
    dry_run: bool,
) -> Answer<Previewed> {
    if dry_run {
        let command = Command::Admin { by: by.clone(), what };
        return preview::try_out(&coordinator, by, command).await.map(Json);
    }
    take_turn(&coordinator, &by).await?;
    let secret = match &what {
        AdminCommand::RemoveRelay { name } => relays::handle_of(&coordinator, name.clone()).await?,
        _ => None,
    };
    let done = carry_out(&coordinator, by, what).await?;
    if let Some(secret) = secret {
        coordinator.relay_secrets.forget(secret);
    }
    Ok(Json(done.into()))
}

async fn carry_out(coordinator: &Coordinator, by: Admin, what: AdminCommand) -> Result<coordinator::Done, Failure> {
    let name = name(&what);
    submit(coordinator, by.clone(), name, Command::Admin { by, what }).await
}

const fn name(command: &AdminCommand) -> &'static str {
    match command {
        AdminCommand::Apply { .. } => "apply",
        AdminCommand::Delete { .. } => "delete",
        AdminCommand::Trust { .. } => "trust",
        AdminCommand::RevokeToken { .. } => "token-revoke",
        AdminCommand::RemoveNode { .. } => "node-remove",
        AdminCommand::RemoveRelay { .. } => "relay-remove",
        AdminCommand::Drain { .. } => "drain",
        AdminCommand::Undrain { .. } => "undrain",
        AdminCommand::DrainNode { .. } => "node-drain",
        AdminCommand::UndrainNode { .. } => "node-undrain",
        AdminCommand::Switch { .. } => "switch",
    }
}

/// Who may call a deployment
#[utoipa::path(
    get, path = "/trust/{deployment}",
    params(("deployment" = Label, Path)),
    responses((status = 200, body = TrustPage))
)]
async fn trust(administrator: Administrator, path: Named<Label>) -> Answer<TrustPage> {
    trust_page(administrator, path, None, Duration::ZERO).await
}

/// Changes a trust list, if the request contains a change, and waits as long as it states until all affected runners
/// have confirmed it
#[utoipa::path(
    post, path = "/trust-and-wait/{deployment}",
    params(("deployment" = Label, Path)), request_body = TrustAndWait,
    responses((status = 200, body = TrustPage))
)]
async fn trust_and_wait(
    administrator: Administrator,
    path: Named<Label>,
    Body(what, _loan): Body<TrustAndWait, COMMAND_KIB>,
) -> Answer<TrustPage> {
    let patience = Duration::from_millis(what.milliseconds).min(LONGEST_WAIT);
    trust_page(administrator, path, what.change, patience).await
}

async fn trust_page(
    Administrator { by, coordinator }: Administrator,
    path: Named<Label>,
    change: Option<TrustChange>,
    patience: Duration,
) -> Answer<TrustPage> {
    let deployment = named(path)?;
    let deadline = Instant::now() + patience;
    let changed = match change {
        Some(change) => {
            take_turn(&coordinator, &by).await?;
            let command = AdminCommand::Trust { deployment: deployment.clone(), change };
            Some(carry_out(&coordinator, by.clone(), command).await?)
        }
        None => None,
    };
    let name = deployment.clone();
    let look = move |core: &mut Core| (TrustPage::of(core, &by, &name), core.state.revision());
    // The change is made by now. A coordinator that ends before it can tell so must not seem to have refused it.
    let is_made = changed.is_some();
    let untold = |failure| if is_made { Failure::Store(StoreError::Unknown) } else { failure };
    let (page, mut revision) = coordinator.visit(look).await.map_err(untold)?;
    let mut page = page?;
    if let Some(done) = changed {
        let Outcome::Trusted { directions, warnings, .. } = done.outcome else {
            return Err(Failure::unexpected(&done.outcome).into());
        };
        (page.directions, page.warnings, revision) = (directions, warnings, done.revision);
    }
    let waited = coordinator.wait_for_deployment(deployment, revision, deadline - Instant::now()).await;
    page.listing.pending = waited.map_err(untold)?;
    Ok(Json(page))
}
