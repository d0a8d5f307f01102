//! New tokens.

use axum::{Json, extract::State};
use mesh_link::Url;
use mesh_model::{Command, NewPurpose, Outcome};
use mesh_proto::token::{Token, TokenKind};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api,
    asked::{Asked, is_dry_run},
    auth::Administrator,
    body::Body,
    failure::Answer,
    noted::{submit, take_turn},
    preview,
};
use crate::{
    api::{MadeOrTried, NewToken, VERSION, WriteQuery},
    coordinator::Failure,
    random,
};

/// The largest request for a token, in KiB: a scope of 256 names.
const TOKEN_KIB: usize = 64;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(create_token))
}

/// Makes a token
#[utoipa::path(
    post, path = "/tokens",
    params(WriteQuery), request_body = mesh_model::NewToken,
    responses((status = 200, body = MadeOrTried))
)]
async fn create_token(
    State(api): State<Api>,
    Administrator { by, coordinator }: Administrator,
    asked: Asked<WriteQuery>,
    Body(token, _loan): Body<mesh_model::NewToken, TOKEN_KIB>,
) -> Answer<MadeOrTried> {
    let dry_run = is_dry_run(asked)?;
    let secret = random::secret().map_err(|error| Failure::Internal(error.to_string()))?;
    let kind = match &token.purpose {
        NewPurpose::Admin { .. } | NewPurpose::Role { .. } => TokenKind::Admin,
        NewPurpose::Relay { .. } => TokenKind::Relay,
        NewPurpose::JoinAny { .. } | NewPurpose::JoinTeams { .. } | NewPurpose::JoinDeployments { .. } => {
            TokenKind::Join
        }
    };
    let command = Command::CreateToken { by: by.clone(), token, secret: secret.hash() };
    if dry_run {
        return preview::try_out(&coordinator, by, command).await.map(MadeOrTried::Tried).map(Json);
    }
    take_turn(&coordinator, &by).await?;
    let done = submit(&coordinator, by, "token-create", command).await?;
    let Outcome::TokenCreated { token: id, expires, warnings } = done.outcome else {
        return Err(Failure::unexpected(&done.outcome).into());
    };
    let urls: Vec<String> = api.advertised.urls.iter().map(Url::to_string).collect();
    let token = Token { kind, fingerprint: api.fingerprint, id, secret, urls: urls.clone() }.to_text().to_string();
    let guess = api.advertised.guess.as_ref().map(Url::to_string);
    Ok(Json(MadeOrTried::Made(NewToken { version: VERSION, id, token, expires, warnings, urls, guess })))
}
