//! Why a container is not attached, whichever runtime starts it.

use mesh_proto::message::Refusal;

use crate::{attach::AttachError, config::ConfigError, hint::Hint, local::TargetError};

/// Why a container is not attached, whichever runtime starts it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContainerError {
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
}

impl Hint for ContainerError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Refused(refusal) => refusal.hint(),
            Self::Config(error) => error.hint(),
            Self::Target(error) => error.hint(),
            Self::Namespace(_) => None,
        }
    }
}
