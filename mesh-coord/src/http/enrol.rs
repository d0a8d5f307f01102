//! Enrolment: a machine becomes a runner.

use axum::{Extension, Json, extract::State, http::StatusCode};
use mesh_model::{Command, Enrolment, Outcome};
use mesh_proto::{
    message::{Enrol, Enrolled, Info, PROTOCOL, enrol_purpose},
    token::{Credential, Token, TokenKind},
};
use tracing::info;

use super::{Api, body::Body, failure::Refused, server::Origin};
use crate::{
    coordinator::{Core, Failure},
    metrics::{Enrolment as Counted, Secret},
    places::Place,
    random,
    tenant::Tenant,
};

/// The largest request to enrol, in KiB: a token, two names, a key and its proof.
const KIB: usize = 4;

pub(super) async fn info(State(api): State<Api>) -> Json<Info> {
    Json(Info { protocol: PROTOCOL, enrol_key: api.enrol_key.public(), range: api.coordinator.range })
}

pub(super) async fn enrol(
    State(api): State<Api>,
    Extension(origin): Extension<Origin>,
    place: Option<Extension<Place>>,
    Body(wish, _): Body<Enrol, KIB>,
) -> Result<Json<Enrolled>, Refused> {
    let (token, tenant) = shown(&api, &wish).map_err(|refused| api.failed(origin, Secret::Join, refused))?;
    // Many machines may enrol with one token at once. Without a place of the token's, a connection keeps that of its
    // address.
    if let Some(Extension(place)) = place {
        place.prove_if_there_is_room(&tenant);
    }
    let enrolled = carry_out(&api, token, &tenant, wish).await;
    if enrolled.is_err() {
        api.coordinator.metrics.enrolment(Counted::Refused);
    }
    enrolled.map(Json)
}

/// The token in the request, if this coordinator made it, whether or not it is still valid.
fn shown(api: &Api, wish: &Enrol) -> Result<(Token, Tenant), Refused> {
    let refuse = |error: String, hint| Err(Refused::new(StatusCode::UNAUTHORIZED, error, hint));
    let token = match Token::parse(TokenKind::Join, &wish.token) {
        Ok(token) => token,
        Err(error) => return refuse(error.to_string(), "copy the token whole, from where it was made"),
    };
    if token.fingerprint != api.fingerprint {
        return refuse(
            "this join token is another coordinator's".to_owned(),
            "join the coordinator that made it, or make one here with `mesh-coord token create`",
        );
    }
    match api.coordinator.keyring.token(token.id, &token.secret) {
        Some(tenant) => Ok((token, tenant)),
        None => Err(mesh_model::Refusal::unknown_token().into()),
    }
}

async fn carry_out(api: &Api, token: Token, tenant: &Tenant, wish: Enrol) -> Result<Enrolled, Refused> {
    let coordinator = api.coordinator.on_account(Some(tenant));
    let secret = random::secret().map_err(|error| Failure::Internal(error.to_string()))?;
    let enrolment = Enrolment {
        token: token.id,
        proved: api.enrol_key.verify(wish.public_key, &enrol_purpose(token.id), &wish.proof),
        secret: token.secret,
        name: wish.name.clone(),
        provider: wish.provider.clone(),
        public_key: wish.public_key,
        replace: wish.replace,
        credential: secret.hash(),
    };
    // Repeated enrolments count for the runner's rate limit. The proof shows that it is that runner.
    if enrolment.proved {
        let key = wish.public_key;
        let limits = move |core: &mut Core| Some(core.limits.runner(core.state.runner_with(&key)?));
        if let Some(limits) = coordinator.visit(limits).await? {
            limits.commands.turn(1).await?;
        }
    }
    let done = coordinator.submit(Command::Enrol(enrolment)).await?;
    let Outcome::Enrolled { runner, new, replaced } = done.outcome else {
        return Err(Failure::unexpected(&done.outcome).into());
    };
    api.coordinator.metrics.enrolment(match (new, replaced) {
        (_, Some(_)) => Counted::Replaced,
        (true, None) => Counted::New,
        (false, None) => Counted::Again,
    });
    info!(%runner, name = %wish.name, provider = %wish.provider, token = %token.id, new, ?replaced, "runner enrolled");
    Ok(Enrolled { runner, credential: Credential { runner, secret }.to_text().to_string() })
}
