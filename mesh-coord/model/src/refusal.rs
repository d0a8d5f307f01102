//! Why a command was refused: what happened, where, and what to try next. Each part of the model has refusals of its
//! own; here are those that all share.

use mesh_proto::{Label, Range, ServiceName, message};

use crate::words::{Candidates, duration};

mod deploy;
mod enrol;
mod host;
mod token;
mod trust;

pub use deploy::DeployRefusal;
pub use enrol::EnrolRefusal;
pub use host::HostRefusal;
pub use token::TokenRefusal;
pub use trust::TrustRefusal;

/// What kind of refusal it is; mesh-coord makes an HTTP status of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// What was asked for can't be, whatever the state (400).
    Invalid,
    /// The caller is not authenticated (401).
    Unauthorised,
    /// The caller is, and may not (403).
    Forbidden,
    /// There is no such thing (404).
    NotFound,
    /// It can't be as things stand (409).
    Conflict,
}

/// Why a command was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// About joining the mesh and leaving it.
    #[error(transparent)]
    Enrol(#[from] EnrolRefusal),
    /// About tokens.
    #[error(transparent)]
    Token(#[from] TokenRefusal),
    /// About what files declare.
    #[error(transparent)]
    Deploy(#[from] DeployRefusal),
    /// About who may call whom.
    #[error(transparent)]
    Trust(#[from] TrustRefusal),
    /// About what a runner hosts and tells.
    #[error(transparent)]
    Host(#[from] HostRefusal),
    /// There is no such deployment.
    #[error("there is no deployment `{name}`")]
    NoDeployment {
        /// What was asked for.
        name: Label,
        /// What was probably meant.
        nearest: Option<Candidates>,
    },
    /// There is no such service in the deployment.
    #[error("the deployment `{deployment}` has no service `{name}`")]
    NoService {
        /// Where it was looked for.
        deployment: Label,
        /// What was asked for.
        name: ServiceName,
        /// What was probably meant.
        nearest: Option<Candidates>,
    },
    /// Something of another team, for a team's administrator.
    #[error("{what} is not team `{team}`'s, and this admin token is good for that team only")]
    NotYours {
        /// What was to be changed.
        what: String,
        /// The caller's team.
        team: Label,
    },
    /// More of something than there may be.
    #[error("{whose} would have {got} {what}, and {most} is the most")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// Where.
        whose: String,
        /// How many there would be.
        got: usize,
        /// How many there may be.
        most: usize,
    },
    /// A deployment that isn't there, or another team's: which of the two is not for a team's administrator to know.
    #[error("team `{team}` has no deployment `{name}`")]
    NoneOfTeam {
        /// What was asked for.
        name: Label,
        /// The caller's team.
        team: Label,
        /// What was probably meant.
        nearest: Option<Candidates>,
    },
    /// A name that something else has, which is not for a team's administrator to know.
    #[error("the name `{name}` is not free")]
    NotFree {
        /// Which.
        name: Label,
    },
    /// More of something than is left for others.
    #[error("{whose} has {held} {what}, and the places left are for others")]
    Share {
        /// Of what.
        what: &'static str,
        /// Whose share.
        whose: String,
        /// How many there are.
        held: usize,
    },
    /// No address is left.
    #[error("the range {range} has no free address")]
    RangeExhausted {
        /// The range.
        range: Range,
        /// How many addresses are in use.
        used: usize,
        /// How many addresses are freed.
        resting: usize,
        /// How long a freed address rests, in seconds.
        quarantine: u64,
    },
}

impl Refusal {
    /// What kind it is.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Enrol(refusal) => refusal.class(),
            Self::Token(refusal) => refusal.class(),
            Self::Deploy(refusal) => refusal.class(),
            Self::Trust(refusal) => refusal.class(),
            Self::Host(refusal) => refusal.class(),
            Self::NoDeployment { .. } | Self::NoService { .. } | Self::NoneOfTeam { .. } => Class::NotFound,
            Self::NotYours { .. } => Class::Forbidden,
            Self::TooMany { .. } | Self::NotFree { .. } | Self::Share { .. } | Self::RangeExhausted { .. } => {
                Class::Conflict
            }
        }
    }

    /// What to try next. It may take a while to work out: it is for people, and not for the writer.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Enrol(refusal) => refusal.hint(),
            Self::Token(refusal) => refusal.hint(),
            Self::Deploy(refusal) => refusal.hint(),
            Self::Trust(refusal) => refusal.hint(),
            Self::Host(refusal) => refusal.hint(),
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

/// What was probably meant.
pub(crate) fn did_you_mean(name: &str, candidates: Option<&Candidates>) -> Option<String> {
    candidates?.nearest(name).map(|nearest| format!("did you mean `{nearest}`?"))
}

/// Refuses more of something than there may be.
pub(crate) fn at_most(most: usize, got: usize, what: &'static str, whose: impl Into<String>) -> Result<(), Refusal> {
    if got <= most { Ok(()) } else { Err(Refusal::TooMany { what, whose: whose.into(), got, most }) }
}
