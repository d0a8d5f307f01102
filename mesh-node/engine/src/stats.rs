//! What an engine has to say about itself.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use mesh_proto::{InstanceId, RunnerId, ServiceId};

use crate::Reason;

/// The state of an engine, for people to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Every runner that the map holds but our own, by identifier.
    pub peers: Vec<PeerReport>,
    /// Every reason for which a packet can die, and how many have. All reasons, also those with a count of zero.
    pub drops: Vec<(Reason, u64)>,
    /// The last hundred refusals, latest first.
    pub denied: Vec<Denied>,
    /// The instances that are attached and that the map holds, by identifier.
    pub instances: Vec<InstanceReport>,
    /// Connections that stand and have an end here.
    pub connections: usize,
}

/// An instance of this runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceReport {
    /// Which.
    pub instance: InstanceId,
    /// Connections to it that stand.
    pub open: u32,
}

/// The tunnel to one runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerReport {
    /// Who.
    pub runner: RunnerId,
    /// Where it was authenticated last; `None` if never.
    pub endpoint: Option<SocketAddr>,
    /// The age of the session in use; `None` if there is none.
    pub handshake_age: Option<Duration>,
    /// Handshakes that go unanswered; `None` if none does.
    pub failing: Option<Failing>,
    /// Octets of IP packets received from it.
    pub rx_bytes: u64,
    /// Octets of IP packets sent to it.
    pub tx_bytes: u64,
}

/// Handshakes that go unanswered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// How many.
    pub tries: u32,
    /// Since the first of them.
    pub since: Duration,
    /// Where they are sent, in turn.
    pub tried: Vec<SocketAddr>,
}

/// Refusals of the same pair of services, port and reason; the addresses are those of the last one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// The source address of what was refused.
    pub caller: Ipv4Addr,
    /// Whose address that was, if it was known here.
    pub caller_service: Option<ServiceId>,
    /// The destination address.
    pub callee: Ipv4Addr,
    /// Whose address that was, if it was known here.
    pub callee_service: Option<ServiceId>,
    /// The destination's TCP port; zero for what isn't TCP.
    pub port: u16,
    /// Why.
    pub reason: Reason,
    /// How many times.
    pub count: u64,
    /// How long ago the last time was.
    pub age: Duration,
}
