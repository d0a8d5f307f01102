//! What administrators see and order.

use std::time::Duration;

use axum::{
    Json, Router,
    extract::{Path, State, rejection::PathRejection},
    routing::{get, post},
};
use mesh_link::Url;
use mesh_model::{Admin, AdminCommand, Command, NewPurpose, Outcome, UnixSeconds, Via, record::By};
use mesh_proto::{
    Label,
    token::{Token, TokenKind},
};
use serde::Serialize;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{Api, auth::Administrator, body::Body, failure::Refused};
use crate::{
    api::{Audit, Deployments, Done, Instances, NewToken, Nodes, Services, Tokens, TrustAndWait, TrustPage, VERSION},
    coordinator::{self, Coordinator, Core, Failure},
    random, watch,
};

/// Entries of the audit that are shown.
const AUDIT_SHOWN: usize = 1000;
/// How long a change of trust is waited for at most.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// The most that a command needs: `apply` with its files.
const COMMAND_KIB: usize = 1024;
/// The most that the wish for a token needs: a scope of 256 names.
const TOKEN_KIB: usize = 64;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/command", post(command))
        .route("/nodes", get(nodes))
        .route("/deployments", get(deployments))
        .route("/services", get(services))
        .route("/instances", get(instances))
        .route("/tokens", get(tokens).post(create_token))
        .route("/audit", get(audit))
        .route("/trust/{deployment}", get(trust))
}

type Answer<T> = Result<Json<T>, Refused>;

async fn command(
    Administrator { by, coordinator }: Administrator,
    Body(what, _loan): Body<AdminCommand, COMMAND_KIB>,
) -> Answer<Done> {
    take_turn(&coordinator, &by).await?;
    let done = carry_out(&coordinator, by, what).await?;
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
        NewPurpose::Admin { .. } => TokenKind::Admin,
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

/// Has a command carried out, and logs what came of it.
async fn carry_out(coordinator: &Coordinator, by: Admin, what: AdminCommand) -> Result<coordinator::Done, Failure> {
    let name = name(&what);
    let result = coordinator.submit(Command::Admin { by: by.clone(), what }).await;
    note(coordinator, by, name, &result).await;
    result
}

/// Logs what came of a command. What was done is in the audit already; what was refused is noted there now.
async fn note(coordinator: &Coordinator, by: Admin, what: &str, result: &Result<coordinator::Done, Failure>) {
    log(By::from(by.via), what, result);
    if let Err(Failure::Refused(refusal)) = result {
        let command = Command::Refused { by, action: what.to_owned(), detail: refusal.to_string() };
        if let Err(failure) = coordinator.submit(command).await {
            warn!(%failure, "a refusal could not be noted in the audit");
        }
    }
}

/// The holder of a token has turns, as a runner has; the operator needs none.
async fn take_turn(coordinator: &Coordinator, by: &Admin) -> Result<(), Refused> {
    if let Via::Token(id) = by.via {
        let brake = coordinator.visit(move |core| core.sessions.token_brake(id)).await?;
        brake.turn(1).await?;
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

const fn name(command: &AdminCommand) -> &'static str {
    match command {
        AdminCommand::Apply { .. } => "apply",
        AdminCommand::Delete { .. } => "delete",
        AdminCommand::Trust { .. } => "trust",
        AdminCommand::RevokeToken { .. } => "token-revoke",
        AdminCommand::RemoveNode { .. } => "node-remove",
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

async fn audit(reader: Administrator) -> Answer<Audit> {
    list(reader, |core, reader, _| Audit::of(core, reader, AUDIT_SHOWN)).await
}

async fn trust(
    Administrator { by, coordinator }: Administrator,
    path: Result<Path<Label>, PathRejection>,
) -> Answer<TrustPage> {
    let Path(deployment) =
        path.map_err(|rejection| Refused::new(rejection.status(), rejection.body_text(), "give a deployment's name"))?;
    Ok(Json(coordinator.visit(move |core| TrustPage::of(core, &by, &deployment)).await??))
}

/// Changes who may call a deployment, if that is asked for, and waits until all whom it concerns have put it into force.
/// Takes as long as it was given, unlike other requests; whoever gives up hangs up.
pub(super) async fn trust_and_wait(
    Administrator { by, coordinator }: Administrator,
    path: Result<Path<Label>, PathRejection>,
    Body(what, _loan): Body<TrustAndWait, COMMAND_KIB>,
) -> Answer<TrustPage> {
    let Path(deployment) =
        path.map_err(|rejection| Refused::new(rejection.status(), rejection.body_text(), "give a deployment's name"))?;
    let deadline = Instant::now() + Duration::from_millis(what.milliseconds).min(LONGEST_WAIT);
    // Who loses sight of the deployment by this has to know it all the more.
    let concerned =
        |deployment: Label| coordinator.visit(move |core| (core.concerned(&deployment), core.state.revision()));
    let (mut runners, mut revision) = concerned(deployment.clone()).await?;
    let mut directions = None;
    if let Some(change) = what.change {
        take_turn(&coordinator, &by).await?;
        let command = AdminCommand::Trust { deployment: deployment.clone(), change };
        let done = carry_out(&coordinator, by.clone(), command).await?;
        revision = done.revision;
        let Outcome::Trusted { directions: both, warnings, .. } = done.outcome else {
            return Err(Failure::unexpected(&done.outcome).into());
        };
        directions = Some((both, warnings));
        runners.extend(concerned(deployment.clone()).await?.0);
    }
    let mut page = {
        let (by, deployment) = (by.clone(), deployment.clone());
        coordinator.visit(move |core| TrustPage::of(core, &by, &deployment)).await??
    };
    if let Some((directions, warnings)) = directions {
        (page.directions, page.warnings) = (directions, warnings);
    }
    page.listing.pending = watch::await_applied(&coordinator, runners, revision, deadline).await?;
    Ok(Json(page))
}
