//! Answers to refused requests: one shape, `{error, hint, code}`, and one mapping to statuses.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use mesh_model::Class;
use mesh_proto::message::Refusal;
use serde::Serialize;
use tracing::warn;
use utoipa::ToSchema;

use super::codes::Code;
use crate::{coordinator::Failure, places::Full, rate::Busy, store::StoreError};

/// A refusal with its status.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    pub(crate) refusal: Refusal,
    pub(super) code: Code,
}

/// The body of the answer to a refused request.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Error {
    /// What happened, and where.
    error: String,
    /// What to try next.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    code: Code,
}

/// What a handler answers.
pub(super) type Answer<T> = Result<Json<T>, Refused>;

impl Refused {
    pub(crate) fn new(status: StatusCode, error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { status, refusal: Refusal::new(error, hint), code: Code::of_status(status) }
    }

    /// The same with a code that says more than its status.
    pub(super) fn coded(self, code: Code) -> Self {
        Self { code, ..self }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Refusal { error, hint } = self.refusal;
        (self.status, Json(Error { error, hint, code: self.code })).into_response()
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        let status = status(&failure);
        let code = match &failure {
            Failure::Refused(refusal) => Code::of(refusal),
            Failure::Store(_) | Failure::Ending | Failure::Internal(_) => Code::of_status(status),
        };
        Self { status, refusal: failure.refusal(), code }
    }
}

impl From<mesh_model::Refusal> for Refused {
    fn from(refusal: mesh_model::Refusal) -> Self {
        Failure::from(refusal).into()
    }
}

impl From<Busy> for Refused {
    fn from(busy: Busy) -> Self {
        Self { status: StatusCode::TOO_MANY_REQUESTS, refusal: busy.into(), code: Code::TooMuch }
    }
}

impl From<Full> for Refused {
    fn from(full: Full) -> Self {
        match full {
            Full::Own => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "this credential has as many connections as one may have",
                "wait until some of them have ended; is the same credential in use elsewhere?",
            ),
            Full::All => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the coordinator has no place for another connection of this team",
                "try again in a moment; raise the limit of descriptors (LimitNOFILE) of mesh-coord for more",
            ),
        }
    }
}

fn status(failure: &Failure) -> StatusCode {
    match failure {
        Failure::Refused(refusal) => match refusal.class() {
            Class::Invalid => StatusCode::BAD_REQUEST,
            Class::Unauthorised => StatusCode::UNAUTHORIZED,
            Class::Forbidden => StatusCode::FORBIDDEN,
            Class::NotFound => StatusCode::NOT_FOUND,
            Class::Conflict => StatusCode::CONFLICT,
        },
        Failure::Store(error) if error.is_unknown() => StatusCode::GATEWAY_TIMEOUT,
        Failure::Store(StoreError::Full | StoreError::ReadOnly | StoreError::Quota) => StatusCode::INSUFFICIENT_STORAGE,
        Failure::Store(StoreError::Away | StoreError::Ended | StoreError::Replaced | StoreError::PutBack) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Failure::Store(StoreError::TooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
        Failure::Store(_) | Failure::Internal(_) => {
            warn!(%failure, "a request failed");
            StatusCode::INTERNAL_SERVER_ERROR
        }
        Failure::Ending => StatusCode::SERVICE_UNAVAILABLE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_yet_be_done_is_not_called_refused() {
        for (error, expected) in [
            (StoreError::Unknown, StatusCode::GATEWAY_TIMEOUT),
            (StoreError::Slow, StatusCode::GATEWAY_TIMEOUT),
            (StoreError::Full, StatusCode::INSUFFICIENT_STORAGE),
            (StoreError::Away, StatusCode::SERVICE_UNAVAILABLE),
            (StoreError::Ended, StatusCode::SERVICE_UNAVAILABLE),
        ] {
            assert_eq!(Refused::from(Failure::from(error.clone())).status, expected, "{error}");
        }
    }
}
