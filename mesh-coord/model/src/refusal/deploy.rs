//! Refusals of declarations.

use mesh_proto::{Label, ServiceName, ServicePath, names::DeclarationError};

use super::{Class, Refusal};
use crate::{
    limits,
    words::{count, list},
};

/// A refused declaration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeployRefusal {
    /// Adds the files to a refusal.
    #[error("{file}: {refusal}")]
    In {
        /// The files' names.
        file: String,
        /// The refusal.
        refusal: Box<Refusal>,
    },
    /// No file was given.
    #[error("no file was given to apply")]
    NoFile,
    /// A file name that can't be kept.
    #[error("a file's name is longer than {} bytes, or holds control characters", limits::FILE_NAME)]
    FileName,
    /// Two files declare the same whole deployment.
    #[error("both {first} and {second} declare the deployment `{deployment}`")]
    Twice {
        /// The deployment.
        deployment: Label,
        /// The first file.
        first: String,
        /// The second file.
        second: String,
    },
    /// Two files declare the same service.
    #[error("both {first} and {second} declare the service `{service}`")]
    ServiceTwice {
        /// The service.
        service: ServicePath,
        /// The first file.
        first: String,
        /// The second file.
        second: String,
    },
    /// One file declares a whole deployment, and another one adds a service to it.
    #[error("{whole} declares all services of `{deployment}`, and {single} declares another one")]
    WholeAndSingle {
        /// The deployment.
        deployment: Label,
        /// The `mesh.toml`.
        whole: String,
        /// The `warp.config.js`.
        single: String,
    },
    /// The file names another team than the deployment has.
    #[error("the deployment `{deployment}` is team `{team}`'s, and a deployment's team can't change (to `{asked}`)")]
    TeamFixed {
        /// The deployment.
        deployment: Label,
        /// Its team.
        team: Label,
        /// The team that the file names.
        asked: Label,
    },
    /// Services with instances would be removed.
    #[error("{} of `{deployment}` would be removed while {}", if services.len() == 1 { "a service" } else { "services" }, running(services))]
    Running {
        /// The deployment.
        deployment: Label,
        /// The services, and how many instances each has.
        services: Vec<(ServiceName, usize)>,
    },
    /// Services would be removed without consent.
    #[error("{} would be removed, and nothing has changed: {}", if services.len() == 1 { "this service" } else { "these services" }, services.join(", "))]
    Prunes {
        /// The services, as `DEPLOYMENT/SERVICE`.
        services: Vec<String>,
    },
    /// What the files expect would not hold.
    #[error("{}", unmet.join("\n"))]
    Unmet {
        /// Each expectation, with why it doesn't hold.
        unmet: Vec<String>,
    },
    /// Port 0.
    #[error("`{key}` of the service `{service}` is 0, which is no port")]
    PortZero {
        /// The service.
        service: ServiceName,
        /// `port` or `public_port`.
        key: &'static str,
    },
    /// Invalid names.
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
            Self::TeamFixed { .. } | Self::Running { .. } | Self::Prunes { .. } | Self::Unmet { .. } => Class::Conflict,
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
            Self::Unmet { .. } => "nothing has changed: correct the trust, or what `[[expect]]` says".to_owned(),
            Self::Prunes { .. } => "apply with --prune if that is meant".to_owned(),
            Self::PortZero { key, .. } => format!("leave `{key}` out, or choose 1 to 65535"),
            Self::FileName => "rename the file".to_owned(),
            // Its message ends with the way out.
            Self::Names(_) => return None,
        })
    }
}
