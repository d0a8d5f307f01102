//! Refusals about tokens.

use mesh_proto::TokenId;

use super::Class;
use crate::{limits, words::duration};

/// A refused token, or request for one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// The token is unknown, or its secret is wrong.
    #[error("this coordinator has no such token")]
    Unknown,
    /// It has expired.
    #[error("the token {token} expired {} ago", duration(*.ago))]
    Expired {
        /// The token.
        token: TokenId,
        /// How many seconds ago.
        ago: u64,
    },
    /// It was made at a later time than now.
    #[error(
        "the token {token} was made at a time that is {} from now: the coordinator's clock was wrong then, or is now",
        duration(*.by)
    )]
    Early {
        /// The token.
        token: TokenId,
        /// By how many seconds.
        by: u64,
    },
    /// It has enrolled as many runners as it may.
    #[error("the token {token} is used up: it has enrolled as many runners as it may")]
    UsedUp {
        /// The token.
        token: TokenId,
    },
    /// It was revoked.
    #[error("the token {token} was revoked {} ago", duration(*.ago))]
    Revoked {
        /// The token.
        token: TokenId,
        /// How many seconds ago.
        ago: u64,
    },
    /// Another token in place of a join token.
    #[error("the token {token} is {is}: it enrols no runner")]
    NotJoin {
        /// The token.
        token: TokenId,
        /// What it is, in words.
        is: &'static str,
    },
    /// Another token in place of an admin token.
    #[error("the token {token} is {is}: it gives no right to administer")]
    NotAdmin {
        /// The token.
        token: TokenId,
        /// What it is, in words.
        is: &'static str,
    },
    /// Another token in place of a relay token.
    #[error("the token {token} is {is}: it enrols no relay")]
    NotRelay {
        /// The token.
        token: TokenId,
        /// What it is, in words.
        is: &'static str,
    },
    /// It has enrolled its relay.
    #[error("the token {token} is used up: its relay has enrolled")]
    RelayUsedUp {
        /// The token.
        token: TokenId,
    },
    /// No token has this identifier.
    #[error("there is no token {token}")]
    NoToken {
        /// The identifier that was asked for.
        token: TokenId,
    },
    /// A lifetime out of bounds.
    #[error("a token can be good for 1 second to 10 years, not for {ttl} seconds")]
    Ttl {
        /// The lifetime, in seconds.
        ttl: u64,
    },
    /// A number of uses out of bounds.
    #[error("a token can enrol 1 to {} runners, not {uses}", limits::USES.end())]
    Uses {
        /// The number of runners.
        uses: u32,
    },
    /// An invalid name.
    #[error(
        "a token's name has 1 to {} bytes, and neither control characters nor marks of writing direction",
        limits::TOKEN_NAME
    )]
    Name,
    /// An empty scope.
    #[error("a join token needs a scope: this one would be good for nothing")]
    NoScope,
}

impl TokenRefusal {
    pub(crate) fn class(&self) -> Class {
        match self {
            Self::Unknown
            | Self::Expired { .. }
            | Self::Early { .. }
            | Self::UsedUp { .. }
            | Self::RelayUsedUp { .. }
            | Self::Revoked { .. } => Class::Unauthorised,
            Self::NotJoin { .. } | Self::NotAdmin { .. } | Self::NotRelay { .. } => Class::Forbidden,
            Self::NoToken { .. } => Class::NotFound,
            Self::Ttl { .. } | Self::Uses { .. } | Self::Name | Self::NoScope => Class::Invalid,
        }
    }

    pub(crate) fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Unknown => {
                "check that it is this coordinator's and was copied whole, or ask its operator for a new one"
            }
            Self::Early { .. } => {
                "set the coordinator's clock right, or ask its operator for a new one (`mesh-coord token create`)"
            }
            Self::Expired { .. } | Self::UsedUp { .. } | Self::Revoked { .. } => {
                "ask the coordinator's operator for a new one (`mesh-coord token create`)"
            }
            Self::NotJoin { .. } => {
                "make a join token with `mesh-coord token create --team T`, `--deployment D` or `--any`"
            }
            Self::NotAdmin { .. } => "make an admin token with `mesh-coord token create --admin`",
            Self::NotRelay { .. } => "make a relay token with `mesh-coord token create --relay NAME`",
            Self::RelayUsedUp { .. } => {
                "if the answer was lost, `mesh-coord relay remove` it, and make another token with `token create --relay`"
            }
            Self::NoToken { .. } => "`mesh-coord token list` shows them",
            Self::Ttl { .. } => "give another --ttl, as in `--ttl 1h`",
            Self::Uses { .. } => "give another --uses",
            Self::Name => "as in `--name ci-deploy`",
            Self::NoScope => "give --team, --deployment or --any",
        };
        Some(hint.to_owned())
    }
}
