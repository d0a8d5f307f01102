//! Codes of refusals, which stay the same where words change.

use axum::http::StatusCode;
use mesh_model::{
    Class, Refusal,
    refusal::{DeployRefusal, EnrolRefusal, RelayRefusal, TokenRefusal, TrustRefusal},
};
use serde::Serialize;
use utoipa::ToSchema;

/// Why a request is refused. More codes may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Code {
    /// The request can be carried out in no state of the mesh.
    Invalid,
    /// The token is missing, or none of this coordinator's.
    Unauthenticated,
    /// The token has expired.
    TokenExpired,
    /// The token was revoked.
    TokenRevoked,
    /// Not allowed, for another reason than the following.
    Forbidden,
    /// The token's role doesn't include it.
    Role,
    /// It belongs to another team.
    OtherTeam,
    /// What the request names doesn't exist, or not for this team.
    NotFound,
    /// The coordinator has nothing at this path.
    NoSuchPath,
    /// The path doesn't take this method.
    NoSuchMethod,
    /// It contradicts the current state, in another way than the following.
    Conflict,
    /// The name is in use.
    NameTaken,
    /// Instances would end: repeat it with `force`.
    Instances,
    /// Services would be removed: repeat it with `prune`.
    RemovesServices,
    /// The trust list is set by a file.
    TrustInFile,
    /// What the files expect does not hold.
    Unexpected,
    /// A fixed limit.
    Limit,
    /// The team's share is used up.
    Share,
    /// The range has no free address.
    NoAddress,
    /// Runners don't report to this coordinator.
    TelemetryOff,
    /// The same `Idempotency-Key` came with another request.
    KeyReused,
    /// The request with the same `Idempotency-Key` is being carried out.
    KeyInUse,
    /// The body is larger than the path takes.
    TooLarge,
    /// The body is not JSON.
    NotJson,
    /// The body has another form, or a relay doesn't answer as one.
    Unprocessable,
    /// It took too long.
    Timeout,
    /// Too much was asked at once.
    TooMuch,
    /// A bug.
    Internal,
    /// Not now: try again.
    Unavailable,
    /// Whether it was done is not known.
    OutcomeUnknown,
    /// The database can't be written to.
    Storage,
}

impl Code {
    /// What a status says alone.
    pub(super) const fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::UNAUTHORIZED => Self::Unauthenticated,
            StatusCode::FORBIDDEN => Self::Forbidden,
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Self::NoSuchMethod,
            StatusCode::REQUEST_TIMEOUT => Self::Timeout,
            StatusCode::CONFLICT => Self::Conflict,
            StatusCode::PAYLOAD_TOO_LARGE => Self::TooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::NotJson,
            StatusCode::UNPROCESSABLE_ENTITY => Self::Unprocessable,
            StatusCode::TOO_MANY_REQUESTS => Self::TooMuch,
            StatusCode::INTERNAL_SERVER_ERROR => Self::Internal,
            StatusCode::SERVICE_UNAVAILABLE => Self::Unavailable,
            StatusCode::GATEWAY_TIMEOUT => Self::OutcomeUnknown,
            StatusCode::INSUFFICIENT_STORAGE => Self::Storage,
            _ => Self::Invalid,
        }
    }

    /// What the model says.
    pub(super) fn of(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::Role { .. } => Self::Role,
            Refusal::NotYours { .. }
            | Refusal::Trust(TrustRefusal::OtherTeam { .. })
            | Refusal::Relay(RelayRefusal::Operators { .. }) => Self::OtherTeam,
            Refusal::Token(TokenRefusal::Expired { .. }) => Self::TokenExpired,
            Refusal::Token(TokenRefusal::Revoked { .. }) => Self::TokenRevoked,
            Refusal::NotFree { .. }
            | Refusal::Enrol(EnrolRefusal::NameTaken { .. })
            | Refusal::Relay(RelayRefusal::NameTaken { .. }) => Self::NameTaken,
            Refusal::Enrol(EnrolRefusal::Hosting { .. }) => Self::Instances,
            Refusal::Deploy(refusal) => Self::of_deploy(refusal),
            Refusal::Trust(TrustRefusal::RuledByFile { .. }) => Self::TrustInFile,
            Refusal::TooMany { .. } => Self::Limit,
            Refusal::Share { .. } => Self::Share,
            Refusal::RangeExhausted { .. } => Self::NoAddress,
            other => match other.class() {
                Class::Invalid => Self::Invalid,
                Class::Unauthorised => Self::Unauthenticated,
                Class::Forbidden => Self::Forbidden,
                Class::NotFound => Self::NotFound,
                Class::Conflict => Self::Conflict,
            },
        }
    }

    fn of_deploy(refusal: &DeployRefusal) -> Self {
        match refusal {
            DeployRefusal::In { refusal, .. } => Self::of(refusal),
            DeployRefusal::Running { .. } => Self::Instances,
            DeployRefusal::Prunes { .. } => Self::RemovesServices,
            DeployRefusal::Unmet { .. } => Self::Unexpected,
            DeployRefusal::TeamFixed { .. } => Self::Conflict,
            _ => Self::Invalid,
        }
    }
}
