//! Which coordinator serves a runner, where several do.

use std::{fmt, net::IpAddr, str::FromStr};

use mesh_proto::RunnerId;
use serde::{Deserialize, Serialize};

use super::{ParseHandleError, is_default, relay::hex};

/// A coordinator's process: a random number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct MemberId(pub u64);

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MemberId {
    type Err = ParseHandleError;

    fn from_str(text: &str) -> Result<Self, ParseHandleError> {
        hex(text).map(Self)
    }
}

impl From<MemberId> for String {
    fn from(id: MemberId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for MemberId {
    type Error = ParseHandleError;

    fn try_from(text: String) -> Result<Self, ParseHandleError> {
        text.parse()
    }
}

/// A stream, whichever coordinator has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamKey {
    /// The coordinator.
    pub member: MemberId,
    /// A random number.
    pub number: u64,
}

/// A runner's newest stream. What an earlier one asks for is refused, wherever it is.
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
    /// Whether it has ended before the agent had confirmed all that its coordinator knew of, so that it may act on an
    /// earlier map. Of a stream that has ended otherwise there is no record.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ended: bool,
}
