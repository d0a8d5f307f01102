//! Answers to refused requests: one shape, `{error, hint}`, and one mapping to statuses.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use mesh_model::Class;
use mesh_proto::message::Refusal;
use tracing::warn;

use crate::{coordinator::Failure, places::Full, rate::Busy, store::StoreError};

/// A refusal with its status.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    pub(crate) refusal: Refusal,
}

impl Refused {
    pub(crate) fn new(status: StatusCode, error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { status, refusal: Refusal::new(error, hint) }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, Json(self.refusal)).into_response()
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self { status: status(&failure), refusal: failure.refusal() }
    }
}

impl From<mesh_model::Refusal> for Refused {
    fn from(refusal: mesh_model::Refusal) -> Self {
        Failure::from(refusal).into()
    }
}

impl From<Busy> for Refused {
    fn from(busy: Busy) -> Self {
        Self { status: StatusCode::TOO_MANY_REQUESTS, refusal: busy.into() }
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
        Failure::Store(StoreError::Full | StoreError::ReadOnly | StoreError::Slow | StoreError::Quota) => {
            StatusCode::INSUFFICIENT_STORAGE
        }
        Failure::Store(StoreError::Away | StoreError::Replaced | StoreError::PutBack) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Failure::Store(StoreError::TooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
        Failure::Store(StoreError::Unknown) => StatusCode::GATEWAY_TIMEOUT,
        Failure::Store(_) | Failure::Internal(_) => {
            warn!(%failure, "a request failed");
            StatusCode::INTERNAL_SERVER_ERROR
        }
        Failure::Ending => StatusCode::SERVICE_UNAVAILABLE,
    }
}
