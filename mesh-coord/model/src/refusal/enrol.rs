//! Refusals about joining and leaving the mesh.

use mesh_proto::{InstanceId, Label, TokenId};

use super::{Class, did_you_mean};
use crate::words::{Candidates, count, list};

/// A refused enrolment, removal or authentication of a runner.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnrolRefusal {
    /// The machine did not prove that it holds the private key.
    #[error("the machine did not prove that it holds the private half of the key that it shows")]
    NotProved,
    /// The key belonged to a removed runner.
    #[error("this machine's key was `{runner}`'s, which was removed from the mesh: it can't come back")]
    KeyRemoved {
        /// That runner.
        runner: Label,
    },
    /// Another runner has the name.
    #[error("the name `{name}` is taken by another runner{}", provider.as_ref().map_or(String::new(), |provider| format!(" (provider {provider})")))]
    NameTaken {
        /// The name.
        name: Label,
        /// That runner's provider, if the token's holder may know it.
        provider: Option<Label>,
    },
    /// The runner that has the name may host more than the token allows.
    #[error(
        "the token {token} can't take the name `{name}` over: the runner that has it may host more than this token allows"
    )]
    ReplaceOutOfScope {
        /// The token.
        token: TokenId,
        /// The name.
        name: Label,
    },
    /// No runner has this credential.
    #[error("this coordinator knows no runner with this credential")]
    UnknownCredential,
    /// The runner was removed.
    #[error("the runner `{runner}` was removed from the mesh")]
    Removed {
        /// The runner.
        runner: Label,
    },
    /// The runner has instances.
    #[error("the runner `{name}` has {}", with_instances(instances))]
    Hosting {
        /// The name.
        name: Label,
        /// Its instances, each with its service.
        instances: Vec<(InstanceId, String)>,
    },
    /// No runner has this name.
    #[error("{} `{name}`", team.as_ref().map_or("there is no runner".to_owned(), |team| format!("team `{team}` has no runner")))]
    NoRunner {
        /// The name that was asked for.
        name: Label,
        /// The caller's team.
        team: Option<Label>,
        /// Similar names.
        nearest: Option<Candidates>,
    },
}

fn with_instances(instances: &[(InstanceId, String)]) -> String {
    let which = instances.iter().map(|(id, service)| format!("{id} of `{service}`"));
    format!("{}: {}", count(instances.len(), "instance"), list(which))
}

impl EnrolRefusal {
    pub(crate) fn class(&self) -> Class {
        match self {
            Self::NotProved | Self::UnknownCredential | Self::Removed { .. } => Class::Unauthorised,
            Self::KeyRemoved { .. } | Self::ReplaceOutOfScope { .. } => Class::Forbidden,
            Self::NameTaken { .. } | Self::Hosting { .. } => Class::Conflict,
            Self::NoRunner { .. } => Class::NotFound,
        }
    }

    pub(crate) fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotProved => "update mesh-node; if that doesn't help, its identity file is damaged".to_owned(),
            Self::KeyRemoved { .. } | Self::UnknownCredential | Self::Removed { .. } => {
                "to join as a new runner, delete the agent's state directory and run `mesh-node join URL TOKEN`"
                    .to_owned()
            }
            Self::NameTaken { .. } => {
                "choose another name with --name, or take this one over with --replace, which removes the other runner"
                    .to_owned()
            }
            Self::ReplaceOutOfScope { name, .. } => {
                format!("choose another name with --name, or remove that runner with `mesh-coord node remove {name}`")
            }
            Self::Hosting { name, .. } => format!(
                "`mesh-coord node drain {name}` takes them out of new connections; --force ends them and removes the runner for good"
            ),
            Self::NoRunner { name, nearest, .. } => {
                did_you_mean(name, nearest.as_ref()).unwrap_or("`mesh-coord nodes` lists them".to_owned())
            }
        })
    }
}
