//! What of the engine's state the coordinator hasn't been told yet. Pure.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    net::Ipv4Addr,
    time::Instant,
};

use mesh_engine::{Denied, Hop, PairReport, PeerReport, Report};
use mesh_proto::{
    RunnerId, ServiceId,
    telemetry::{Counts, MOST_PAIRS, MOST_PATHS, MOST_REFUSED, Pair, Party, Path, PathKind, Refused, Side, Telemetry},
};

/// Everything that is not told apart has this identifier, which no service has.
const OTHER: ServiceId = ServiceId(0);

type PairKey = (ServiceId, ServiceId, Side);
/// A refused connection by the ends' services, or their addresses, the port, and the reason.
type RefusedKey = (End, End, u16, &'static str);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum End {
    Service(ServiceId),
    Address(Ipv4Addr),
}

/// What has been told, on the current stream.
#[derive(Debug)]
pub(super) struct Changes {
    life: u64,
    began: Instant,
    pairs: HashMap<PairKey, Seen>,
    refused: HashMap<RefusedKey, u64>,
    paths: HashMap<RunnerId, Path>,
}

/// The counts of a pair of services.
#[derive(Debug)]
struct Seen {
    counts: Counts,
    /// When they were first seen as they are.
    since: Instant,
    is_told: bool,
}

impl Changes {
    /// `life` is a random number.
    pub(super) fn new(life: u64, now: Instant) -> Self {
        Self { life, began: now, pairs: HashMap::new(), refused: HashMap::new(), paths: HashMap::new() }
    }

    /// Nothing has been told: there is another stream.
    pub(super) fn forget(&mut self) {
        self.pairs.values_mut().for_each(|seen| seen.is_told = false);
        self.refused.clear();
        self.paths.clear();
    }

    /// The next report. What doesn't fit into it is taken by a later one.
    pub(super) fn take(&mut self, report: &Report, refusals: bool, now: Instant) -> Telemetry {
        let paths: Vec<Path> = report.peers.iter().map(path).collect();
        let known: HashSet<RunnerId> = paths.iter().map(|path| path.runner).collect();
        self.paths.retain(|runner, _| known.contains(runner));
        // Peers without any path and without an attempt are of no interest until they were told otherwise.
        let of_interest = |path: &Path| path.kind != PathKind::None || path.tries > 0;
        let paths = paths.into_iter().filter(|path| of_interest(path) || self.paths.contains_key(&path.runner));
        let paths = paths.map(|path| (path.runner, coarse(path), path)).collect();
        let paths = changed(&mut self.paths, paths, MOST_PATHS);
        let (pairs, idle) = self.pairs(report, now);
        let mut told = vec![];
        if refusals {
            let all = report.denied.iter().map(|denied| (key(denied), denied.count, denied)).collect::<Vec<_>>();
            let kept: HashSet<RefusedKey> = all.iter().map(|(key, ..)| *key).collect();
            self.refused.retain(|key, _| kept.contains(key));
            told = changed(&mut self.refused, all, MOST_REFUSED).into_iter().map(refused).collect();
        }
        let age = Some(now.saturating_duration_since(self.began).as_secs());
        Telemetry { life: self.life, age, pairs, idle, refused: told, paths }
    }

    /// The pairs that haven't been told as they are, and for how many seconds each of them has been so.
    fn pairs(&mut self, report: &Report, now: Instant) -> (Vec<Pair>, Vec<u64>) {
        let (mut pairs, mut idle) = (vec![], vec![]);
        for pair in report.pairs.iter().map(pair) {
            let counts = pair.counts;
            let new = || Seen { counts, since: now, is_told: false };
            let seen = self.pairs.entry((pair.caller, pair.callee, pair.side)).or_insert_with(new);
            if seen.counts != counts {
                *seen = new();
            }
            if !seen.is_told && pairs.len() < MOST_PAIRS {
                seen.is_told = true;
                pairs.push(pair);
                idle.push(now.saturating_duration_since(seen.since).as_secs());
            }
        }
        if idle.iter().all(|seconds| *seconds == 0) {
            idle.clear();
        }
        (pairs, idle)
    }
}

/// The first `most` items whose value isn't what was told of it; they are told from now on.
fn changed<K: Copy + Eq + Hash, V: PartialEq, T>(told: &mut HashMap<K, V>, all: Vec<(K, V, T)>, most: usize) -> Vec<T> {
    let mut changed = vec![];
    for (key, value, item) in all {
        if changed.len() == most {
            break;
        }
        if told.get(&key) != Some(&value) {
            told.insert(key, value);
            changed.push(item);
        }
    }
    changed
}

fn pair(report: &PairReport) -> Pair {
    let PairReport { services, side, opened, refused, unanswered, reset, open, sent, received } = *report;
    let (caller, callee) = services.unwrap_or((OTHER, OTHER));
    Pair {
        caller,
        callee,
        side,
        counts: Counts { opened, refused, unanswered, reset, open: open.into(), sent, received },
    }
}

fn path(peer: &PeerReport) -> Path {
    let hop = peer.path.map(|path| path.hop);
    let (kind, relay) = match hop {
        Some(Hop::Direct(_)) => (PathKind::Direct, None),
        Some(Hop::Relayed { relay, .. }) => (PathKind::Relay, Some(relay)),
        None => (PathKind::None, None),
    };
    let rtt = peer.path.and_then(|path| path.rtt).map(|rtt| rtt.as_micros() as u64);
    let tries = peer.failing.as_ref().map_or(0, |failing| failing.tries);
    Path { runner: peer.runner, kind, relay, rtt, tries }
}

/// A path by what is worth a report: its round trip to a power of two, and whether it fails.
fn coarse(path: Path) -> Path {
    Path { rtt: path.rtt.map(u64::next_power_of_two), tries: path.tries.min(1), ..path }
}

fn end(address: Ipv4Addr, service: Option<ServiceId>) -> End {
    service.map_or(End::Address(address), End::Service)
}

fn key(denied: &Denied) -> RefusedKey {
    let (caller, callee) = (end(denied.caller, denied.caller_service), end(denied.callee, denied.callee_service));
    (caller, callee, denied.port, denied.reason.name())
}

fn refused(denied: &Denied) -> Refused {
    Refused {
        caller: Party { address: denied.caller, service: denied.caller_service },
        callee: Party { address: denied.callee, service: denied.callee_service },
        port: denied.port,
        reason: denied.reason.name().to_owned(),
        count: denied.count,
        age: denied.age.as_secs(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mesh_engine::Reason;

    use super::*;

    fn pairs(count: u64, opened: u64) -> Vec<PairReport> {
        let of = |n| PairReport {
            services: Some((ServiceId(n), ServiceId(1000))),
            side: Side::From,
            opened,
            refused: 0,
            unanswered: 0,
            reset: 0,
            open: 0,
            sent: 0,
            received: 0,
        };
        (1..=count).map(of).collect()
    }

    fn now() -> Instant {
        Instant::now()
    }

    fn report(pairs: Vec<PairReport>) -> Report {
        Report { peers: vec![], drops: vec![], denied: vec![], instances: vec![], connections: 0, pairs }
    }

    #[test]
    fn only_what_has_changed_is_told_and_all_of_it_after_a_new_stream() {
        let mut changes = Changes::new(7, Instant::now());
        let state = report(pairs(3, 1));
        assert_eq!(changes.take(&state, true, now()).pairs.len(), 3);
        assert_eq!(changes.take(&state, true, now()), Telemetry { life: 7, age: Some(0), ..Telemetry::default() });
        let mut more = state.clone();
        more.pairs[1].opened = 2;
        let told = changes.take(&more, true, now()).pairs;
        assert_eq!(told.iter().map(|pair| (pair.caller, pair.counts.opened)).collect::<Vec<_>>(), [(ServiceId(2), 2)]);
        changes.forget();
        assert_eq!(changes.take(&more, true, now()).pairs.len(), 3);
    }

    #[test]
    fn who_hears_it_for_the_first_time_learns_when_it_was_so() {
        let begin = now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        let mut changes = Changes::new(7, begin);
        let mut state = report(pairs(2, 1));
        assert_eq!(changes.take(&state, true, after(0)).idle, [0; 0]);
        state.pairs[1].opened = 2;
        changes.take(&state, true, after(60));
        changes.forget();
        let told = changes.take(&state, true, after(90));
        assert_eq!((told.age, told.pairs.len(), told.idle), (Some(90), 2, vec![90, 30]));
    }

    #[test]
    fn what_does_not_fit_follows() {
        let mut changes = Changes::new(7, Instant::now());
        let state = report(pairs(600, 1));
        let sizes: Vec<usize> = (0..4).map(|_| changes.take(&state, true, now()).pairs.len()).collect();
        assert_eq!(sizes, [256, 256, 88, 0]);
        let text =
            serde_json::to_string(&Changes::new(7, Instant::now()).take(&report(pairs(600, u64::MAX)), true, now()))
                .unwrap();
        assert!(text.len() < 64 << 10, "{} bytes", text.len());
    }

    #[test]
    fn refusals_are_told_when_they_are_asked_for() {
        let denied = Denied {
            caller: Ipv4Addr::new(100, 127, 0, 1),
            caller_service: Some(ServiceId(7)),
            callee: Ipv4Addr::new(100, 112, 0, 9),
            callee_service: None,
            port: 80,
            reason: Reason::NoTrust,
            count: 3,
            age: Duration::from_secs(12),
        };
        let mut state = Report { denied: vec![denied], ..report(vec![]) };
        let mut changes = Changes::new(7, Instant::now());
        assert_eq!(changes.take(&state, false, now()).refused, []);
        let told = changes.take(&state, true, now()).refused;
        assert_eq!(told.iter().map(|refused| (&*refused.reason, refused.count)).collect::<Vec<_>>(), [("no-trust", 3)]);
        assert_eq!(changes.take(&state, true, now()).refused, []);
        // An entry that made room for others begins anew.
        let entry = state.denied.pop();
        changes.take(&state, true, now());
        state.denied.extend(entry);
        assert_eq!(changes.take(&state, true, now()).refused.len(), 1);
    }

    #[test]
    fn a_path_is_told_when_its_kind_changes_and_when_it_is_gone() {
        let peer = |path| PeerReport {
            runner: RunnerId(2),
            endpoint: None,
            handshake_age: None,
            failing: None,
            path,
            rx_bytes: 0,
            tx_bytes: 0,
        };
        let direct = |rtt| {
            let hop = Hop::Direct("192.0.2.1:51820".parse().unwrap());
            let (rtt, since) = (Some(Duration::from_micros(rtt)), Duration::ZERO);
            Some(mesh_engine::PathReport { hop, rtt, mtu: None, since })
        };
        let mut changes = Changes::new(7, Instant::now());
        let mut tell = |path| {
            let state = Report { peers: vec![peer(path)], ..report(vec![]) };
            changes.take(&state, true, now()).paths.iter().map(|path| path.kind).collect::<Vec<_>>()
        };
        assert_eq!(tell(None), [], "there is nothing to say of an idle one");
        assert_eq!(tell(direct(900)), [PathKind::Direct]);
        assert_eq!(tell(direct(950)), [], "a round trip varies");
        assert_eq!(tell(direct(9000)), [PathKind::Direct]);
        assert_eq!(tell(None), [PathKind::None]);
        assert_eq!(tell(None), []);
    }
}
