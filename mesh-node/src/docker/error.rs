//! Why a container of Docker's is not attached.

use mesh_proto::{ServicePath, message::Refusal};

use super::api::ApiError;
use crate::{attach::AttachError, config::ConfigError, hint::Hint, local::TargetError};

/// Why a container of Docker's is not attached.
#[derive(Debug, thiserror::Error)]
pub(super) enum DockerError {
    #[error("{service}: {error}")]
    Member { service: ServicePath, error: Box<Self> },
    /// What another part of the agent refuses.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The container's process or hosts file can't be opened.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The container's namespace can't be used.
    #[error(transparent)]
    Namespace(#[from] AttachError),
    #[error("Docker does not describe the container: {0}")]
    Inspect(ApiError),
    #[error("cannot ask for its image {image}, so it is unknown which of its labels are the image's: {error}")]
    UnknownImage { image: String, error: ApiError },
    #[error("the file system of its hosts file does not answer")]
    HostsStalled,
    #[error("cannot open what the container is attached by: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

impl Hint for DockerError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Member { error, .. } => error.hint(),
            Self::Refused(refusal) => refusal.hint.clone(),
            Self::Config(error) => error.hint(),
            Self::Target(error) => error.hint(),
            Self::Namespace(_) => None,
            Self::Inspect(_) | Self::Thread(_) => Some("see Docker's and the agent's logs".into()),
            Self::UnknownImage { .. } => Some("is the image still there?".into()),
            Self::HostsStalled => Some("is Docker's data directory on a network file system that is down?".into()),
        }
    }
}
