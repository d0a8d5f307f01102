//! What `status` and `denied` show: the data plane's report, in the view's names.

use std::{collections::BTreeMap, time::SystemTime};

use mesh_engine::Hop;
use mesh_link::Url;
use mesh_proto::{
    View,
    message::{Have, Switches},
};

use super::{Agent, relays, why::DOUBTFUL};
use crate::{
    control::Link,
    dataplane::{Report, Traffic},
    hint::Hint as _,
    local::{self, VERSION},
};

impl Agent {
    pub(super) async fn status(&self) -> local::Status {
        let (view, link) = (self.control.view(), self.control.link());
        let report = self.dataplane.report().await;
        let (instances, waiting) = (self.shown(report.as_ref()).await, self.instances.waiting().await);
        let (error, hint) = link.trouble.as_ref().map(|trouble| (trouble.to_string(), trouble.hint())).unzip();
        local::Status {
            version: VERSION,
            runner: local::Runner { id: self.runner, name: self.name.clone() },
            map: map_state(&link, *self.applied.borrow()),
            coordinator: local::Coordinator {
                url: self.known_coordinators().iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
                error,
                hint: hint.flatten(),
            },
            port: self.dataplane.port(),
            endpoints: self.endpoints.addresses(),
            port_mapping: self.endpoints.mapping(),
            peers: report.iter().flat_map(|report| peers(report, view.as_deref(), &self.relays)).collect(),
            relays: report.iter().flat_map(|report| self.relays.shown(&report.relays, &self.dialer)).collect(),
            instances,
            waiting,
            drops: report.iter().flat_map(drops).collect(),
            traffic: report.iter().flat_map(traffic).collect(),
            lanes: report.iter().flat_map(lanes).collect(),
            offloads: offloads(self.operator, *self.control.switches().borrow(), report.as_ref()),
            warnings: [
                self.state.warnings(),
                self.endpoints.warnings(),
                self.instances.hosts_warnings(),
                self.unserved.get().cloned().into_iter().collect(),
            ]
            .concat(),
        }
    }

    /// The coordinators that it has joined by, and those of which it was told.
    fn known_coordinators(&self) -> Vec<Url> {
        let told = self.control.coordinators().borrow().clone();
        let more = told.into_iter().filter(|url| !self.coordinators.contains(url));
        self.coordinators.iter().cloned().chain(more).collect()
    }

    /// The instances, with their numbers of open connections.
    async fn shown(&self, report: Option<&Report>) -> Vec<local::Instance> {
        let mut instances = self.instances.list().await;
        for instance in &mut instances {
            let known = report.and_then(|report| report.engine.instances.iter().find(|i| i.instance == instance.id));
            instance.connections = known.map(|known| known.open);
        }
        instances
    }

    pub(super) async fn denied(&self) -> local::Denied {
        let (view, report) = (self.control.view(), self.dataplane.report().await);
        if let Some(view) = &view {
            self.names.learn(view);
        }
        let denied = report.into_iter().flat_map(|report| report.engine.denied).map(|denied| local::Refused {
            caller: self.names.of(denied.caller_service, denied.caller),
            callee: self.names.of(denied.callee_service, denied.callee),
            caller_address: Some(denied.caller),
            callee_address: Some(denied.callee),
            port: denied.port,
            reason: denied.reason.name().to_owned(),
            text: denied.reason.to_string(),
            count: denied.count,
            age_seconds: denied.age.as_secs(),
        });
        local::Denied { version: VERSION, denied: denied.collect() }
    }
}

fn map_state(link: &Link, applied: Option<Have>) -> local::MapState {
    // A clock that was set back gives an age of zero.
    let age = |heard: SystemTime| heard.elapsed().unwrap_or_default().as_secs();
    local::MapState {
        revision: applied.map(|applied| applied.revision),
        age_seconds: applied.and(link.heard).map(age),
        connected: link.connected,
        state: Some(match (link.connected, link.unknown) {
            (true, _) => local::LinkState::Connected,
            (false, true) => local::LinkState::Refused,
            (false, false) => local::LinkState::Away,
        }),
    }
}

fn peers(report: &Report, view: Option<&View>, relays: &relays::Names) -> Vec<local::Peer> {
    let mut peers: Vec<local::Peer> = report
        .engine
        .peers
        .iter()
        .filter_map(|peer| {
            let runner = view?.runner(peer.runner)?;
            let failing = peer.failing.as_ref().filter(|failing| failing.since >= DOUBTFUL);
            let path = peer.path.filter(|_| failing.is_none());
            let relay = path.and_then(|path| match path.hop {
                Hop::Direct(_) => None,
                Hop::Relayed { relay, .. } => Some(relays.of(relay)),
            });
            Some(local::Peer {
                name: runner.name.clone(),
                provider: runner.provider.clone(),
                path: match (&path, &relay) {
                    (None, _) => local::Path::None,
                    (Some(_), None) => local::Path::Direct,
                    (Some(_), Some(_)) => local::Path::Relay,
                },
                relay,
                rtt_ms: path.and_then(|path| path.rtt).map(Into::into),
                mtu: path.and_then(|path| path.mtu),
                via_since_seconds: path.map(|path| path.since.as_secs()),
                tries: failing.map_or(0, |failing| failing.tries.into()),
                failed_seconds: failing.map(|failing| failing.since.as_secs()),
                tried: failing.map_or_else(Vec::new, |failing| failing.tried.clone()),
                endpoint: peer.endpoint,
                handshake_age_seconds: peer.handshake_age.map(|age| age.as_secs()),
                rx_bytes: peer.rx_bytes,
                tx_bytes: peer.tx_bytes,
            })
        })
        .collect();
    peers.sort_by(|a, b| a.name.cmp(&b.name));
    peers
}

fn drops(report: &Report) -> impl Iterator<Item = (String, u64)> {
    let packets = report.engine.drops.iter().map(|(reason, count)| (reason.name(), *count));
    packets.chain(report.io.iter().copied()).map(|(reason, count)| (reason.to_owned(), count))
}

fn traffic(report: &Report) -> [(String, local::Calls); 4] {
    let Traffic { tun_reads, tun_writes, udp_sends, udp_receives } = report.traffic;
    let kinds = [
        ("tun-reads", tun_reads),
        ("tun-writes", tun_writes),
        ("udp-sends", udp_sends),
        ("udp-receives", udp_receives),
    ];
    kinds.map(|(kind, calls)| (kind.to_owned(), local::Calls { count: calls.count, bytes: calls.bytes }))
}

fn lanes(report: &Report) -> impl Iterator<Item = local::Lane> {
    (0..).zip(&report.lanes).map(|(lane, of)| local::Lane {
        lane,
        runners: of.runners,
        tx_bytes: of.traffic.udp_sends.bytes,
        rx_bytes: of.traffic.udp_receives.bytes,
    })
}

/// The offloads, and why one isn't in use. `tun-gro`, super-packets to a TUN, is switched with `tun-gso`, those from one.
fn offloads(operator: Switches, coordinator: Switches, report: Option<&Report>) -> BTreeMap<String, local::Offload> {
    let counted = |name: &str| {
        report.is_some_and(|report| report.io.iter().any(|(counter, count)| *counter == name && *count > 0))
    };
    let of = |name: &str, switch: &str, ours: bool, theirs: bool, refusals: &[(&str, &str)]| {
        let refused = || refusals.iter().find(|(counter, _)| counted(counter)).map(|(_, why)| (*why).to_owned());
        let why = match (ours, theirs) {
            (false, _) => Some(format!("switched off where the agent was started (--no-{switch})")),
            (true, false) => Some(format!("switched off by the coordinator (`mesh-coord switch {switch} on`)")),
            (true, true) => refused(),
        };
        (name.to_owned(), local::Offload { on: ours && theirs, why })
    };
    let no_tun = ("tun-gso-unsupported", "the kernel's TUNs have none");
    let no_batches = ("udp-gso-unsupported", "the kernel refuses it on some routes");
    let too_long = ("udp-gso-refused", "the kernel has refused batches: the MTU of a path is too small for them");
    let doubtful = ("tun-gso-refused", "the kernel has refused super-packets (Linux 6.6.44 and its like)");
    let no_gro = ("udp-gro-unsupported", "the kernel is too old (Linux 5.0)");
    [
        of("tun-gso", "tun-gso", operator.tun_gso, coordinator.tun_gso, &[no_tun]),
        of("tun-gro", "tun-gso", operator.tun_gso, coordinator.tun_gso, &[no_tun, doubtful]),
        of("udp-gso", "udp-gso", operator.udp_gso, coordinator.udp_gso, &[no_batches, too_long]),
        of("udp-gro", "udp-gro", operator.udp_gro, coordinator.udp_gro, &[no_gro]),
    ]
    .into()
}
