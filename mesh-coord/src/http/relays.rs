//! Relays: an administrator's requests about them, and the enrolment and stream of own ones.

use axum::{
    Extension, Json,
    extract::{
        FromRequestParts, State,
        ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    http::{StatusCode, request::Parts},
    response::Response,
};
use mesh_model::{Admin, Command, Outcome, RelayEnrolment, record::SecretHandle};
use mesh_proto::{
    Label, RelayId,
    relay::{
        RelaySecret,
        wire::{RelayEnrol, RelayEnrolled},
    },
    token::{RelayLogin, Token, TokenKind},
};
use tracing::info;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api,
    asked::{Asked, is_dry_run},
    auth::{Administrator, bearer, unauthorised, unknown},
    body::Body,
    failure::Refused,
    noted::{note, take_turn},
    preview,
    server::Origin,
    stream::begin,
};
use crate::{
    api::{NewRelay, Previewed, Relays, WriteQuery},
    coordinator::{Coordinator, Core, Failure},
    metrics::Secret,
    places::Place,
    random, relay_secrets,
    tenant::Tenant,
    trial, watch,
};

/// The largest request about a relay, in KiB: a token or secret, and 24 names of hosts.
const KIB: usize = 16;
/// The largest message of a relay's stream, in bytes.
const MAX_MESSAGE: usize = 16 << 10;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list_relays, add_relay))
}

/// The relays
#[utoipa::path(get, path = "/relays", responses((status = 200, body = Relays)))]
async fn list_relays(Administrator { by, coordinator }: Administrator) -> Result<Json<Relays>, Refused> {
    coordinator.look_elsewhere().await?;
    let secrets = std::sync::Arc::clone(&coordinator.relay_secrets);
    let look = move |core: &mut Core| Relays::of(core, &by, |handle| secrets.get(handle).is_some());
    Ok(Json(coordinator.visit(look).await??))
}

/// Tries a TURN server, and adds it
#[utoipa::path(
    post, path = "/relays",
    params(WriteQuery), request_body = NewRelay,
    responses((status = 200, body = Previewed))
)]
async fn add_relay(
    Administrator { by, coordinator }: Administrator,
    asked: Asked<WriteQuery>,
    Body(wish, _loan): Body<NewRelay, KIB>,
) -> Result<Json<Previewed>, Refused> {
    let dry_run = is_dry_run(asked)?;
    if dry_run {
        let NewRelay { relay, secret: _ } = wish;
        // Its secret is not kept, and the server is not tried.
        let command = Command::AddRelay { by: by.clone(), relay, secret: SecretHandle(0) };
        return preview::try_out(&coordinator, by, command).await.map(Json);
    }
    take_turn(&coordinator, &by).await?;
    let result = match try_and_add(&coordinator, &by, wish).await {
        Ok(done) => Ok(done),
        Err(Failed::Add(failure)) => Err(failure),
        Err(Failed::Trial(refused)) => {
            let detail = refused.refusal.error.clone();
            let command = Command::Refused { by, action: "relay-add".to_owned(), detail };
            let _ = coordinator.submit(command).await;
            return Err(refused);
        }
    };
    note(&coordinator, by, "relay-add", &result).await;
    Ok(Json(result?.into()))
}

/// Why a relay isn't added.
enum Failed {
    Trial(Refused),
    Add(Failure),
}

async fn try_and_add(
    coordinator: &Coordinator,
    by: &Admin,
    NewRelay { relay, secret }: NewRelay,
) -> Result<crate::coordinator::Done, Failed> {
    // Nothing is sent for who may not add one.
    let (admin, wish) = (by.clone(), relay.clone());
    let allowed = coordinator.visit(move |core| core.state.check_new_relay(&admin, &wish)).await;
    allowed.map_err(Failed::Add)?.map_err(|refusal| Failed::Add(refusal.into()))?;
    let secret: RelaySecret = secret.parse().map_err(|error: mesh_proto::relay::CredentialError| {
        let hint = "the file of --secret holds what coturn has as `static-auth-secret`, and nothing else";
        Failed::Trial(Refused::new(StatusCode::BAD_REQUEST, error.to_string(), hint))
    })?;
    trial::run(&relay.public, &secret).await.map_err(|failed| {
        Failed::Trial(Refused::new(StatusCode::UNPROCESSABLE_ENTITY, failed.to_string(), failed.hint()))
    })?;
    let handle = keep(coordinator, secret).await.map_err(Failed::Add)?;
    let done = coordinator.submit(Command::AddRelay { by: by.clone(), relay, secret: handle }).await;
    if done.is_err() {
        coordinator.relay_secrets.forget(handle);
    }
    done.map_err(Failed::Add)
}

async fn keep(coordinator: &Coordinator, secret: RelaySecret) -> Result<SecretHandle, Failure> {
    let secrets = std::sync::Arc::clone(&coordinator.relay_secrets);
    let kept = tokio::task::spawn_blocking(move || secrets.keep(secret)).await;
    kept.map_err(|error| Failure::Internal(error.to_string()))?.map_err(|error| {
        tracing::warn!(error = format!("{error:#}"), "a relay's secret could not be kept");
        Failure::Store(crate::store::StoreError::Failed(format!("{error:#}")))
    })
}

/// Where the secret of the relay of this name is, to be forgotten once it is removed.
pub(super) async fn handle_of(coordinator: &Coordinator, name: Label) -> Result<Option<SecretHandle>, Failure> {
    coordinator.visit(move |core| core.state.relay_named(&name).map(|relay| relay.secret)).await
}

/// A process becomes a relay.
pub(super) async fn enrol(
    State(api): State<Api>,
    Extension(origin): Extension<Origin>,
    place: Option<Extension<Place>>,
    Body(wish, _): Body<RelayEnrol, KIB>,
) -> Result<Json<RelayEnrolled>, Refused> {
    let (token, tenant) = shown(&api, &wish).map_err(|refused| api.failed(origin, Secret::Relay, refused))?;
    if let Some(Extension(place)) = place {
        place.prove_if_there_is_room(&tenant);
    }
    let coordinator = api.coordinator.on_account(Some(&tenant));
    let internal = |error: anyhow::Error| Failure::Internal(format!("{error:#}"));
    let (credential, secret) = (random::secret().map_err(internal)?, relay_secrets::draw().map_err(internal)?);
    let handle = keep(&coordinator, secret.clone()).await?;
    let (id, public) = (token.id, wish.public);
    let enrolment = RelayEnrolment { token: id, secret: token.secret, public, credential: credential.hash(), handle };
    let done = coordinator.submit(Command::EnrolRelay(enrolment)).await;
    if done.is_err() {
        coordinator.relay_secrets.forget(handle);
    }
    let done = done?;
    let Outcome::RelayEnrolled { relay, name } = done.outcome else {
        return Err(Failure::unexpected(&done.outcome).into());
    };
    info!(%relay, %name, token = %id, "relay enrolled");
    let credential = RelayLogin { relay, secret: credential }.to_text().to_string();
    Ok(Json(RelayEnrolled { relay, name, credential, secret: secret.expose().to_owned() }))
}

/// The token in the request, if this coordinator made it, whether or not it is still valid.
fn shown(api: &Api, wish: &RelayEnrol) -> Result<(Token, Tenant), Refused> {
    let token = Token::parse(TokenKind::Relay, &wish.token).map_err(unauthorised)?;
    if token.fingerprint != api.fingerprint {
        return Err(unauthorised("this relay token is another coordinator's"));
    }
    match api.coordinator.keyring.token(token.id, &token.secret) {
        Some(tenant) => Ok((token, tenant)),
        None => Err(unknown(mesh_model::Refusal::unknown_token())),
    }
}

/// An authenticated relay.
pub(super) struct AuthenticRelay {
    relay: RelayId,
    tenant: Tenant,
}

impl FromRequestParts<Api> for AuthenticRelay {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Refused> {
        let origin = Origin::of(parts)?;
        let shown = bearer(&parts.headers, "a relay's credential").and_then(|text| {
            let login: RelayLogin = text.parse().map_err(unauthorised)?;
            let tenant = api.coordinator.keyring.relay(&login);
            let tenant = tenant.ok_or_else(|| unknown(mesh_model::Refusal::unknown_relay()))?;
            Ok((login, tenant))
        });
        let (login, tenant) = shown.map_err(|refused| api.failed(origin, Secret::Relay, refused))?;
        let coordinator = api.coordinator.on_account(Some(&tenant));
        let relay = coordinator.visit(move |core| core.state.authenticate_relay(&login)).await??;
        Ok(Self { relay, tenant })
    }
}

/// An own relay's stream.
pub(super) async fn stream(
    State(api): State<Api>,
    Extension(origin): Extension<Origin>,
    place: Option<Extension<Place>>,
    AuthenticRelay { relay, tenant }: AuthenticRelay,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refused> {
    let (from, place, upgrade) = begin(origin, place, &tenant, upgrade)?;
    let coordinator = api.coordinator.on_account(Some(&tenant));
    Ok(upgrade
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
        .on_upgrade(move |socket| watch::relay::serve(coordinator, relay, from, place, socket)))
}
