//! What the data plane's thread tells its owner.

use std::net::SocketAddr;

use mesh_engine::Port;
use mesh_proto::{RelayId, Revision, RunnerId, relay::Relayed};
use mesh_relay_client::RelayReport;

/// A notification of the data plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DataEvent {
    /// The map of this revision is in use.
    Applied(Revision),
    /// The TUN is gone: its namespace ended, or the interface was deleted. The port is detached already.
    Gone(Port),
    /// A runner was authenticated at a new address, which is worth remembering.
    Endpoint {
        /// The runner.
        runner: RunnerId,
        /// Its address.
        endpoint: SocketAddr,
    },
    /// Handshakes with a runner go unanswered, and traffic for it is rejected.
    Unreachable(RunnerId),
    /// A runner that was unreachable has answered.
    Reachable(RunnerId),
    /// Something about the relays has changed.
    Relays(RelayNews),
    /// A connection with this relay is wanted.
    Connect(RelayId),
    /// The thread has ended for this reason, and no packet passes any more.
    Failed(String),
}

/// What has become of this runner's allocations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RelayNews {
    /// The addresses at which other runners reach this one.
    pub(crate) relayed: Vec<Relayed>,
    /// What there is to say of each relay.
    pub(crate) reports: Vec<RelayReport>,
}

impl RelayNews {
    /// The addresses that are relays', and lead to no runner itself.
    pub(crate) fn places(&self) -> impl Iterator<Item = SocketAddr> {
        let relayed = self.relayed.iter().map(|relayed| relayed.address);
        self.reports.iter().filter_map(|report| report.address).chain(relayed)
    }
}
