//! What administrators see and order.

use std::time::Duration;

use axum::{
    Json, Router,
    extract::{Path, State, rejection::PathRejection},
    routing::{get, post},
};
use mesh_model::{Admin, AdminCommand, Command, NewPurpose, Outcome, UnixSeconds, record::By};
use mesh_proto::{
    Label,
    token::{Token, TokenKind},
};
use serde::Serialize;
use tokio::time::Instant;
use tracing::info;

use super::{Api, Body, auth::Administrator, failure::Refused};
use crate::{
    api::{Audit, Deployments, Done, Instances, NewToken, Nodes, Services, Tokens, TrustAndWait, TrustPage, VERSION},
    coordinator::{Core, Failure},
    random, watch,
};

/// Entries of the audit that are shown.
const AUDIT_SHOWN: usize = 1000;
/// How long a change of trust is waited for at most.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

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
    State(api): State<Api>,
    Administrator(by): Administrator,
    Body(what): Body<AdminCommand>,
) -> Answer<Done> {
    info!(by = %By::from(by.via), what = name(&what), "command");
    let done = api.coordinator.submit(Command::Admin { by, what }).await?;
    Ok(Json(Done { revision: done.revision, outcome: done.outcome }))
}

async fn create_token(
    State(api): State<Api>,
    Administrator(by): Administrator,
    Body(token): Body<mesh_model::NewToken>,
) -> Answer<NewToken> {
    let secret = random::secret().map_err(|error| Failure::Internal(error.to_string()))?;
    let kind = match &token.purpose {
        NewPurpose::Admin { .. } => TokenKind::Admin,
        NewPurpose::JoinAny { .. } | NewPurpose::JoinTeams { .. } | NewPurpose::JoinDeployments { .. } => {
            TokenKind::Join
        }
    };
    let done = api.coordinator.submit(Command::CreateToken { by, token, secret: secret.hash() }).await?;
    let Outcome::TokenCreated { token: id, expires, warnings } = done.outcome else {
        return Err(Failure::unexpected(&done.outcome).into());
    };
    let token = Token { kind, fingerprint: api.fingerprint, id, secret }.to_text().to_string();
    Ok(Json(NewToken { version: VERSION, id, token, expires, warnings }))
}

const fn name(command: &AdminCommand) -> &'static str {
    match command {
        AdminCommand::Apply { .. } => "apply",
        AdminCommand::Delete { .. } => "delete",
        AdminCommand::Trust { .. } => "trust",
        AdminCommand::RevokeToken { .. } => "token-revoke",
        AdminCommand::RemoveNode { .. } => "node-remove",
        AdminCommand::Switch { .. } => "switch",
    }
}

async fn list<T: Serialize + Send + 'static>(
    api: Api,
    reader: Admin,
    look: fn(&Core, &Admin, UnixSeconds) -> T,
) -> Answer<T> {
    let now = api.coordinator.now();
    Ok(Json(api.coordinator.visit(move |core| look(core, &reader, now)).await?))
}

async fn nodes(State(api): State<Api>, Administrator(reader): Administrator) -> Answer<Nodes> {
    list(api, reader, Nodes::of).await
}

async fn deployments(State(api): State<Api>, Administrator(reader): Administrator) -> Answer<Deployments> {
    list(api, reader, Deployments::of).await
}

async fn services(State(api): State<Api>, Administrator(reader): Administrator) -> Answer<Services> {
    list(api, reader, Services::of).await
}

async fn instances(State(api): State<Api>, Administrator(reader): Administrator) -> Answer<Instances> {
    list(api, reader, Instances::of).await
}

async fn tokens(State(api): State<Api>, Administrator(reader): Administrator) -> Answer<Tokens> {
    list(api, reader, Tokens::of).await
}

async fn audit(State(api): State<Api>, Administrator(reader): Administrator) -> Answer<Audit> {
    list(api, reader, |core, reader, _| Audit::of(core, reader, AUDIT_SHOWN)).await
}

async fn trust(
    State(api): State<Api>,
    Administrator(reader): Administrator,
    path: Result<Path<Label>, PathRejection>,
) -> Answer<TrustPage> {
    let Path(deployment) =
        path.map_err(|rejection| Refused::new(rejection.status(), rejection.body_text(), "give a deployment's name"))?;
    Ok(Json(api.coordinator.visit(move |core| TrustPage::of(core, &reader, &deployment)).await??))
}

/// Changes who may call a deployment, if that is asked for, and waits until all whom it concerns have put it into force.
/// Takes as long as it was given, unlike other requests; whoever gives up hangs up.
pub(super) async fn trust_and_wait(
    State(api): State<Api>,
    Administrator(by): Administrator,
    path: Result<Path<Label>, PathRejection>,
    Body(what): Body<TrustAndWait>,
) -> Answer<TrustPage> {
    let Path(deployment) =
        path.map_err(|rejection| Refused::new(rejection.status(), rejection.body_text(), "give a deployment's name"))?;
    let deadline = Instant::now() + Duration::from_millis(what.milliseconds).min(LONGEST_WAIT);
    // Who loses sight of the deployment by this has to know it all the more.
    let concerned =
        |deployment: Label| api.coordinator.visit(move |core| (core.concerned(&deployment), core.state.revision()));
    let (mut runners, mut revision) = concerned(deployment.clone()).await?;
    let mut directions = None;
    if let Some(change) = what.change {
        info!(by = %By::from(by.via), what = "trust", "command");
        let command = AdminCommand::Trust { deployment: deployment.clone(), change };
        let done = api.coordinator.submit(Command::Admin { by: by.clone(), what: command }).await?;
        revision = done.revision;
        let Outcome::Trusted { directions: both, warnings, .. } = done.outcome else {
            return Err(Failure::unexpected(&done.outcome).into());
        };
        directions = Some((both, warnings));
        runners.extend(concerned(deployment.clone()).await?.0);
    }
    let mut page = {
        let (by, deployment) = (by.clone(), deployment.clone());
        api.coordinator.visit(move |core| TrustPage::of(core, &by, &deployment)).await??
    };
    if let Some((directions, warnings)) = directions {
        (page.directions, page.warnings) = (directions, warnings);
    }
    page.listing.pending = watch::await_applied(&api.coordinator, runners, revision, deadline).await?;
    Ok(Json(page))
}
