//! The numbers of the state, as they are now.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use mesh_metrics::{Labels, Snapshot, at_most};
use mesh_model::{
    UnixSeconds,
    record::{RelayKind, SecretHandle},
};
use mesh_proto::{message::PROTOCOL, telemetry::PathKind, view::InstanceState};
use tokio::time::Instant;

use crate::{coordinator::Core, telemetry::Book};

/// The most values of labels that operators and agents choose.
const PROVIDERS: usize = 50;
const VERSIONS: usize = 20;
/// From when on a runner counts as behind.
const BEHIND: Duration = Duration::from_secs(5);
/// The most reasons of refusals.
const REASONS: usize = 20;
const OTHER: &str = "other";

/// The numbers of the state and the sessions; `has` says whether a relay's secret is there.
pub(super) fn of(core: &Core, now: UnixSeconds, has: &dyn Fn(SecretHandle) -> bool) -> Snapshot {
    let mut snapshot = Snapshot::new();
    let build = vec![("version", env!("CARGO_PKG_VERSION").to_owned()), ("protocol", PROTOCOL.to_string())];
    snapshot.gauge("mesh_coord_build_info", "The coordinator's version, and that of its protocol", [(build, 1_u64)]);
    add_runners(&mut snapshot, core);
    let counts = core.state.counts(now);
    let plain = |value: usize| [(vec![], value)];
    snapshot.gauge("mesh_coord_deployments", "Deployments", plain(counts.deployments));
    snapshot.gauge("mesh_coord_services", "Services", plain(counts.services));
    let tokens = counts
        .tokens
        .into_iter()
        .map(|((kind, state), count)| (vec![("kind", kind.to_owned()), ("state", state.replace(' ', "_"))], count));
    snapshot.gauge("mesh_coord_tokens", "Tokens", tokens);
    add_relays(&mut snapshot, core, has);
    snapshot.counter("mesh_coord_commits", "Commits since the mesh began", [(vec![], core.state.revision().0)]);
    let behind = core.sessions.behind(BEHIND, Instant::now().into_std()).len();
    let help = "Connected runners at which a change has not been in force for more than 5 seconds";
    snapshot.gauge("mesh_coord_runners_behind", help, plain(behind));
    snapshot
}

fn one(name: &'static str, value: impl Into<String>) -> Labels {
    vec![(name, value.into())]
}

fn add_runners(snapshot: &mut Snapshot, core: &Core) {
    let mut providers: BTreeMap<String, u64> = BTreeMap::new();
    let mut versions: BTreeMap<String, u64> = BTreeMap::new();
    let mut online: BTreeMap<String, u64> = BTreeMap::new();
    let mut instances = BTreeMap::from([("client", 0_u64), ("draining", 0), ("live", 0), ("unreachable", 0)]);
    let mut streams = 0_u64;
    for runner in core.state.active_runners() {
        let connected = core.sessions.is_connected(runner.id);
        streams += u64::from(core.sessions.is_connected_here(runner.id));
        *providers.entry(runner.provider.to_string()).or_default() += 1;
        *online.entry(runner.provider.to_string()).or_default() += u64::from(connected);
        *versions.entry(runner.version.clone()).or_default() += 1;
        for instance in core.state.instances_on(runner.id) {
            let state = match instance.state {
                _ if !connected => "unreachable",
                InstanceState::Live => "live",
                InstanceState::Draining => "draining",
                InstanceState::Client => "client",
            };
            *instances.entry(state).or_default() += 1;
        }
    }
    let runners = by_provider(&providers, &online).into_iter().flat_map(|(provider, [online, silent])| {
        [("online", online), ("silent", silent)]
            .map(|(state, count)| (vec![("provider", provider.clone()), ("state", state.to_owned())], count))
    });
    snapshot.gauge("mesh_coord_runners", "Runners", runners.collect::<Vec<_>>());
    let versions = at_most(VERSIONS, versions).into_iter().map(|(version, count)| (one("version", version), count));
    let help = "Runners by the version of their agent, which is empty before the first stream";
    snapshot.gauge("mesh_coord_runners_by_version", help, versions);
    let instances = instances.into_iter().map(|(state, count)| (one("state", state), count));
    snapshot.gauge("mesh_coord_instances", "Instances of services", instances);
    snapshot.gauge("mesh_coord_streams", "Open streams of runners", [(vec![], streams)]);
}

/// How many runners of each provider are online and silent; those beyond the largest [`PROVIDERS`] in one.
fn by_provider(all: &BTreeMap<String, u64>, online: &BTreeMap<String, u64>) -> BTreeMap<String, [u64; 2]> {
    let kept: BTreeSet<String> = at_most(PROVIDERS, all.clone()).into_iter().map(|(provider, _)| provider).collect();
    let mut sums: BTreeMap<String, [u64; 2]> = BTreeMap::new();
    for (provider, count) in all {
        let shown = if kept.contains(provider) { provider } else { OTHER };
        let online = online.get(provider).copied().unwrap_or_default();
        let sum = sums.entry(shown.to_owned()).or_default();
        *sum = [sum[0] + online, sum[1] + count - online];
    }
    sums
}

fn add_relays(snapshot: &mut Snapshot, core: &Core, has: &dyn Fn(SecretHandle) -> bool) {
    let mut relays: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for relay in core.state.relays() {
        let own = matches!(relay.relay, RelayKind::Own { .. });
        let state = match own {
            _ if !has(relay.secret) => "no_secret",
            false => "added",
            true if core.has_relay(relay.id) => "online",
            true => "silent",
        };
        *relays.entry((if own { "own" } else { "turn" }, state)).or_default() += 1;
    }
    let relays = relays
        .into_iter()
        .map(|((kind, state), count)| (vec![("kind", kind.to_owned()), ("state", state.to_owned())], count));
    snapshot.gauge("mesh_coord_relays", "Relays", relays);
}

/// Adds what runners report of connections.
pub(super) fn add_reports(snapshot: &mut Snapshot, book: &Book) {
    let (reports, left_out) = book.received();
    snapshot.counter("mesh_coord_reports", "Reports of runners about connections", [(vec![], reports)]);
    let help = "Entries of such reports that were left out: too many, or of services that the runner does not host";
    snapshot.counter("mesh_coord_reports_left_out", help, [(vec![], left_out)]);
    snapshot.gauge("mesh_coord_edges", "Pairs of services that runners have reported", [(vec![], book.size() as u64)]);
    let mut paths = BTreeMap::from([("direct", 0_u64), ("none", 0), ("relay", 0)]);
    for path in book.paths() {
        let kind = match path.kind {
            PathKind::Direct => "direct",
            PathKind::Relay => "relay",
            PathKind::None => "none",
        };
        *paths.entry(kind).or_default() += 1;
    }
    let paths = paths.into_iter().map(|(kind, count)| (one("kind", kind), count));
    snapshot.gauge("mesh_coord_paths", "Paths from a runner to another one, as runners report them", paths);
    let refused = book.refused().into_iter().map(|(reason, count)| (reason.to_owned(), count)).collect();
    let refused =
        at_most(REASONS, refused).into_iter().map(|(reason, count)| (one("reason", reason.replace('-', "_")), count));
    let help = "Connections that runners have refused, among the kinds that they remember";
    snapshot.gauge("mesh_coord_refused_connections", help, refused);
}

/// Adds the sizes of the database's files.
pub(super) fn add_sizes(snapshot: &mut Snapshot, database: &Path) {
    let size = |suffix: &str| {
        let mut path = database.as_os_str().to_owned();
        path.push(suffix);
        std::fs::metadata(path).map_or(0, |file| file.len())
    };
    let sizes = [("db", ""), ("wal", "-wal")].map(|(file, suffix)| (one("file", file), size(suffix)));
    snapshot.gauge("mesh_coord_store_size_bytes", "Size of the database and of its log, in bytes", sizes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_providers_are_counted_together() {
        let all: BTreeMap<String, u64> = (0..200).map(|n| (format!("p{n}"), if n < 2 { 3 } else { 1 })).collect();
        let online = BTreeMap::from([("p0".to_owned(), 2), ("p199".to_owned(), 1)]);
        let sums = by_provider(&all, &online);
        assert_eq!(sums.len(), PROVIDERS + 1);
        assert_eq!(sums["p0"], [2, 1]);
        assert_eq!(sums["other"], [1, 149]);
        let total: u64 = sums.values().flatten().sum();
        assert_eq!(total, 204);
    }
}
