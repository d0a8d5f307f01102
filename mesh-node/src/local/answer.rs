//! The agent's answers, which `--json` prints: version 1. Fields may be added, never renamed or dropped.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
};

use mesh_proto::{InstanceId, Label, Release, Revision, RunnerId, ServicePath, message::Step};
use serde::{Deserialize, Serialize};

use super::{ContainerId, Millis, PortMapping, Relay};

/// The version of every shape in this module.
pub(crate) const VERSION: u32 = 1;

/// An instance of this runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Instance {
    /// Its identifier.
    pub(crate) id: InstanceId,
    /// Its service.
    pub(crate) service: ServicePath,
    /// Its own address.
    pub(crate) address: Ipv4Addr,
    /// Its service's address.
    pub(crate) service_address: Ipv4Addr,
    /// The interface in its namespace.
    pub(crate) interface: String,
    /// Whether it only opens connections.
    pub(crate) client: bool,
    /// Whether it accepts no new connections.
    #[serde(default)]
    pub(crate) draining: bool,
    /// The release that it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) release: Option<Release>,
    /// The number of open connections to it; in `status` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) connections: Option<u32>,
    /// The containers that hold it; in `status` only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) containers: Vec<ContainerId>,
    /// What it lacks and what to do about it, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) warnings: Vec<String>,
}

/// `attach`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attach {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// The instance.
    pub(crate) instance: Instance,
    /// The runners that did not apply it in time.
    pub(crate) pending: Vec<Label>,
}

/// `detach`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Detach {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// The instance that has ended.
    pub(crate) instance: Instance,
}

/// The end of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DetachContainer {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// The instance that has ended; absent if other containers hold it, or there was none.
    pub(crate) instance: Option<Instance>,
}

/// The containers that hold instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Containers {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// Their identifiers.
    pub(crate) containers: Vec<ContainerId>,
}

/// `drain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Drain {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// The instance.
    pub(crate) instance: Instance,
    /// The runners that did not apply it in time.
    pub(crate) pending: Vec<Label>,
}

/// `leave`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Leave {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// The runner that has left.
    pub(crate) runner: Runner,
    /// The instances that have ended.
    pub(crate) instances: Vec<Instance>,
}

/// The names of a service's instances: for `env` and `hosts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Names {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// The lines of its hosts file.
    pub(crate) hosts: Vec<Host>,
    /// Its environment variables.
    pub(crate) variables: BTreeMap<String, String>,
    /// Names that were left out, with the reason.
    pub(crate) warnings: Vec<String>,
    /// The names of the variables of other deployments' services.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) foreign_variables: BTreeSet<String>,
}

impl Names {
    /// The variables, with or without those of other deployments' services.
    pub(crate) fn chosen(self, foreign: Foreign) -> BTreeMap<String, String> {
        let Self { mut variables, foreign_variables, .. } = self;
        if foreign == Foreign::LeftOut {
            variables.retain(|name, _| !foreign_variables.contains(name));
        }
        variables
    }
}

/// Whether the variables of other deployments' services are set. A service with access to many can have more variables than the
/// kernel lets a program start with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Foreign {
    /// They are set.
    Set,
    /// They are not; the services remain reachable by host names.
    LeftOut,
}

impl From<bool> for Foreign {
    fn from(set: bool) -> Self {
        if set { Self::Set } else { Self::LeftOut }
    }
}

/// A line of a hosts file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Host {
    /// The address.
    pub(crate) address: Ipv4Addr,
    /// The name.
    pub(crate) name: String,
}

/// `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// This runner.
    pub(crate) runner: Runner,
    /// The state of the map.
    pub(crate) map: MapState,
    /// The coordinator, and why there is no connection to it.
    pub(crate) coordinator: Coordinator,
    /// The UDP port.
    pub(crate) port: u16,
    /// The addresses at which this runner says it can be reached.
    pub(crate) endpoints: Vec<SocketAddr>,
    /// The port of the router that leads here, if one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) port_mapping: Option<PortMapping>,
    /// The other known runners, by name.
    pub(crate) peers: Vec<Peer>,
    /// The relays that it may use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) relays: Vec<Relay>,
    /// This runner's instances.
    pub(crate) instances: Vec<Instance>,
    /// The number of dropped packets by reason, zeros included.
    pub(crate) drops: BTreeMap<String, u64>,
    /// The data plane's system calls, by kind.
    pub(crate) traffic: BTreeMap<String, Calls>,
    /// What each lane of the data plane carries, the first one first. An older agent doesn't say.
    #[serde(default)]
    pub(crate) lanes: Vec<Lane>,
    /// The containers that ask for the mesh and run without it for now.
    #[serde(default)]
    pub(crate) waiting: Vec<Waiting>,
    /// The offloads. Traffic is several times slower without any one of them.
    #[serde(default)]
    pub(crate) offloads: BTreeMap<String, Offload>,
    /// Problems on this machine, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) warnings: Vec<String>,
}

/// A lane of the data plane: a thread that seals and opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lane {
    /// Its number. The first one, 0, also decides what passes, and reads and writes the TUNs.
    pub(crate) lane: u8,
    /// The runners with which it has a session.
    pub(crate) runners: usize,
    /// The bytes of the datagrams that it has sent and received, headers of IP and UDP not included.
    pub(crate) tx_bytes: u64,
    pub(crate) rx_bytes: u64,
}

/// A container that asks for the mesh and runs without it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Waiting {
    /// The container.
    pub(crate) container: ContainerId,
    /// Why it runs without the mesh.
    pub(crate) error: String,
    /// What to try next.
    pub(crate) hint: Option<String>,
}

/// An offload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Offload {
    /// Whether it is on.
    pub(crate) on: bool,
    /// Why it is off, or off for some instances, in words.
    pub(crate) why: Option<String>,
}

/// System calls of one kind. A high number of bytes per call shows that offloads work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Calls {
    /// The number of calls.
    pub(crate) count: u64,
    /// The bytes they carried, headers included.
    pub(crate) bytes: u64,
}

/// A runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Runner {
    /// Its identifier.
    pub(crate) id: RunnerId,
    /// Its name.
    pub(crate) name: Label,
}

/// The state of the map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MapState {
    /// The revision in force; absent before the first.
    pub(crate) revision: Option<Revision>,
    /// The seconds since it was known to be the latest; absent before the first.
    pub(crate) age_seconds: Option<u64>,
    /// Whether the coordinator is connected.
    pub(crate) connected: bool,
    /// The state of the connection; absent from an agent of an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<LinkState>,
}

/// The connection between a runner and its coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LinkState {
    /// There is one.
    Connected,
    /// The coordinator is unreachable: everything continues with the last map.
    Away,
    /// The coordinator doesn't know this runner (any more): other runners are unreachable.
    Refused,
}

/// The coordinator as this runner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Coordinator {
    /// Its URLs.
    pub(crate) url: String,
    /// Why there is no connection.
    pub(crate) error: Option<String>,
    /// What to try next.
    pub(crate) hint: Option<String>,
}

/// How another runner is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Path {
    /// By UDP, with nothing between that is the mesh's.
    Direct,
    /// By UDP, by a relay.
    Relay,
    /// Not so far.
    None,
}

/// The tunnel to another runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Peer {
    /// Its name.
    pub(crate) name: Label,
    /// Its provider.
    pub(crate) provider: Label,
    /// How it is reached.
    pub(crate) path: Path,
    /// The relay's name, if one is between.
    #[serde(default)]
    pub(crate) relay: Option<String>,
    /// The round trip that was measured last.
    #[serde(default)]
    pub(crate) rtt_ms: Option<Millis>,
    /// The longest packet in bytes that the path carries; absent until it is known.
    #[serde(default)]
    pub(crate) mtu: Option<u16>,
    /// The seconds since the path is used.
    #[serde(default)]
    pub(crate) via_since_seconds: Option<u64>,
    /// Its last address without a relay.
    pub(crate) endpoint: Option<SocketAddr>,
    /// The age of the current session in seconds.
    pub(crate) handshake_age_seconds: Option<u64>,
    /// The number of unanswered handshakes; 0 if the path works or none was needed.
    #[serde(default)]
    pub(crate) tries: u64,
    /// The seconds since the first of them.
    #[serde(default)]
    pub(crate) failed_seconds: Option<u64>,
    /// The addresses they were sent to.
    #[serde(default)]
    pub(crate) tried: Vec<SocketAddr>,
    /// Bytes received from it.
    pub(crate) rx_bytes: u64,
    /// Bytes sent to it.
    pub(crate) tx_bytes: u64,
}

/// `denied`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Denied {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// The last hundred, newest first.
    pub(crate) denied: Vec<Refused>,
}

/// Refusals of one pair, port and reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refused {
    /// The caller: `DEPLOYMENT/SERVICE`, or an unknown address.
    pub(crate) caller: String,
    /// The callee, likewise.
    pub(crate) callee: String,
    /// The TCP port; 0 for other protocols.
    pub(crate) port: u16,
    /// The reason: a stable code.
    pub(crate) reason: String,
    /// The reason in words.
    #[serde(default)]
    pub(crate) text: String,
    /// The source address of the last one.
    #[serde(default)]
    pub(crate) caller_address: Option<Ipv4Addr>,
    /// The destination address of the last one.
    #[serde(default)]
    pub(crate) callee_address: Option<Ipv4Addr>,
    /// The number of refusals.
    pub(crate) count: u64,
    /// The seconds since the last one.
    pub(crate) age_seconds: u64,
}

/// The end of the agent's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Log {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// The latest lines, oldest first, without overlay addresses.
    pub(crate) lines: Vec<String>,
}

/// `why`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Why {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// Whether the connection is allowed.
    pub(crate) verdict: Verdict,
    /// The checks that lead to the verdict.
    pub(crate) steps: Vec<Step>,
}

/// Whether a connection is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// It is.
    Allow,
    /// It isn't.
    Deny,
}

#[cfg(test)]
mod tests;
