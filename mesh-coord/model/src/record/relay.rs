//! Relays, and what runners tell of their way to the outside.

use std::net::SocketAddr;

use mesh_proto::{
    Label, RelayId, SecretHash,
    relay::{Nat, Relayed, wire::RelayPublic},
};
use serde::{Deserialize, Serialize};

use super::{hex::as_hex, is_default};
use crate::UnixSeconds;

/// A relay. Its secret is in a file of the coordinator's, and in no database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relay {
    /// Its identifier.
    pub id: RelayId,
    /// Its name, unique at any time.
    pub name: Label,
    /// What it is.
    pub relay: RelayKind,
    /// Where it is.
    #[serde(flatten)]
    pub public: RelayPublic,
    /// When it was added.
    pub added: UnixSeconds,
    /// Where its secret is.
    pub secret: SecretHandle,
}

/// What a relay is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RelayKind {
    /// A process of mesh: `mesh-coord relay`.
    Own {
        /// The hash of its credential's secret.
        credential: SecretHash,
        /// Its version, from its last hello; empty before the first.
        version: String,
    },
    /// Another TURN server (RFC 8656).
    Turn,
}

/// Finds a relay's secret in the coordinator's file. It is random, so an earlier database never finds the secret of
/// another relay.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct SecretHandle(pub u64);

as_hex!(SecretHandle);

/// What a runner tells of its addresses outside.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outside {
    /// Its addresses as relays see them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reflexive: Vec<SocketAddr>,
    /// Its addresses at relays.
    #[serde(default, skip_serializing_if = "is_default")]
    pub relayed: Vec<Relayed>,
    /// What is between it and the outside.
    #[serde(default, skip_serializing_if = "is_default")]
    pub nat: Option<Nat>,
}
