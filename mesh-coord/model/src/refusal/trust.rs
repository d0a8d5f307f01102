//! Refusals about who may call whom.

use mesh_proto::Label;

use super::Class;

/// What is refused about who may call whom.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustRefusal {
    /// A file's `trust` key rules.
    #[error("who may call `{deployment}` is ruled by the `trust` key of {file}")]
    RuledByFile {
        /// Whose trust.
        deployment: Label,
        /// The file, as it was named when it was applied.
        file: String,
    },
    /// No caller was named.
    #[error("no caller was named that may call `{deployment}`, or no longer")]
    NoCaller {
        /// Whose trust.
        deployment: Label,
    },
    /// A deployment that would trust itself.
    #[error("`{deployment}` need not trust itself: the services of one deployment may always call each other")]
    Own {
        /// Which.
        deployment: Label,
    },
    /// The caller is another team's.
    #[error(
        "`{caller}` is team `{caller_team}`'s and `{callee}` is team `{callee_team}`'s: deployments of different teams never reach each other"
    )]
    OtherTeam {
        /// Who was to call.
        caller: Label,
        /// Its team.
        caller_team: Label,
        /// Whom.
        callee: Label,
        /// Its team.
        callee_team: Label,
    },
    /// An entry that opens nothing.
    #[error("the trust of `{deployment}` in `{caller}` has an empty list of {what}: it would open nothing")]
    OpensNothing {
        /// Who trusts.
        deployment: Label,
        /// Whom.
        caller: Label,
        /// What list is empty.
        what: &'static str,
    },
    /// Port 0.
    #[error("the trust of `{deployment}` in `{caller}` names port 0, which no service can listen on")]
    PortZero {
        /// Who trusts.
        deployment: Label,
        /// Whom.
        caller: Label,
    },
    /// There is no such entry to remove.
    #[error("`{deployment}` has no such trust in `{caller}`: {standing}")]
    NotTrusted {
        /// Who should trust.
        deployment: Label,
        /// Whom.
        caller: Label,
        /// What trust there is, in words.
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
