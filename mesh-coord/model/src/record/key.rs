//! The keys of records, and the steps of a commit.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use mesh_proto::{DeploymentId, InstanceId, RelayId, RunnerId, ServiceId, TokenId, ids::ParseIdError};
use serde::{Deserialize, Serialize};

use super::Record;

/// The key of a record. As text: `meta`, `service/s-7`, `freed/100.112.0.9`, `audit/12`, `owed/d-3`, `owed/all`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each variant is documented at the record that it names")]
pub enum Key {
    Meta,
    Runner(RunnerId),
    Token(TokenId),
    Deployment(DeploymentId),
    Service(ServiceId),
    Instance(InstanceId),
    Freed(Ipv4Addr),
    Audit(u64),
    Relay(RelayId),
    Session(RunnerId),
    Owed(Option<DeploymentId>),
    Calls(ServiceId),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Meta => f.write_str("meta"),
            Self::Runner(id) => write!(f, "runner/{id}"),
            Self::Token(id) => write!(f, "token/{id}"),
            Self::Deployment(id) => write!(f, "deployment/{id}"),
            Self::Service(id) => write!(f, "service/{id}"),
            Self::Instance(id) => write!(f, "instance/{id}"),
            Self::Freed(address) => write!(f, "freed/{address}"),
            Self::Audit(number) => write!(f, "audit/{number}"),
            Self::Relay(id) => write!(f, "relay/{id}"),
            Self::Session(id) => write!(f, "session/{id}"),
            Self::Owed(Some(id)) => write!(f, "owed/{id}"),
            Self::Owed(None) => f.write_str("owed/all"),
            Self::Calls(id) => write!(f, "calls/{id}"),
        }
    }
}

/// A text that is not the key of a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the key of a record")]
pub struct ParseKeyError(String);

impl FromStr for Key {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        let error = || ParseKeyError(text.chars().take(80).collect());
        let id = |_: ParseIdError| error();
        if text == "meta" {
            return Ok(Self::Meta);
        }
        let (kind, rest) = text.split_once('/').ok_or_else(error)?;
        match kind {
            "runner" => rest.parse().map(Self::Runner).map_err(id),
            "token" => rest.parse().map(Self::Token).map_err(id),
            "deployment" => rest.parse().map(Self::Deployment).map_err(id),
            "service" => rest.parse().map(Self::Service).map_err(id),
            "instance" => rest.parse().map(Self::Instance).map_err(id),
            "relay" => rest.parse().map(Self::Relay).map_err(id),
            "session" => rest.parse().map(Self::Session).map_err(id),
            "owed" if rest == "all" => Ok(Self::Owed(None)),
            "owed" => rest.parse().map(|id| Self::Owed(Some(id))).map_err(id),
            "calls" => rest.parse().map(Self::Calls).map_err(id),
            "freed" => rest.parse().map(Self::Freed).map_err(|_| error()),
            "audit" => rest.parse().map(Self::Audit).map_err(|_| error()),
            _ => Err(error()),
        }
    }
}

/// A step of a commit. All steps of a commit have different keys, so their order doesn't matter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Write this record, in place of the one with its key.
    Put(Record),
    /// Delete the record with this key.
    Delete(#[serde(with = "key_text")] Key),
}

impl Change {
    /// The key of the written or deleted record.
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::Put(record) => record.key(),
            Self::Delete(key) => *key,
        }
    }
}

mod key_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(key: &super::Key, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(key)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<super::Key, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}
