//! What monitoring asks for: the agent's numbers, as they are now.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use mesh_engine::MAX_CONNECTIONS;
use mesh_metrics::{EachSecond, Labels, Page, Pages, Snapshot, at_most};
use mesh_proto::message::PROTOCOL;

use super::Agent;
use crate::local::{self, Path, VERSION};

/// The most peers with numbers of their own.
const PEERS: usize = 200;
/// The most services with numbers of their own.
const SERVICES: usize = 500;

/// What `status` doesn't show.
#[derive(Debug, Default)]
pub(super) struct More {
    /// How many streams the coordinator has accepted since the agent's start.
    pub(super) streams: u64,
    /// The time of the coordinator's last message.
    pub(super) heard: Option<SystemTime>,
    /// Now.
    pub(super) now: Option<SystemTime>,
    /// Standing connections with an end here.
    pub(super) connections: usize,
}

impl Agent {
    pub(super) async fn metrics(&self) -> local::Metrics {
        let link = self.control.link();
        let report = self.dataplane.report().await;
        let more = More {
            streams: link.streams,
            heard: link.heard,
            now: Some(SystemTime::now()),
            connections: report.map_or(0, |report| report.engine.connections),
        };
        let mut snapshot = of(&self.status().await, &more);
        mesh_metrics::add_process(&mut snapshot);
        local::Metrics { version: VERSION, text: snapshot.into_text() }
    }
}

/// The numbers behind `status`.
fn of(status: &local::Status, more: &More) -> Snapshot {
    let mut snapshot = Snapshot::new();
    let plain = |value: u64| [(vec![], value)];
    let build = vec![("version", env!("CARGO_PKG_VERSION").to_owned()), ("protocol", PROTOCOL.to_string())];
    snapshot.gauge("mesh_node_build_info", "The agent's version, and that of its protocol", [(build, 1_u64)]);
    let help = "Whether there is a stream to the coordinator";
    snapshot.gauge("mesh_node_coordinator_connected", help, plain(status.map.connected.into()));
    let help = "Streams to the coordinator after the first";
    snapshot.counter("mesh_node_coordinator_reconnects", help, plain(more.streams.saturating_sub(1)));
    let heard = more.heard.and_then(|heard| heard.duration_since(UNIX_EPOCH).ok());
    let help = "When the map was last known to be the latest, in Unix seconds";
    snapshot.gauge("mesh_node_map_heard_timestamp_seconds", help, heard.map(|heard| (vec![], heard.as_secs_f64())));
    let revision = status.map.revision.map(|revision| (vec![], revision.0));
    snapshot.gauge("mesh_node_map_revision", "The revision of the map in force", revision);
    add_peers(&mut snapshot, status, more.now);
    add_instances(&mut snapshot, status);
    snapshot.gauge("mesh_node_connections", "Standing connections with an end here", plain(more.connections as u64));
    let help = "The most connections that may stand";
    snapshot.gauge("mesh_node_connection_table_limit", help, plain(MAX_CONNECTIONS as u64));
    let drops = status.drops.iter().map(|(reason, count)| (one("reason", reason.replace('-', "_")), *count));
    let help = "Packets that were dropped, and what else is counted as a drop";
    snapshot.counter("mesh_node_dropped_packets", help, drops);
    // tun-reads is tun_read.
    let kind = |name: &str| one("kind", name.trim_end_matches('s').replace('-', "_"));
    let calls = status.traffic.iter().map(|(name, calls)| (kind(name), calls.count));
    snapshot.counter("mesh_node_io_calls", "System calls of the data plane", calls);
    let bytes = status.traffic.iter().map(|(name, calls)| (kind(name), calls.bytes));
    snapshot.counter("mesh_node_io_bytes", "Bytes of these system calls", bytes);
    let offloads = status.offloads.iter().map(|(name, offload)| {
        // One that the kernel refuses isn't in use, whether it is on or not.
        (one("offload", name.replace('-', "_")), offload.on && offload.why.is_none())
    });
    snapshot.gauge("mesh_node_offload_enabled", "Whether an offload is in use", offloads);
    snapshot
}

fn one(name: &'static str, value: impl Into<String>) -> Labels {
    vec![(name, value.into())]
}

fn add_peers(snapshot: &mut Snapshot, status: &local::Status, now: Option<SystemTime>) {
    let mut paths = BTreeMap::from([("direct", 0_u64), ("idle", 0), ("none", 0), ("relay", 0)]);
    for peer in &status.peers {
        let path = match (peer.path, peer.failed_seconds) {
            (Path::Direct, _) => "direct",
            (Path::Relay, _) => "relay",
            (Path::None, Some(_)) => "none",
            (Path::None, None) => "idle",
        };
        *paths.entry(path).or_default() += 1;
    }
    let paths = paths.into_iter().map(|(path, count)| (one("path", path), count));
    let help = "Other runners by the path to them; none: they don't answer; idle: nothing is sent to them";
    snapshot.gauge("mesh_node_peers", help, paths);

    let tunnels = || status.peers.iter().filter(|peer| peer.handshake_age_seconds.is_some());
    let now = now.and_then(|now| now.duration_since(UNIX_EPOCH).ok()).unwrap_or_default().as_secs();
    let handshakes = tunnels()
        .take(PEERS)
        .filter_map(|peer| Some((one("peer", peer.name.to_string()), now.saturating_sub(peer.handshake_age_seconds?))));
    let help = "When the session with another runner began, in Unix seconds";
    snapshot.gauge("mesh_node_peer_handshake_timestamp_seconds", help, handshakes);
    let rtts = tunnels()
        .take(PEERS)
        .filter_map(|peer| Some((one("peer", peer.name.to_string()), f64::from(peer.rtt_ms?) / 1000.0)));
    snapshot.gauge("mesh_node_peer_rtt_seconds", "The round trip to another runner, in seconds", rtts);
    let bytes = |of: fn(&local::Peer) -> u64| {
        let all = status.peers.iter().filter(|peer| peer.rx_bytes + peer.tx_bytes > 0);
        let all: BTreeMap<String, u64> = all.map(|peer| (peer.name.to_string(), of(peer))).collect();
        at_most(PEERS, all).into_iter().map(|(peer, bytes)| (one("peer", peer), bytes)).collect::<Vec<_>>()
    };
    let (sent, received) = (bytes(|peer| peer.tx_bytes), bytes(|peer| peer.rx_bytes));
    snapshot.counter("mesh_node_peer_sent_bytes", "Bytes of IP packets sent to another runner", sent);
    snapshot.counter("mesh_node_peer_received_bytes", "Bytes of IP packets received from another runner", received);
}

fn add_instances(snapshot: &mut Snapshot, status: &local::Status) {
    let mut states = BTreeMap::from([("client", 0_u64), ("draining", 0), ("live", 0)]);
    let mut open: BTreeMap<String, u64> = BTreeMap::new();
    for instance in &status.instances {
        let state = match (instance.client, instance.draining) {
            (true, _) => "client",
            (false, true) => "draining",
            (false, false) => "live",
        };
        *states.entry(state).or_default() += 1;
        if !instance.client {
            *open.entry(instance.service.to_string()).or_default() +=
                u64::from(instance.connections.unwrap_or_default());
        }
    }
    let states = states.into_iter().map(|(state, count)| (one("state", state), count));
    snapshot.gauge("mesh_node_instances", "Instances on this runner", states);
    let open = at_most(SERVICES, open).into_iter().map(|(service, count)| (one("service", service), count));
    snapshot.gauge("mesh_node_open_connections", "Standing connections to the instances of a service here", open);
    let waiting = [(vec![], status.waiting.len())];
    let help = "Containers that ask for the mesh and run without it";
    snapshot.gauge("mesh_node_containers_waiting", help, waiting);
}

/// The agent's numbers at an address of their own.
#[derive(Debug)]
struct Exposition {
    agent: Arc<Agent>,
    text: EachSecond<Arc<str>>,
}

impl Pages for Exposition {
    async fn page(&self, path: &str) -> Option<Page> {
        if path != "/metrics" {
            return None;
        }
        let text = self.text.get(async { self.agent.metrics().await.text.into() }).await;
        Some(Page::metrics(text.as_bytes().to_vec().into()))
    }
}

/// Serves the numbers at an address, if it can be had: the mesh is worth more than its numbers.
pub(super) fn serve(agent: &Arc<Agent>, address: SocketAddr) {
    match mesh_metrics::listen(address) {
        Ok(listener) => {
            tracing::info!(address = %listener.local_addr().unwrap_or(address), "metrics are served");
            let pages = Exposition { agent: Arc::clone(agent), text: EachSecond::default() };
            tokio::spawn(async move { match mesh_metrics::serve(listener, Arc::new(pages)).await {} });
        }
        Err(error) => {
            let warning = format!("no metrics are served at {address}: {error}; choose another --metrics");
            tracing::warn!("{warning}");
            let _ = agent.unserved.set(warning);
        }
    }
}

#[cfg(test)]
mod tests;
