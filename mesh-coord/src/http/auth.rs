//! Authentication of requests: of an administrator at the socket or by token, and of a runner by credential. Only
//! unknown secrets count as failures, and only failures are slowed down.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, StatusCode, header::AUTHORIZATION, request::Parts},
};
use mesh_model::Admin;
use mesh_proto::{
    RunnerId,
    token::{Credential, Token, TokenKind},
};

use super::{Api, failure::Refused, server::Origin};
use crate::{coordinator::Coordinator, metrics::Secret, places::Place, tenant::Tenant};

/// An authenticated administrator.
#[derive(Clone)]
pub(super) struct Administrator {
    pub(super) by: Admin,
    /// The coordinator, on the administrator's account.
    pub(super) coordinator: Coordinator,
}

impl Administrator {
    /// Refuses what is not for the administrators of one team; `why`: whose it is.
    ///
    /// # Errors
    /// If this is one of them.
    pub(super) fn check_all_teams(&self, why: &str) -> Result<(), Refused> {
        let Some(team) = &self.by.team else { return Ok(()) };
        let error = format!("{why}, and this token is of team {team}");
        Err(Refused::new(StatusCode::FORBIDDEN, error, "use an admin token without --team"))
    }
}

/// An authenticated runner.
pub(super) struct AuthenticRunner {
    pub(super) runner: RunnerId,
    pub(super) tenant: Tenant,
}

impl Origin {
    pub(super) fn of(parts: &Parts) -> Result<Self, Refused> {
        parts.extensions.get().copied().ok_or_else(|| {
            Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "a request from nowhere", "this is a bug: please report it")
        })
    }
}

impl Api {
    /// The answer to an unknown secret: the reason, or for a source that keeps failing, to wait. Good secrets don't
    /// get here, whatever their source did before.
    pub(super) fn failed(&self, origin: Origin, kind: Secret, refused: Refused) -> Refused {
        self.coordinator.metrics.auth_failed(kind);
        let Origin::Network(address) = origin else { return refused };
        let now = self.coordinator.clock.now().running.0;
        let patient = self.failures.may_try(address.ip(), now);
        self.failures.failed(address.ip(), now);
        if patient {
            return refused;
        }
        Refused::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too many attempts from this address have failed, and this is one more",
            "check the token; a good one is taken at once",
        )
    }
}

impl FromRequestParts<Api> for Administrator {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Refused> {
        if let Some(known) = parts.extensions.get::<Self>() {
            return Ok(known.clone());
        }
        let origin = Origin::of(parts)?;
        if let Origin::Socket { uid } = origin {
            return Ok(Self { by: Admin::socket(uid), coordinator: api.coordinator.on_account(None) });
        }
        let shown = bearer(&parts.headers, "an admin token").and_then(|text| {
            let token = Token::parse(TokenKind::Admin, text).map_err(unauthorised)?;
            if token.fingerprint != api.fingerprint {
                return Err(unauthorised("this admin token is another coordinator's"));
            }
            let tenant = api.coordinator.keyring.token(token.id, &token.secret);
            let tenant = tenant.ok_or_else(|| unknown(mesh_model::Refusal::unknown_token()))?;
            Ok((token, tenant))
        });
        let (token, tenant) = shown.map_err(|refused| api.failed(origin, Secret::Admin, refused))?;
        let now = api.coordinator.now();
        let coordinator = api.coordinator.on_account(Some(&tenant));
        let look = coordinator.visit(move |core| core.state.authenticate_admin(token.id, &token.secret, now));
        let by = look.await??;
        prove(parts, &tenant)?;
        parts.extensions.insert(tenant);
        Ok(Self { by, coordinator })
    }
}

impl FromRequestParts<Api> for AuthenticRunner {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Refused> {
        let shown = bearer(&parts.headers, "a runner's credential").and_then(|text| {
            let credential: Credential = text.parse().map_err(unauthorised)?;
            let tenant = api.coordinator.keyring.runner(&credential);
            let tenant = tenant.ok_or_else(|| unknown(mesh_model::Refusal::unknown_credential()))?;
            Ok((credential, tenant))
        });
        let (credential, tenant) = shown.map_err(|refused| match Origin::of(parts) {
            Ok(origin) => api.failed(origin, Secret::Runner, refused),
            Err(bug) => bug,
        })?;
        let coordinator = api.coordinator.on_account(Some(&tenant));
        let runner = coordinator.visit(move |core| core.state.authenticate_runner(&credential)).await??;
        Ok(Self { runner, tenant })
    }
}

/// From here on the connection has a place of the tenant's.
fn prove(parts: &Parts, tenant: &Tenant) -> Result<(), Refused> {
    parts.extensions.get::<Place>().map_or(Ok(()), |place| Ok(place.prove(tenant)?))
}

pub(super) fn unknown(refusal: mesh_model::Refusal) -> Refused {
    refusal.into()
}

/// The bearer token of a request (RFC 6750 §2.1).
pub(super) fn bearer<'a>(headers: &'a HeaderMap, what: &str) -> Result<&'a str, Refused> {
    let value = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    value
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, text)| text.trim())
        .ok_or_else(|| unauthorised(format!("this needs {what} as `Authorization: Bearer`")))
}

pub(super) fn unauthorised(error: impl ToString) -> Refused {
    Refused::new(StatusCode::UNAUTHORIZED, error.to_string(), "copy it whole, from where it was made")
}
