//! How a machine becomes a runner.

use axum::{Extension, Json, extract::State, http::StatusCode};
use mesh_model::{Command, Enrolment, Outcome};
use mesh_proto::{
    message::{Enrol, Enrolled, Info, PROTOCOL, enrol_purpose},
    token::{Credential, Token, TokenKind},
};
use tracing::info;

use super::{Api, Body, failure::Refused, server::Origin};
use crate::{
    coordinator::{Core, Failure},
    random,
};

pub(super) async fn info(State(api): State<Api>) -> Result<Json<Info>, Refused> {
    let range = api.coordinator.visit(|core| core.state.network().range).await?;
    Ok(Json(Info { protocol: PROTOCOL, enrol_key: api.enrol_key.public(), range }))
}

pub(super) async fn enrol(
    State(api): State<Api>,
    Extension(origin): Extension<Origin>,
    Body(wish): Body<Enrol>,
) -> Result<Json<Enrolled>, Refused> {
    api.check_failures(origin)?;
    let result = carry_out(&api, wish).await;
    api.note_failure(origin, result).map(Json)
}

async fn carry_out(api: &Api, wish: Enrol) -> Result<Enrolled, Refused> {
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
    // A runner that enrols again and again has its turns for that as for everything else; nobody can take them in its name.
    if enrolment.proved {
        let key = wish.public_key;
        let brake = move |core: &mut Core| Some(core.sessions.brake(core.state.runner_with(&key)?));
        if let Some(brake) = api.coordinator.visit(brake).await? {
            brake.turn().await;
        }
    }
    let done = api.coordinator.submit(Command::Enrol(enrolment)).await?;
    let Outcome::Enrolled { runner, new, replaced } = done.outcome else {
        return Err(Failure::unexpected(&done.outcome).into());
    };
    info!(%runner, name = %wish.name, provider = %wish.provider, token = %token.id, new, ?replaced, "runner enrolled");
    Ok(Enrolled { runner, credential: Credential { runner, secret }.to_text().to_string() })
}
