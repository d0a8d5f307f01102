//! Questions of other coordinators on the same records. They prove that they hold the keys that all share.

use std::time::Duration;

use axum::{
    Json, Router,
    extract::{FromRequestParts, State},
    http::{StatusCode, request::Parts},
    routing::post,
};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};

use super::{
    Api,
    auth::{bearer, unauthorised},
    body::Body,
    failure::Refused,
};
use crate::{
    api::BEHIND,
    coordinator::Core,
    peers::{
        self, AskStanding, Contact, InContact, MISDIRECTED, Probe, Probed, RelaySecretOf, Runners, SecretText, Settled,
        Standing, To,
    },
    telemetry::{AskReports, Reports},
    watch::newcomer,
};

/// The largest question, in KiB: the runners that a change concerns.
const KIB: usize = 1024;
/// How long the database may take to answer.
const IN_CONTACT: Duration = Duration::from_secs(1);
/// The longest wait for confirmations.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/peer/reports", post(reports))
        .route("/v1/peer/standing", post(standing))
        .route("/v1/peer/settled", post(settled))
        .route("/v1/peer/probe", post(probe))
        .route("/v1/peer/relay-secret", post(relay_secret))
}

/// The question that is also answered without the database.
pub(super) fn contact_route() -> Router<Api> {
    Router::new().route("/v1/peer/contact", post(contact))
}

/// Another coordinator that has proved to be one.
struct Colleague;

impl FromRequestParts<Api> for Colleague {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Refused> {
        let shown = bearer(&parts.headers, "the proof of another coordinator")?;
        let is_one = api.coordinator.peers.is_shared() && peers::is_bearer(&api.enrol_key, shown);
        is_one.then_some(Self).ok_or_else(|| unauthorised("this is not the proof of another coordinator"))
    }
}

/// What is asked, if this coordinator is meant.
fn meant<T: DeserializeOwned>(api: &Api, to: To<T>) -> Result<T, Refused> {
    if to.member == api.coordinator.peers.me {
        return Ok(to.what);
    }
    let status = StatusCode::from_u16(MISDIRECTED).unwrap_or(StatusCode::CONFLICT);
    Err(Refused::new(status, "another coordinator is meant", "it has another address"))
}

async fn contact(
    State(api): State<Api>,
    _: Colleague,
    Body(to, _loan): Body<To<Contact>, KIB>,
) -> Result<Json<InContact>, Refused> {
    let Contact {} = meant(&api, to)?;
    let reached = timeout(IN_CONTACT, api.coordinator.refresh_for_request()).await;
    Ok(Json(InContact { in_contact: matches!(reached, Ok(Ok(()))) }))
}

/// What its runners have reported. A question each 3 s by each coordinator at most, as long as people look.
async fn reports(
    State(api): State<Api>,
    _: Colleague,
    Body(to, _loan): Body<To<AskReports>, KIB>,
) -> Result<Json<Reports>, Refused> {
    let AskReports { watch } = meant(&api, to)?;
    let (telemetry, now) = (&api.coordinator.telemetry, Instant::now().into_std());
    if watch {
        telemetry.watch(now);
    }
    let reports = telemetry.book().map(|book| Reports::of(&book, now));
    Ok(Json(reports.unwrap_or_default()))
}

async fn standing(
    State(api): State<Api>,
    _: Colleague,
    Body(to, _loan): Body<To<AskStanding>, KIB>,
) -> Result<Json<Standing>, Refused> {
    let AskStanding {} = meant(&api, to)?;
    let now = api.coordinator.now();
    let look = move |core: &mut Core| {
        let behind = core.sessions.behind(BEHIND, Instant::now().into_std());
        core.stands(now, behind)
    };
    Ok(Json(api.coordinator.visit(look).await?))
}

async fn settled(
    State(api): State<Api>,
    _: Colleague,
    Body(to, _loan): Body<To<Settled>, KIB>,
) -> Result<Json<Runners>, Refused> {
    let Settled { epoch, revision, runners, milliseconds } = meant(&api, to)?;
    let patience = Duration::from_millis(milliseconds).min(LONGEST_WAIT);
    let mut confirmed = api.coordinator.confirmed_here(runners, revision, patience).await?;
    // Revisions of different epochs say nothing of each other.
    if api.coordinator.visit(move |core| core.sessions.epoch() != epoch).await? {
        confirmed.clear();
    }
    Ok(Json(Runners { runners: confirmed }))
}

async fn probe(
    State(api): State<Api>,
    _: Colleague,
    Body(to, _loan): Body<To<Probe>, KIB>,
) -> Result<Json<Probed>, Refused> {
    Ok(Json(newcomer::probe(&api.coordinator, meant(&api, to)?).await?))
}

async fn relay_secret(
    State(api): State<Api>,
    _: Colleague,
    Body(to, _loan): Body<To<RelaySecretOf>, KIB>,
) -> Result<Json<SecretText>, Refused> {
    let RelaySecretOf { handle } = meant(&api, to)?;
    let secret = api.coordinator.relay_secrets.get(handle).map(|secret| secret.expose().to_owned());
    Ok(Json(SecretText { secret }))
}
