//! Why a call of the plugin fails, with the specification's number for it.

use std::io;

use mesh_proto::message::Refusal;

use crate::{
    config::ConfigError,
    hint::Hint,
    local::{ClientError, ContainerId, TargetError},
    oci::OciError,
    state::StateError,
};

/// The supported versions of the specification.
pub(super) const SUPPORTED: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// "Try again later".
const LATER: u32 = 11;
/// "The plugin is not available".
const UNAVAILABLE: u32 = 50;
/// The first number for plugins' own errors.
const OWN: u32 = 100;

/// Why a call fails.
#[derive(Debug, thiserror::Error)]
pub(super) enum CniError {
    #[error("unsupported cniVersion {0:?}: this plugin supports {list}", list = SUPPORTED.join(", "))]
    Version(String),
    /// The namespace can't be opened.
    #[error(transparent)]
    Namespace(#[from] TargetError),
    #[error("{0} is missing or invalid: container runtimes call CNI plugins")]
    Environment(&'static str),
    #[error("unsupported CNI_COMMAND={0}")]
    Command(String),
    #[error("cannot read the network's configuration: {0}")]
    Io(#[from] io::Error),
    #[error("the network's configuration: {0}")]
    Json(#[from] serde_json::Error),
    #[error("there is no prevResult: put this plugin behind others, in a list of `plugins`")]
    First,
    /// The network's configuration names an invalid service.
    #[error(transparent)]
    Service(Refusal),
    /// The network's configuration names an invalid state directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// The agent's configuration is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The container can't have the mesh for now: no agent, no coordinator, or a service that isn't declared yet.
    #[error(transparent)]
    NotNow(#[from] OciError),
    /// The agent can't collect garbage for now.
    #[error(transparent)]
    Agent(#[from] ClientError),
    /// The agent can't serve containers.
    #[error(transparent)]
    Unavailable(ClientError),
    /// The container isn't attached any more.
    #[error("{0}")]
    Check(OciError),
}

/// A container isn't attached any more.
#[derive(Debug, thiserror::Error)]
#[error("{0} is not attached any more")]
pub(super) struct Lost(pub(super) ContainerId);

impl Hint for Lost {
    fn hint(&self) -> Option<String> {
        Some("start the container again".into())
    }
}

impl CniError {
    /// The number of the specification.
    pub(super) fn code(&self) -> u32 {
        match self {
            Self::Version(_) => 1,
            Self::Namespace(_) => 3,
            Self::Environment(_) | Self::Command(_) => 4,
            Self::Io(_) => 5,
            Self::Json(_) => 6,
            Self::First | Self::Service(_) | Self::State(_) => 7,
            Self::Config(_) | Self::NotNow(_) | Self::Agent(_) => LATER,
            Self::Unavailable(_) => UNAVAILABLE,
            Self::Check(_) => OWN,
        }
    }
}

impl Hint for CniError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Namespace(error) => error.hint(),
            Self::Service(refusal) => refusal.hint.clone(),
            Self::State(error) => error.hint(),
            Self::Config(error) => error.hint(),
            Self::NotNow(error) | Self::Check(error) => error.hint(),
            Self::Agent(error) | Self::Unavailable(error) => error.hint(),
            Self::Version(_) => Some("change cniVersion in the network's list".into()),
            Self::First => Some("`mesh-node setup cni` puts it in the right place".into()),
            Self::Environment(_) | Self::Command(_) | Self::Io(_) | Self::Json(_) => None,
        }
    }
}
