//! Which coordinator serves a runner, where several do.

use std::net::IpAddr;

use mesh_proto::RunnerId;
use serde::{Deserialize, Serialize};

use super::{hex::as_hex, is_default};

/// A coordinator's process: a random number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct MemberId(pub u64);

as_hex!(MemberId);

/// A stream, whichever coordinator has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamKey {
    /// The coordinator.
    pub member: MemberId,
    /// A random number.
    pub number: u64,
}

/// A runner's newest stream, until it ends. What an earlier one asks for is refused, wherever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The runner.
    pub runner: RunnerId,
    /// The stream.
    #[serde(flatten)]
    pub stream: StreamKey,
    /// The agent's process, a random number; `None` for agents too old to send it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub process: Option<u64>,
    /// The address that it connects from.
    pub from: IpAddr,
}
