//! Refusals about relays.

use mesh_proto::{Label, relay::Place};

use super::{Class, did_you_mean};
use crate::{limits, words::Candidates};

/// A refused command about a relay.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RelayRefusal {
    /// An unknown relay's credential, or one with another secret.
    #[error("this coordinator has no such relay")]
    UnknownCredential,
    /// The administrator is limited to a team.
    #[error("relays are the whole mesh's, and this admin token is good for team `{team}` only")]
    Operators {
        /// The administrator's team.
        team: Label,
    },
    /// A relay has the name.
    #[error("there is a relay `{name}` already")]
    NameTaken {
        /// The name.
        name: Label,
    },
    /// No relay has this name.
    #[error("there is no relay `{name}`")]
    NoRelay {
        /// The name that was asked for.
        name: Label,
        /// Similar names.
        nearest: Option<Candidates>,
    },
    /// It listens nowhere.
    #[error("the relay `{name}` has no address")]
    NoPlace {
        /// Its name.
        name: Label,
    },
    /// TLS without a fingerprint.
    #[error("the relay `{name}` takes TLS, but the fingerprint of its key isn't given")]
    NoFingerprint {
        /// Its name.
        name: Label,
    },
    /// No runner could reach it there.
    #[error("the relay `{name}` can't be at {place}: that address {why}")]
    BadPlace {
        /// Its name.
        name: Label,
        /// Where it is said to listen.
        place: Place,
        /// Why no runner can reach it.
        why: String,
    },
    /// An invalid version.
    #[error("the relay's version is longer than {} bytes, or holds control characters", limits::VERSION)]
    BadVersion,
}

impl RelayRefusal {
    pub(crate) const fn class(&self) -> Class {
        match self {
            Self::UnknownCredential => Class::Unauthorised,
            Self::Operators { .. } => Class::Forbidden,
            Self::NameTaken { .. } => Class::Conflict,
            Self::NoRelay { .. } => Class::NotFound,
            Self::NoPlace { .. } | Self::NoFingerprint { .. } | Self::BadPlace { .. } | Self::BadVersion => {
                Class::Invalid
            }
        }
    }

    pub(crate) fn hint(&self) -> Option<String> {
        Some(match self {
            Self::UnknownCredential => {
                "it was removed: make a token with `mesh-coord token create --relay NAME`, and start the relay with that"
                    .to_owned()
            }
            Self::Operators { .. } => {
                "use the coordinator's socket, or a token made with `mesh-coord token create --admin`".to_owned()
            }
            Self::NameTaken { name } => {
                format!("choose another name, or `mesh-coord relay remove {name}` first")
            }
            Self::NoRelay { name, nearest } => {
                did_you_mean(name, nearest.as_ref()).unwrap_or("`mesh-coord relays` lists them".to_owned())
            }
            Self::NoPlace { .. } => "give --turn HOST:PORT, or for a relay of mesh --public".to_owned(),
            Self::NoFingerprint { .. } => {
                "give --fingerprint; runners trust no other key than that one".to_owned()
            }
            Self::BadPlace { .. } => "give an address at which runners reach it".to_owned(),
            Self::BadVersion => "run a released mesh-coord".to_owned(),
        })
    }
}
