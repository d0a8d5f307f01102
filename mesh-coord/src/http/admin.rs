//! Administrators' requests.

use std::time::Duration;

use axum::{
    Json, Router,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::StatusCode,
    routing::{get, post},
};
use mesh_link::Url;
use mesh_model::{Admin, AdminCommand, AuditQuery, Command, NewPurpose, Outcome, TrustChange, UnixSeconds};
use mesh_proto::{
    Label,
    token::{Token, TokenKind},
};
use serde::Serialize;
use tokio::time::Instant;

use super::{
    Api,
    auth::Administrator,
    body::Body,
    failure::Refused,
    noted::{note, take_turn},
    relays,
};
use crate::{
    api::{Audit, Deployments, Done, Instances, NewToken, Nodes, Services, Tokens, TrustAndWait, TrustPage, VERSION},
    coordinator::{self, Coordinator, Core, Failure},
    random,
};

/// How many audit entries are shown at once.
const AUDIT_SHOWN: usize = 1000;
/// The longest wait for confirmations of trust.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// The largest command, in KiB: `apply` with its files.
pub(super) const COMMAND_KIB: usize = 1024;
/// The largest request for a token, in KiB: a scope of 256 names.
const TOKEN_KIB: usize = 64;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/command", post(command))
        .route("/nodes", get(nodes))
        .route("/deployments", get(deployments))
        .route("/services", get(services))
        .route("/instances", get(instances))
        .route("/tokens", get(tokens).post(create_token))
        .route("/relays", get(relays::list).post(relays::add))
        .route("/audit", get(audit))
        .route("/trust/{deployment}", get(trust))
}

pub(super) type Answer<T> = Result<Json<T>, Refused>;

async fn command(
    Administrator { by, coordinator }: Administrator,
    Body(what, _loan): Body<AdminCommand, COMMAND_KIB>,
) -> Answer<Done> {
    take_turn(&coordinator, &by).await?;
    let secret = match &what {
        AdminCommand::RemoveRelay { name } => relays::handle_of(&coordinator, name.clone()).await?,
        _ => None,
    };
    let done = carry_out(&coordinator, by, what).await?;
    if let Some(secret) = secret {
        coordinator.relay_secrets.forget(secret);
    }
    Ok(Json(Done { revision: done.revision, outcome: done.outcome }))
}

async fn create_token(
    State(api): State<Api>,
    Administrator { by, coordinator }: Administrator,
    Body(token, _loan): Body<mesh_model::NewToken, TOKEN_KIB>,
) -> Answer<NewToken> {
    take_turn(&coordinator, &by).await?;
    let secret = random::secret().map_err(|error| Failure::Internal(error.to_string()))?;
    let kind = match &token.purpose {
        NewPurpose::Admin { .. } | NewPurpose::Role { .. } => TokenKind::Admin,
        NewPurpose::Relay { .. } => TokenKind::Relay,
        NewPurpose::JoinAny { .. } | NewPurpose::JoinTeams { .. } | NewPurpose::JoinDeployments { .. } => {
            TokenKind::Join
        }
    };
    let result = coordinator.submit(Command::CreateToken { by: by.clone(), token, secret: secret.hash() }).await;
    note(&coordinator, by, "token-create", &result).await;
    let done = result?;
    let Outcome::TokenCreated { token: id, expires, warnings } = done.outcome else {
        return Err(Failure::unexpected(&done.outcome).into());
    };
    let urls: Vec<String> = api.advertised.urls.iter().map(Url::to_string).collect();
    let token = Token { kind, fingerprint: api.fingerprint, id, secret, urls: urls.clone() }.to_text().to_string();
    let guess = api.advertised.guess.as_ref().map(Url::to_string);
    Ok(Json(NewToken { version: VERSION, id, token, expires, warnings, urls, guess }))
}

/// Runs a command and logs its result.
async fn carry_out(coordinator: &Coordinator, by: Admin, what: AdminCommand) -> Result<coordinator::Done, Failure> {
    let name = name(&what);
    let result = coordinator.submit(Command::Admin { by: by.clone(), what }).await;
    note(coordinator, by, name, &result).await;
    result
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

async fn list<T: Serialize + Send + 'static>(
    reader: Administrator,
    look: fn(&Core, &Admin, UnixSeconds) -> T,
) -> Answer<T> {
    let Administrator { by, coordinator } = reader;
    let now = coordinator.now();
    Ok(Json(coordinator.visit(move |core| look(core, &by, now)).await?))
}

async fn nodes(reader: Administrator) -> Answer<Nodes> {
    list(reader, Nodes::of).await
}

async fn deployments(reader: Administrator) -> Answer<Deployments> {
    list(reader, Deployments::of).await
}

async fn services(reader: Administrator) -> Answer<Services> {
    list(reader, Services::of).await
}

async fn instances(reader: Administrator) -> Answer<Instances> {
    list(reader, Instances::of).await
}

async fn tokens(reader: Administrator) -> Answer<Tokens> {
    list(reader, Tokens::of).await
}

async fn audit(
    Administrator { by, coordinator }: Administrator,
    query: Result<Query<AuditQuery>, QueryRejection>,
) -> Answer<Audit> {
    let Query(query) = query.map_err(|rejection| {
        let hint = "known are limit, before, since, by, action, object and result";
        Refused::new(StatusCode::BAD_REQUEST, rejection.body_text(), hint)
    })?;
    Ok(Json(coordinator.visit(move |core| Audit::of(core, &by, query, AUDIT_SHOWN)).await?))
}

/// Shows who may call a deployment.
async fn trust(administrator: Administrator, path: Result<Path<Label>, PathRejection>) -> Answer<TrustPage> {
    trust_page(administrator, path, None, Duration::ZERO).await
}

/// Changes a trust list, if the request contains a change, and waits as long as the request states until all affected
/// runners have confirmed it. The timeout of other requests doesn't apply.
pub(super) async fn trust_and_wait(
    administrator: Administrator,
    path: Result<Path<Label>, PathRejection>,
    Body(what, _loan): Body<TrustAndWait, COMMAND_KIB>,
) -> Answer<TrustPage> {
    let patience = Duration::from_millis(what.milliseconds).min(LONGEST_WAIT);
    trust_page(administrator, path, what.change, patience).await
}

async fn trust_page(
    Administrator { by, coordinator }: Administrator,
    path: Result<Path<Label>, PathRejection>,
    change: Option<TrustChange>,
    patience: Duration,
) -> Answer<TrustPage> {
    let Path(deployment) =
        path.map_err(|rejection| Refused::new(rejection.status(), rejection.body_text(), "give a deployment's name"))?;
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
    let (page, mut revision) = coordinator.visit(look).await?;
    let mut page = page?;
    if let Some(done) = changed {
        let Outcome::Trusted { directions, warnings, .. } = done.outcome else {
            return Err(Failure::unexpected(&done.outcome).into());
        };
        (page.directions, page.warnings, revision) = (directions, warnings, done.revision);
    }
    page.listing.pending = coordinator.wait_for_deployment(deployment, revision, deadline - Instant::now()).await?;
    Ok(Json(page))
}
