//! Why there is no stream to the coordinator.

use std::{fmt, sync::Arc};

use hyper::StatusCode;
use mesh_link::{LinkError, Url};
use mesh_proto::message::Refusal;
use tokio_tungstenite::tungstenite;

use super::session::SessionEnd;
use crate::hint::Hint;

/// Why there is no stream to the coordinator.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// There is no pinned TLS connection.
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("cannot ask {url} for a stream: {error}")]
    Request { url: Url, error: hyper::http::Error },
    #[error("{url} does not answer as a coordinator does: {error}")]
    Handshake { url: Url, error: Box<tungstenite::Error> },
    #[error("{url} does not answer")]
    Mute { url: Url },
    #[error("the coordinator does not know this runner (any more){}", Said(.0.as_ref()))]
    Unknown(Option<Refusal>),
    /// The coordinator, or a proxy before it, refuses for now.
    #[error(transparent)]
    Refused(Refusal),
    #[error("the coordinator answers with HTTP {0}")]
    Status(StatusCode),
    #[error("the stream to {url} ended: {end}")]
    Ended { url: Url, end: SessionEnd },
}

impl Hint for Trouble {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Link(LinkError::Unreachable { .. } | LinkError::NoUrl { .. }) => {
                "is the coordinator running, and reachable from this machine?"
            }
            Self::Link(LinkError::Proxy { cause, .. }) => cause.hint(),
            Self::Link(LinkError::OtherCoordinator { .. }) => {
                "was its data directory lost or replaced? Then runners have to join again, with a new state directory"
            }
            Self::Link(LinkError::Tls { .. }) | Self::Handshake { .. } => {
                "is another program listening at that address?"
            }
            Self::Request { .. } => "was the identity of this runner edited by hand?",
            Self::Mute { .. } => "the agent retries; see the coordinator's log if this lasts",
            Self::Unknown(_) => {
                "if it was removed on purpose, `mesh-node leave` ends the agent and deletes its identity; to join again, do \
                 that first and then `mesh-node join TOKEN` with a new token"
            }
            Self::Refused(refusal) => return refusal.hint.clone(),
            Self::Status(_) => "the agent retries; is there a proxy before the coordinator?",
            Self::Ended { end: SessionEnd::Behind { .. }, .. } => {
                "the agent tries again until the coordinator has caught up; if its database was put back while it ran, \
                 restart mesh-coord"
            }
            Self::Ended { .. } => "it is opened again automatically",
        };
        Some(hint.into())
    }
}

/// `: WORDS`, if there are any.
struct Said<'a>(Option<&'a Refusal>);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |said| write!(f, ": {said}"))
    }
}

/// The coordinator is away.
#[derive(Debug, Clone)]
pub(crate) struct Away {
    /// Why there is no stream, if that is known.
    pub(super) trouble: Option<Arc<Trouble>>,
    /// The coordinator is reachable and doesn't know this runner: the trouble says what to do.
    pub(super) unknown: bool,
}

impl fmt::Display for Away {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.trouble {
            Some(trouble) if self.unknown => trouble.fmt(f),
            Some(trouble) => write!(f, "the coordinator is away ({trouble})"),
            None => f.write_str("the coordinator is away"),
        }
    }
}

impl std::error::Error for Away {}

impl Hint for Away {
    fn hint(&self) -> Option<String> {
        match &self.trouble {
            Some(trouble) if self.unknown => trouble.hint(),
            _ => Some("try again when it is back: `mesh-node status` shows whether it is".into()),
        }
    }
}
