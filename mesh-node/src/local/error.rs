//! What can go wrong at the agent's socket, on either side.

use std::{io, path::PathBuf};

use mesh_proto::message::Refusal;

use super::request::MAX_REQUEST;
use crate::{
    config::ConfigError,
    control::{AskError, Away},
    hint::Hint,
    state::StateError,
};

/// Why a client has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("this user has no agent; one runs on this machine as root")]
    RootsAgent {
        /// Its state directory; `None`: the usual one.
        state: Option<String>,
    },
    #[error("no right to talk to the agent at {socket}", socket = socket.display())]
    Forbidden { socket: PathBuf },
    #[error("no agent is running with the state directory {state}", state = state.display())]
    NoAgent { state: PathBuf },
    #[error("the agent does not accept the request: {0}")]
    NotSent(io::Error),
    #[error("the agent does not answer")]
    Mute,
    #[error("the agent ended before it answered")]
    Ended,
    #[error("the agent's answer was lost: {0}")]
    Lost(io::Error),
    #[error("the agent's answer was lost: {0}")]
    Unintelligible(#[from] serde_json::Error),
    /// The agent refuses.
    #[error(transparent)]
    Refused(Refusal),
}

impl Hint for ClientError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::RootsAgent { state } => {
                let state = state.as_ref().map(|state| format!(" --state {state}")).unwrap_or_default();
                format!("ask that one: sudo mesh-node{state} status (or any other command)")
            }
            Self::Forbidden { .. } => "be root, or the user that the agent runs as".into(),
            Self::NoAgent { state } => format!(
                "start it with `mesh-node join --state {}` (the first time: `mesh-node join TOKEN`), or name another directory \
                 with --state DIR",
                state.display()
            ),
            Self::NotSent(_) | Self::Mute | Self::Lost(_) => "see the agent's log".into(),
            Self::Ended => {
                "once the agent runs again, `mesh-node status` shows whether the request was carried out".into()
            }
            Self::Unintelligible(_) => {
                "see the agent's log; do this program and the agent have the same version?".into()
            }
            Self::Refused(refusal) => return refusal.hint.clone(),
        })
    }
}

/// Why the agent carries out no request of a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("no request came: {0}")]
    Lost(io::Error),
    #[error("the request is longer than {MAX_REQUEST} bytes")]
    TooLong,
    #[error("this is no request: {0}")]
    Unintelligible(serde_json::Error),
    #[error("only root and the user that the agent runs as may ask it")]
    Forbidden,
    #[error("the agent is stopping")]
    Stopping,
}

impl Hint for RequestError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Lost(_) | Self::TooLong => "ask with the program mesh-node",
            Self::Unintelligible(_) => "do `mesh-node` here and the agent have the same version?",
            Self::Forbidden => "be root, or that user",
            Self::Stopping => "try again when it runs",
        };
        Some(hint.into())
    }
}

/// The agent's socket can't be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen at {path}: {error}", path = path.display())]
pub(crate) struct ListenError {
    /// The socket.
    pub(super) path: PathBuf,
    /// The cause.
    pub(super) error: io::Error,
}

impl Hint for ListenError {
    fn hint(&self) -> Option<String> {
        Some("make the state directory writable, or choose another one with --state DIR".into())
    }
}

/// Why something can't be passed to the agent beside a request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    #[error("{path}: {error}", path = path.display())]
    Path { path: PathBuf, error: io::Error },
    #[error("cannot open the network namespace {path}: {error}", path = path.display())]
    Namespace { path: PathBuf, error: io::Error },
    #[error("{path} is not a network namespace", path = path.display())]
    NotANamespace { path: PathBuf },
    #[error("cannot open process {pid}: {error}")]
    Process { pid: i32, error: io::Error },
    /// The hosts file can't be opened.
    #[error(transparent)]
    Hosts(Refusal),
}

impl Hint for TargetError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Path { .. } => "name the file by an absolute path",
            Self::Namespace { .. } | Self::NotANamespace { .. } => {
                "`ip netns list` names those under /run/netns; a process has one at /proc/PID/ns/net"
            }
            Self::Process { .. } => "is it running, and may this user look at it?",
            Self::Hosts(refusal) => return refusal.hint.clone(),
        };
        Some(hint.into())
    }
}

/// Lets `?` turn an error into what is sent and shown.
macro_rules! refusals {
    ($($error:ty),+ $(,)?) => {$(
        impl From<$error> for Refusal {
            fn from(error: $error) -> Self {
                error.refusal()
            }
        }
    )+};
}

refusals!(AskError, Away, ClientError, ConfigError, ListenError, RequestError, StateError, TargetError);
