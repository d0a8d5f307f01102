//! The report of an engine.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use mesh_proto::{InstanceId, RunnerId, ServiceId, telemetry::Side};

use crate::{Hop, Reason};

/// The state of an engine for `status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The other runners in the map, by identifier.
    pub peers: Vec<PeerReport>,
    /// How many packets were dropped for each reason, including reasons with a count of zero.
    pub drops: Vec<(Reason, u64)>,
    /// The last hundred rejections, latest first.
    pub denied: Vec<Denied>,
    /// The attached instances in the map, by identifier.
    pub instances: Vec<InstanceReport>,
    /// Standing connections with a local end.
    pub connections: usize,
    /// What passed between each pair of services, in the order in which they met.
    pub pairs: Vec<PairReport>,
}

/// What passed between two services since the engine was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PairReport {
    /// The caller's service and the callee's; `None`: all that is not told apart, since there are too many pairs.
    pub services: Option<(ServiceId, ServiceId)>,
    /// The end that is here.
    pub side: Side,
    /// Connections that the callee has accepted.
    pub opened: u64,
    /// Attempts that the callee, or its runner, has refused.
    pub refused: u64,
    /// Attempts without any answer.
    pub unanswered: u64,
    /// Connections that ended by a RST.
    pub reset: u64,
    /// Connections that stand.
    pub open: u32,
    /// Bytes of TCP payload from the caller, without what was sent again.
    pub sent: u64,
    /// Bytes of TCP payload from the callee, without what was sent again.
    pub received: u64,
}

impl PairReport {
    pub(crate) const fn has_any(&self) -> bool {
        let attempts = self.opened + self.refused + self.unanswered + self.reset;
        attempts > 0 || self.open > 0 || self.sent > 0 || self.received > 0
    }
}

/// An instance of this runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceReport {
    /// Its identifier.
    pub instance: InstanceId,
    /// Standing connections to it.
    pub open: u32,
}

/// The tunnel to one runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerReport {
    /// The runner.
    pub runner: RunnerId,
    /// The last address at which it was authenticated; `None` if never.
    pub endpoint: Option<SocketAddr>,
    /// The age of the current session; `None` if there is none.
    pub handshake_age: Option<Duration>,
    /// Unanswered handshakes; `None` if there are none.
    pub failing: Option<Failing>,
    /// The path for data; `None` without a session.
    pub path: Option<PathReport>,
    /// Bytes of IP packets received from it.
    pub rx_bytes: u64,
    /// Bytes of IP packets sent to it.
    pub tx_bytes: u64,
}

/// The path for data to one runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathReport {
    /// Where its datagrams go.
    pub hop: Hop,
    /// The round trip that was measured last.
    pub rtt: Option<Duration>,
    /// The longest packet in bytes that it carries, if pings have found that out.
    pub mtu: Option<u16>,
    /// For how long it is used.
    pub since: Duration,
}

/// Unanswered handshakes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// The number of handshakes.
    pub tries: u32,
    /// The time since the first of them.
    pub since: Duration,
    /// The addresses that are tried in turn.
    pub tried: Vec<SocketAddr>,
}

/// Rejections of the same pair of services, port and reason. The addresses are those of the last one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// The source address of the packet.
    pub caller: Ipv4Addr,
    /// The service with that address, if known.
    pub caller_service: Option<ServiceId>,
    /// The destination address.
    pub callee: Ipv4Addr,
    /// The service with that address, if known.
    pub callee_service: Option<ServiceId>,
    /// The destination's TCP port; zero if the packet isn't TCP.
    pub port: u16,
    /// The reason.
    pub reason: Reason,
    /// The number of rejections.
    pub count: u64,
    /// The time since the last one.
    pub age: Duration,
}
