//! The ends of a connection, and how far it has come.

use std::net::Ipv4Addr;

use mesh_proto::{InstanceId, RunnerId};

use crate::index::{InstanceIx, RunnerIx};

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct End {
    pub(crate) address: Ipv4Addr,
    pub(crate) port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Caller = 0,
    Callee = 1,
}

impl Role {
    pub(crate) const BOTH: [Self; 2] = [Self::Caller, Self::Callee];

    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Caller => Self::Callee,
            Self::Callee => Self::Caller,
        }
    }
}

/// Where an end is, by identifiers that outlive a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Location {
    /// At this instance, on this runner.
    Here(InstanceId),
    /// On another runner.
    There(RunnerId),
}

impl Location {
    /// The number of the identifier.
    pub(crate) const fn number(self) -> u64 {
        match self {
            Self::Here(instance) => instance.0,
            Self::There(runner) => runner.0,
        }
    }
}

/// A [`Location`] in the current map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Target {
    Instance(InstanceIx),
    Runner(RunnerIx),
}

/// How far a flow has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// A SYN has passed.
    Opening = 1,
    /// A SYN-ACK has passed. The flow is never moved from now on.
    Open = 2,
    /// Ended by its ends: both FINs have passed, or a RST.
    Ended = 3,
    /// Ended by the engine. An end that goes on gets a RST.
    Reset = 4,
    /// Only one end has shown it so far. An engine without its memory follows such a flow for a while, and doesn't
    /// leave it to the next engine.
    Claimed = 5,
}

impl Phase {
    pub(crate) const fn stands(self) -> bool {
        matches!(self, Self::Opening | Self::Open | Self::Claimed)
    }
}
