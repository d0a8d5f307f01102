//! Refusals: what happened, where, and what to try next. Each part of the model has its own type; this is their
//! union, with the refusals that all parts share.

use mesh_proto::{Label, Range, ServiceName, message};

use crate::{
    Role,
    words::{Candidates, duration},
};

mod deploy;
mod enrol;
mod host;
mod relay;
mod token;
mod trust;

pub use deploy::DeployRefusal;
pub use enrol::EnrolRefusal;
pub use host::HostRefusal;
pub use relay::RelayRefusal;
pub use token::TokenRefusal;
pub use trust::TrustRefusal;

/// The kind of a refusal. mesh-coord turns it into an HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The request is invalid in any state (400).
    Invalid,
    /// The caller is not authenticated (401).
    Unauthorised,
    /// The caller is authenticated, but not allowed (403).
    Forbidden,
    /// The named thing doesn't exist (404).
    NotFound,
    /// The request contradicts the current state (409).
    Conflict,
}

/// A refused command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// About joining the mesh and leaving it.
    #[error(transparent)]
    Enrol(#[from] EnrolRefusal),
    /// About tokens.
    #[error(transparent)]
    Token(#[from] TokenRefusal),
    /// About declarations.
    #[error(transparent)]
    Deploy(#[from] DeployRefusal),
    /// About who may call whom.
    #[error(transparent)]
    Trust(#[from] TrustRefusal),
    /// About runners' hellos and instances.
    #[error(transparent)]
    Host(#[from] HostRefusal),
    /// About relays.
    #[error(transparent)]
    Relay(#[from] RelayRefusal),
    /// The deployment doesn't exist.
    #[error("there is no deployment `{name}`")]
    NoDeployment {
        /// The name that was asked for.
        name: Label,
        /// Similar names.
        nearest: Option<Candidates>,
    },
    /// The deployment has no such service.
    #[error("the deployment `{deployment}` has no service `{name}`")]
    NoService {
        /// The deployment.
        deployment: Label,
        /// The name that was asked for.
        name: ServiceName,
        /// Similar names.
        nearest: Option<Candidates>,
    },
    /// It belongs to another team.
    #[error("{what} is not team `{team}`'s, and this admin token is good for that team only")]
    NotYours {
        /// What was to be changed.
        what: String,
        /// The caller's team.
        team: Label,
    },
    /// Its role doesn't include it.
    #[error("this needs the role `{needed}`, and this admin token has `{has}`")]
    Role {
        /// The caller's role.
        has: Role,
        /// The least role that may.
        needed: Role,
    },
    /// A limit is exceeded.
    #[error("{whose} would have {got} {what}, and {most} is the most")]
    TooMany {
        /// What is limited.
        what: &'static str,
        /// Its owner.
        whose: String,
        /// How many there would be.
        got: usize,
        /// The limit.
        most: usize,
    },
    /// The deployment doesn't exist, or belongs to another team. The administrator must not learn which.
    #[error("team `{team}` has no deployment `{name}`")]
    NoneOfTeam {
        /// The name that was asked for.
        name: Label,
        /// The caller's team.
        team: Label,
        /// Similar names.
        nearest: Option<Candidates>,
    },
    /// The name is in use. The administrator must not learn by what.
    #[error("the name `{name}` is not free")]
    NotFree {
        /// The name.
        name: Label,
    },
    /// The rest is reserved for others.
    #[error("{whose} has {held} {what}, and the places left are for others")]
    Share {
        /// What is shared.
        what: &'static str,
        /// Its owner.
        whose: String,
        /// How many the owner has.
        held: usize,
    },
    /// The range is used up.
    #[error("the range {range} has no free address")]
    RangeExhausted {
        /// The range.
        range: Range,
        /// How many addresses are in use.
        used: usize,
        /// How many freed addresses there are.
        resting: usize,
        /// The quarantine of freed addresses, in seconds.
        quarantine: u64,
    },
}

impl Refusal {
    /// The kind of refusal.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Enrol(refusal) => refusal.class(),
            Self::Token(refusal) => refusal.class(),
            Self::Deploy(refusal) => refusal.class(),
            Self::Trust(refusal) => refusal.class(),
            Self::Host(refusal) => refusal.class(),
            Self::Relay(refusal) => refusal.class(),
            Self::NoDeployment { .. } | Self::NoService { .. } | Self::NoneOfTeam { .. } => Class::NotFound,
            Self::NotYours { .. } | Self::Role { .. } => Class::Forbidden,
            Self::TooMany { .. } | Self::NotFree { .. } | Self::Share { .. } | Self::RangeExhausted { .. } => {
                Class::Conflict
            }
        }
    }

    /// What to try next. It may take a while to compute, so the writer never asks for it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Enrol(refusal) => refusal.hint(),
            Self::Token(refusal) => refusal.hint(),
            Self::Deploy(refusal) => refusal.hint(),
            Self::Trust(refusal) => refusal.hint(),
            Self::Host(refusal) => refusal.hint(),
            Self::Relay(refusal) => refusal.hint(),
            Self::NoDeployment { name, nearest } => {
                Some(did_you_mean(name, nearest.as_ref()).unwrap_or("`mesh-coord deployments` lists them".to_owned()))
            }
            Self::NoService { name, nearest, .. } => {
                Some(did_you_mean(name, nearest.as_ref()).unwrap_or("`mesh-coord services` lists them".to_owned()))
            }
            Self::NoneOfTeam { name, nearest, .. } => {
                Some(did_you_mean(name, nearest.as_ref()).unwrap_or("`mesh-coord deployments` lists them".to_owned()))
            }
            Self::NotFree { .. } => Some("choose another name".to_owned()),
            Self::Share { what, .. } => Some(format!(
                "do without some of the {what}, or ask the coordinator's operator: no share binds the operator"
            )),
            Self::NotYours { .. } => {
                Some("use a token of that team, or one made with `mesh-coord token create --admin`".to_owned())
            }
            Self::Role { needed: Role::Admin, .. } => {
                Some("use a token made with `mesh-coord token create --admin`".to_owned())
            }
            Self::Role { needed, .. } => Some(format!(
                "use a token made with `mesh-coord token create --admin --role {needed}`, or without --role"
            )),
            Self::TooMany { .. } => Some("the limit is fixed: have fewer, or divide them up".to_owned()),
            Self::RangeExhausted { quarantine, .. } => Some(format!(
                "`mesh-coord instances` and `services` show what has them, and freed ones can be used again after {}; a larger range needs a new coordinator (`serve --range`)",
                duration(*quarantine)
            )),
        }
    }
}

impl From<Refusal> for message::Refusal {
    fn from(refusal: Refusal) -> Self {
        Self { error: refusal.to_string(), hint: refusal.hint() }
    }
}

/// A hint with the most similar name.
pub(crate) fn did_you_mean(name: &str, candidates: Option<&Candidates>) -> Option<String> {
    candidates?.nearest(name).map(|nearest| format!("did you mean `{nearest}`?"))
}

/// Refuses more than `most` of something.
pub(crate) fn at_most(most: usize, got: usize, what: &'static str, whose: impl Into<String>) -> Result<(), Refusal> {
    if got <= most { Ok(()) } else { Err(Refusal::TooMany { what, whose: whose.into(), got, most }) }
}
