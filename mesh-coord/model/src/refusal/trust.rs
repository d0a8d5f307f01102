//! Refusals about trust.

use mesh_proto::Label;

use super::Class;

/// A refused change of trust.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustRefusal {
    /// A file sets the trust list.
    #[error("who may call `{deployment}` is ruled by the `trust` key of {file}")]
    RuledByFile {
        /// The called deployment.
        deployment: Label,
        /// The file, named as it was applied.
        file: String,
    },
    /// No caller was named.
    #[error("no caller was named that may call `{deployment}`, or no longer")]
    NoCaller {
        /// The called deployment.
        deployment: Label,
    },
    /// A deployment trusts itself.
    #[error("`{deployment}` need not trust itself: the services of one deployment may always call each other")]
    Own {
        /// The deployment.
        deployment: Label,
    },
    /// Caller and callee belong to different teams.
    #[error(
        "`{caller}` is team `{caller_team}`'s and `{callee}` is team `{callee_team}`'s: deployments of different teams never reach each other"
    )]
    OtherTeam {
        /// The caller.
        caller: Label,
        /// Its team.
        caller_team: Label,
        /// The called deployment.
        callee: Label,
        /// Its team.
        callee_team: Label,
    },
    /// An entry opens nothing.
    #[error("the trust of `{deployment}` in `{caller}` has an empty list of {what}: it would open nothing")]
    OpensNothing {
        /// The called deployment.
        deployment: Label,
        /// The caller.
        caller: Label,
        /// The key with the empty list.
        what: &'static str,
    },
    /// Port 0.
    #[error("the trust of `{deployment}` in `{caller}` names port 0, which no service can listen on")]
    PortZero {
        /// The called deployment.
        deployment: Label,
        /// The caller.
        caller: Label,
    },
    /// There is no such entry.
    #[error("`{deployment}` has no such trust in `{caller}`: {standing}")]
    NotTrusted {
        /// The called deployment.
        deployment: Label,
        /// The caller.
        caller: Label,
        /// The entries that there are, in words.
        standing: String,
    },
}

impl TrustRefusal {
    pub(crate) fn class(&self) -> Class {
        match self {
            Self::RuledByFile { .. } => Class::Conflict,
            Self::OtherTeam { .. } => Class::Forbidden,
            Self::NotTrusted { .. } => Class::NotFound,
            Self::NoCaller { .. } | Self::Own { .. } | Self::OpensNothing { .. } | Self::PortZero { .. } => {
                Class::Invalid
            }
        }
    }

    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::RuledByFile { file, .. } => {
                Some(format!("change the key there and `mesh-coord apply {file}`; without the key, this command rules"))
            }
            Self::NoCaller { deployment } => Some(format!("as in `mesh-coord trust api --app {deployment}`")),
            Self::Own { .. } => Some("leave it out".to_owned()),
            Self::OtherTeam { callee_team, .. } => Some(format!("trust only deployments of team `{callee_team}`")),
            Self::OpensNothing { what, .. } => {
                Some(format!("leave `{what}` out to open all that may be opened, or name some"))
            }
            Self::PortZero { .. } => Some("leave `ports` out to open every port".to_owned()),
            Self::NotTrusted { deployment, .. } => {
                Some(format!("`mesh-coord trust --app {deployment}` lists who may call it"))
            }
        }
    }
}
