//! Why a container of Docker's is not attached.

use mesh_proto::ServicePath;

use super::api::ApiError;
use crate::{containers::ContainerError, hint::Hint};

/// Why a container of Docker's is not attached.
#[derive(Debug, thiserror::Error)]
pub(super) enum DockerError {
    #[error("{service}: {error}")]
    Member { service: ServicePath, error: Box<Self> },
    /// What has nothing to do with Docker.
    #[error(transparent)]
    Container(ContainerError),
    #[error("Docker does not describe the container: {0}")]
    Inspect(ApiError),
    #[error("cannot ask for its image {image}, so it is unknown which of its labels are the image's: {error}")]
    UnknownImage { image: String, error: ApiError },
    #[error("the file system of its hosts file does not answer")]
    HostsStalled,
    #[error("cannot open what the container is attached by: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

impl<E: Into<ContainerError>> From<E> for DockerError {
    fn from(error: E) -> Self {
        Self::Container(error.into())
    }
}

impl Hint for DockerError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Member { error, .. } => error.hint(),
            Self::Container(error) => error.hint(),
            Self::Inspect(_) | Self::Thread(_) => Some("see Docker's and the agent's logs".into()),
            Self::UnknownImage { .. } => Some("is the image still there?".into()),
            Self::HostsStalled => Some("is Docker's data directory on a network file system that is down?".into()),
        }
    }
}
