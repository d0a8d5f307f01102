//! Entries of the audit.

use std::fmt;

use mesh_proto::{Label, RunnerId, TokenId};
use serde::{Deserialize, Serialize};

use super::is_default;
use crate::UnixSeconds;

/// An audit entry. The last [`crate::limits::AUDIT`] of a kind are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Its number, one more than that of the entry before.
    pub number: u64,
    /// When it happened.
    pub at: UnixSeconds,
    /// The actor.
    pub by: By,
    /// The action: one of [`ACTIONS`]; of a viewer that was refused, its request: `DELETE /nodes/{node}`.
    pub action: String,
    /// The details, in words.
    pub detail: String,
    /// Whether it was done or refused.
    #[serde(default, skip_serializing_if = "is_default")]
    pub result: Verdict,
    /// The name of the actor's token.
    #[serde(default, skip_serializing_if = "is_default")]
    pub by_name: Option<String>,
    /// The team that the actor is limited to.
    #[serde(default, skip_serializing_if = "is_default")]
    pub by_team: Option<Label>,
    /// The team that owns the changed object.
    #[serde(default, skip_serializing_if = "is_default")]
    pub team: Option<Label>,
    /// The name of the changed object.
    #[serde(default, skip_serializing_if = "is_default")]
    pub object: Option<String>,
    /// The acting runner.
    #[serde(default, skip_serializing_if = "is_default")]
    pub runner: Option<RunnerId>,
}

/// The actions, but for requests of viewers, which were refused.
pub const ACTIONS: [&str; 22] = [
    "apply",
    "delete",
    "trust",
    "token-create",
    "token-revoke",
    "node-remove",
    "node-leave",
    "node-expire",
    "node-drain",
    "node-undrain",
    "drain",
    "undrain",
    "switch",
    "relay-add",
    "relay-remove",
    "relay-enrol",
    "enrol",
    "host",
    "runners-silent",
    "stream-taken-over",
    "copy-refused",
    "database-put-back",
];

/// The result of an audited action.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It was done.
    #[default]
    Done,
    /// It was refused, and nothing has changed.
    Refused,
}

/// The actor of an audited action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// A user at the coordinator's own socket.
    Socket {
        /// The user id.
        uid: u32,
    },
    /// The holder of this token.
    Token(TokenId),
    /// A runner.
    Runner(RunnerId),
    /// The coordinator itself.
    Coordinator,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket { uid } => write!(f, "uid {uid}"),
            Self::Token(id) => write!(f, "token {id}"),
            Self::Runner(id) => write!(f, "runner {id}"),
            Self::Coordinator => f.write_str("coordinator"),
        }
    }
}
