//! Who asks: an administrator, at the socket or with a token, or a runner with its credential.

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
use crate::coordinator::Core;

/// An administrator who has shown that they are one.
pub(super) struct Administrator(pub(super) Admin);

/// A runner that has shown its credential.
pub(super) struct AuthenticRunner(pub(super) RunnerId);

impl Origin {
    fn of(parts: &Parts) -> Result<Self, Refused> {
        parts.extensions.get().copied().ok_or_else(|| {
            Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "a request from nowhere", "this is a bug: please report it")
        })
    }
}

impl Api {
    /// Turns away a source that has failed too often.
    pub(super) fn check_failures(&self, origin: Origin) -> Result<(), Refused> {
        match origin {
            Origin::Network(address)
                if !self.failures.may_try(address.ip(), self.coordinator.clock.now().running.0) =>
            {
                Err(Refused::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    "too many attempts from this address have failed",
                    "wait a few seconds, then try again with a good token",
                ))
            }
            _ => Ok(()),
        }
    }

    /// Notes whether an attempt failed for want of a right.
    pub(super) fn note_failure<T>(&self, origin: Origin, result: Result<T, Refused>) -> Result<T, Refused> {
        if let (Origin::Network(address), Err(refused)) = (origin, &result)
            && matches!(refused.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
        {
            self.failures.failed(address.ip(), self.coordinator.clock.now().running.0);
        }
        result
    }

    async fn authenticate<T: Send + 'static>(
        &self,
        origin: Origin,
        shown: Result<impl FnOnce(&Core) -> Result<T, mesh_model::Refusal> + Send + 'static, Refused>,
    ) -> Result<T, Refused> {
        self.check_failures(origin)?;
        let result = match shown {
            Ok(check) => match self.coordinator.visit(move |core| check(core)).await {
                Ok(checked) => checked.map_err(Refused::from),
                Err(failure) => return Err(failure.into()),
            },
            Err(refused) => Err(refused),
        };
        self.note_failure(origin, result)
    }
}

impl FromRequestParts<Api> for Administrator {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Refused> {
        let origin = Origin::of(parts)?;
        if let Origin::Socket { uid } = origin {
            return Ok(Self(Admin::socket(uid)));
        }
        let now = api.coordinator.now();
        let shown = bearer(&parts.headers, "an admin token").and_then(|text| {
            let token = Token::parse(TokenKind::Admin, text).map_err(unauthorised)?;
            if token.fingerprint != api.fingerprint {
                return Err(unauthorised("this admin token is another coordinator's"));
            }
            Ok(move |core: &Core| core.state.authenticate_admin(token.id, &token.secret, now))
        });
        api.authenticate(origin, shown).await.map(Self)
    }
}

impl FromRequestParts<Api> for AuthenticRunner {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Refused> {
        let shown = bearer(&parts.headers, "a runner's credential").and_then(|text| {
            let credential: Credential = text.parse().map_err(unauthorised)?;
            Ok(move |core: &Core| core.state.authenticate_runner(&credential))
        });
        api.authenticate(Origin::of(parts)?, shown).await.map(Self)
    }
}

/// RFC 6750 §2.1.
fn bearer<'a>(headers: &'a HeaderMap, what: &str) -> Result<&'a str, Refused> {
    let value = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    value
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, text)| text.trim())
        .ok_or_else(|| unauthorised(format!("this needs {what} as `Authorization: Bearer`")))
}

fn unauthorised(error: impl ToString) -> Refused {
    Refused::new(StatusCode::UNAUTHORIZED, error.to_string(), "copy it whole, from where it was made")
}
