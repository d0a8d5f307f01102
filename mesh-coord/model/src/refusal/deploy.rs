//! Refusals about what files declare.

use mesh_proto::{Label, ServiceName, ServicePath, names::DeclarationError};

use super::{Class, Refusal};
use crate::{
    limits,
    words::{count, list},
};

/// What is refused about what files declare.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeployRefusal {
    /// A refusal of what one file says.
    #[error("{file}: {refusal}")]
    In {
        /// The file, as it was named.
        file: String,
        /// What is wrong with what it says.
        refusal: Box<Refusal>,
    },
    /// Nothing to apply.
    #[error("no file was given to apply")]
    NoFile,
    /// A file whose name can't be kept.
    #[error("a file's name is longer than {} bytes, or holds control characters", limits::FILE_NAME)]
    FileName,
    /// Two files that each say what the whole deployment is.
    #[error("both {first} and {second} declare the deployment `{deployment}`")]
    Twice {
        /// Which.
        deployment: Label,
        /// One file.
        first: String,
        /// The other one.
        second: String,
    },
    /// Two files that declare one service.
    #[error("both {first} and {second} declare the service `{service}`")]
    ServiceTwice {
        /// Which.
        service: ServicePath,
        /// One file.
        first: String,
        /// The other one.
        second: String,
    },
    /// A file that says what the whole deployment is, and one that adds a service to it.
    #[error("{whole} declares all services of `{deployment}`, and {single} declares another one")]
    WholeAndSingle {
        /// Which.
        deployment: Label,
        /// The `mesh.toml`.
        whole: String,
        /// The `warp.config.js`.
        single: String,
    },
    /// Another team than the deployment has.
    #[error("the deployment `{deployment}` is team `{team}`'s, and a deployment's team can't change (to `{asked}`)")]
    TeamFixed {
        /// Which.
        deployment: Label,
        /// Its team.
        team: Label,
        /// What was asked for.
        asked: Label,
    },
    /// Services that would go with their instances.
    #[error("{} of `{deployment}` would be removed while {}", if services.len() == 1 { "a service" } else { "services" }, running(services))]
    Running {
        /// Where.
        deployment: Label,
        /// Which services, and how many instances each has.
        services: Vec<(ServiceName, usize)>,
    },
    /// Services that would go without a word about it.
    #[error("{} would be removed, and nothing has changed: {}", if services.len() == 1 { "this service" } else { "these services" }, services.join(", "))]
    Prunes {
        /// Which: `DEPLOYMENT/SERVICE`.
        services: Vec<String>,
    },
    /// Port 0.
    #[error("`{key}` of the service `{service}` is 0, which is no port")]
    PortZero {
        /// Which service.
        service: ServiceName,
        /// `port` or `public_port`.
        key: &'static str,
    },
    /// Names that can't be as declared.
    #[error(transparent)]
    Names(#[from] DeclarationError),
}

fn running(services: &[(ServiceName, usize)]) -> String {
    let each = services.iter().map(|(name, instances)| format!("`{name}` has {}", count(*instances, "instance")));
    list(each)
}

impl DeployRefusal {
    pub(crate) fn class(&self) -> Class {
        match self {
            Self::In { refusal, .. } => refusal.class(),
            Self::TeamFixed { .. } | Self::Running { .. } | Self::Prunes { .. } => Class::Conflict,
            _ => Class::Invalid,
        }
    }

    pub(crate) fn hint(&self) -> Option<String> {
        Some(match self {
            Self::In { refusal, .. } => return refusal.hint(),
            Self::NoFile => "as in `mesh-coord apply mesh.toml`".to_owned(),
            Self::Twice { .. } => "put it into one of them".to_owned(),
            Self::ServiceTwice { .. } => "apply one of them".to_owned(),
            Self::WholeAndSingle { .. } => {
                "declare the service in the first, or apply them one after the other".to_owned()
            }
            Self::TeamFixed { deployment, .. } => {
                format!("leave `team` as it is, or delete the deployment first (`mesh-coord delete {deployment}`)")
            }
            Self::Running { .. } => "detach them first, or end them with --force".to_owned(),
            Self::Prunes { .. } => "apply with --prune if that is meant".to_owned(),
            Self::PortZero { key, .. } => format!("leave `{key}` out, or choose 1 to 65535"),
            Self::FileName | Self::Names(_) => return None,
        })
    }
}
