//! The last reports of all runners, added up. Pure: the time is passed in.

mod checked;
mod hour;
mod sums;

use std::{
    collections::{BTreeMap, HashMap},
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use mesh_model::{Noted, State, record::Passed};
use mesh_proto::{
    RunnerId, ServiceId, ServicePath,
    telemetry::{Counts, MOST_PAIRS, MOST_PATHS, Pair, Party, Path, Refused, Side},
};

use self::sums::plus;
pub(crate) use self::{
    checked::Checked,
    sums::{Edge, Sums},
};

/// The most pairs of services of one runner.
const PAIRS_OF_RUNNER: usize = 16_384;
/// The most pairs of all runners together.
const PAIRS: usize = 200_000;
/// The most kinds of refusals of one runner.
const REFUSALS_OF_RUNNER: usize = 128;

/// An agent that began longer ago has counted much that was noted by earlier coordinators.
const YOUNG: u64 = 3600;
/// After how many reports what is gone is forgotten.
const TIDY: u64 = 1024;

/// What all runners have reported.
#[derive(Debug, Default)]
pub(crate) struct Book {
    runners: HashMap<RunnerId, Reporter>,
    /// The number of pairs in all reporters.
    pairs: usize,
    /// Pairs and refusals that were left out: too many, or of services that the runner doesn't host.
    left_out: u64,
    reports: u64,
    /// The number of reports at which it is tidied next.
    tidy_at: u64,
    /// When it was last noted in the records what is in use.
    noted: Option<Instant>,
    /// What could not be noted.
    owed: Vec<Noted>,
}

#[derive(Debug)]
struct Reporter {
    life: u64,
    heard: Instant,
    /// Whether it tells what it has counted before it was first heard here.
    is_catching_up: bool,
    pairs: HashMap<(ServiceId, ServiceId, Side), Known>,
    refused: Vec<Kept>,
    paths: BTreeMap<RunnerId, Path>,
}

/// A pair's counts: those of earlier lives, and those of the current one.
#[derive(Debug, Default, Clone, Copy)]
struct Known {
    before: Counts,
    current: Counts,
    /// When a report has last said that it is in use.
    used: Option<Instant>,
    /// How much of the total is noted in the records.
    noted: Passed,
}

/// A kind of refusal, with its names when it was first reported.
#[derive(Debug)]
struct Kept {
    refused: Refused,
    names: [Option<ServicePath>; 2],
    /// The count of entries that the agent has dropped since.
    before: u64,
    last: Instant,
}

/// A refused connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) runner: RunnerId,
    pub(crate) caller: Name,
    pub(crate) callee: Name,
    pub(crate) port: u16,
    pub(crate) reason: String,
    pub(crate) count: u64,
    pub(crate) last: Instant,
}

/// One end of a refused connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) path: Option<ServicePath>,
    pub(crate) service: Option<ServiceId>,
    pub(crate) address: Ipv4Addr,
}

impl Book {
    /// Takes a report in.
    pub(crate) fn take(&mut self, runner: RunnerId, checked: Checked, now: Instant) {
        let Checked { report, hosted, names, foreign } = checked;
        self.reports += 1;
        self.left_out += foreign;
        let life = report.life;
        let is_old = report.age.is_none_or(|age| age >= YOUNG);
        let reporter = self.runners.entry(runner).or_insert_with(|| Reporter::new(life, is_old, now));
        reporter.heard = now;
        if reporter.life != life {
            reporter.begin(life);
        }
        let is_all = report.pairs.len() < MOST_PAIRS;
        let idle = report.idle.into_iter().map(Duration::from_secs).chain(std::iter::repeat(Duration::ZERO));
        for ((pair, hosted), idle) in report.pairs.into_iter().zip(hosted).zip(idle) {
            let at = now.checked_sub(idle).unwrap_or(now);
            let key = (pair.caller, pair.callee, pair.side);
            let known = reporter.pairs.len();
            let has_room = known < PAIRS_OF_RUNNER && self.pairs < PAIRS;
            if let Some(known) = reporter.pairs.get_mut(&key) {
                known.report(pair.counts, at);
            } else if hosted && has_room {
                let known = reporter.pairs.entry(key).or_default();
                known.report(pair.counts, at);
                if reporter.is_catching_up {
                    known.noted = passed(pair.counts);
                }
                self.pairs += 1;
            } else {
                self.left_out += 1;
            }
        }
        reporter.is_catching_up &= !is_all;
        for (refused, names) in report.refused.into_iter().zip(names) {
            if !reporter.refuse(refused, names, now) {
                self.left_out += 1;
            }
        }
        for path in report.paths {
            reporter.paths.insert(path.runner, path);
        }
        while reporter.paths.len() > 4 * MOST_PATHS {
            reporter.paths.pop_last();
        }
    }

    /// Forgets runners that were removed, and pairs of services that are gone, now and then.
    pub(crate) fn tidy(&mut self, state: &State) {
        if self.reports < self.tidy_at {
            return;
        }
        self.tidy_at = self.reports + TIDY;
        self.runners.retain(|runner, _| state.is_active(*runner));
        for reporter in self.runners.values_mut() {
            let exists = |service: &ServiceId| state.path_of(*service).is_some();
            reporter.pairs.retain(|(caller, callee, _), _| exists(caller) && exists(callee));
            reporter.paths.retain(|runner, _| state.is_active(*runner));
        }
        self.pairs = self.runners.values().map(|reporter| reporter.pairs.len()).sum();
    }

    /// What passed between all pairs of services, by side.
    pub(crate) fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        for reporter in self.runners.values() {
            for ((caller, callee, side), known) in &reporter.pairs {
                let pair = Pair { caller: *caller, callee: *callee, side: *side, counts: known.total() };
                sums.add(pair, known.last_used(reporter.heard));
            }
        }
        sums
    }

    /// Forgets runners that report to another coordinator from now on.
    pub(crate) fn forget(&mut self, runners: &[RunnerId]) {
        for runner in runners {
            if let Some(reporter) = self.runners.remove(runner) {
                self.pairs -= reporter.pairs.len();
            }
        }
    }

    /// How many connections with an end on this runner stand, by its last report.
    pub(crate) fn open_at(&self, runner: RunnerId) -> Option<u64> {
        let reporter = self.runners.get(&runner)?;
        Some(reporter.pairs.values().map(|known| known.current.open).sum())
    }

    /// The last refused connections, the very last ones first.
    pub(crate) fn refusals(&self, most: usize) -> Vec<Refusal> {
        let kept =
            self.runners.iter().flat_map(|(runner, reporter)| reporter.refused.iter().map(|kept| (*runner, kept)));
        let mut last: Vec<(RunnerId, &Kept)> = kept.collect();
        last.sort_by_key(|(_, kept)| std::cmp::Reverse(kept.last));
        last.truncate(most);
        last.into_iter()
            .map(|(runner, Kept { refused, names: [caller, callee], before, last })| {
                let name = |path: &Option<ServicePath>, party: Party| Name {
                    path: path.clone(),
                    service: party.service,
                    address: party.address,
                };
                Refusal {
                    runner,
                    caller: name(caller, refused.caller),
                    callee: name(callee, refused.callee),
                    port: refused.port,
                    reason: refused.reason.clone(),
                    count: before.saturating_add(refused.count),
                    last: *last,
                }
            })
            .collect()
    }

    /// How many connections were refused, by the reason.
    pub(crate) fn refused(&self) -> BTreeMap<&str, u64> {
        let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
        for Kept { refused, before, .. } in self.runners.values().flat_map(|reporter| &reporter.refused) {
            let sum = sums.entry(&refused.reason).or_default();
            *sum = sum.saturating_add(*before).saturating_add(refused.count);
        }
        sums
    }

    /// How data reaches other runners, as all of them report.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.runners.values().flat_map(|reporter| reporter.paths.values())
    }

    /// When each runner has last reported.
    pub(crate) fn heard(&self) -> HashMap<RunnerId, Instant> {
        self.runners.iter().map(|(runner, reporter)| (*runner, reporter.heard)).collect()
    }

    /// The reports so far, and the pairs and refusals in them that were left out.
    pub(crate) const fn received(&self) -> (u64, u64) {
        (self.reports, self.left_out)
    }

    /// The pairs that are kept.
    pub(crate) const fn size(&self) -> usize {
        self.pairs
    }
}

impl Reporter {
    fn new(life: u64, is_catching_up: bool, now: Instant) -> Self {
        Self { life, heard: now, is_catching_up, pairs: HashMap::new(), refused: vec![], paths: BTreeMap::new() }
    }

    /// The agent has begun anew: its counts are at zero, and nothing is open until it says so.
    fn begin(&mut self, life: u64) {
        self.life = life;
        for known in self.pairs.values_mut() {
            known.before = known.total();
            known.before.open = 0;
            known.current = Counts::default();
        }
        for kept in &mut self.refused {
            kept.before = kept.before.saturating_add(std::mem::take(&mut kept.refused.count));
        }
        self.paths.clear();
    }

    /// Notes a refusal; returns whether there was room.
    fn refuse(&mut self, refused: Refused, names: [Option<ServicePath>; 2], now: Instant) -> bool {
        let last = now.checked_sub(Duration::from_secs(refused.age)).unwrap_or(now);
        let end = |party: &Party| party.service.ok_or(party.address);
        let same = |kept: &&mut Kept| {
            let old = &kept.refused;
            (end(&old.caller), end(&old.callee), old.port, &old.reason)
                == (end(&refused.caller), end(&refused.callee), refused.port, &refused.reason)
        };
        if let Some(kept) = self.refused.iter_mut().find(same) {
            // The agent's entry has made room for others meanwhile.
            if refused.count < kept.refused.count {
                kept.before = kept.before.saturating_add(kept.refused.count);
            }
            (kept.refused, kept.last) = (refused, last);
            return true;
        }
        let has_room = self.refused.len() < REFUSALS_OF_RUNNER;
        if !has_room && let Some((oldest, _)) = self.refused.iter().enumerate().min_by_key(|(_, kept)| kept.last) {
            self.refused.swap_remove(oldest);
        }
        self.refused.push(Kept { refused, names, before: 0, last });
        has_room
    }
}

impl Known {
    fn report(&mut self, counts: Counts, now: Instant) {
        let is_used = self.current.open > 0
            || counts.open > 0
            || counts.opened > self.current.opened
            || counts.sent > self.current.sent;
        if is_used {
            self.used = self.used.max(Some(now));
        }
        self.current = counts;
    }

    fn total(&self) -> Counts {
        plus(self.before, self.current)
    }

    /// When it was last in use, if its runner was last heard then. What hasn't changed is not reported again.
    fn last_used(&self, heard: Instant) -> Option<Instant> {
        if self.current.open > 0 { Some(heard) } else { self.used }
    }
}

const fn passed(counts: Counts) -> Passed {
    Passed { opened: counts.opened, bytes: counts.sent.saturating_add(counts.received) }
}

#[cfg(test)]
mod tests;
