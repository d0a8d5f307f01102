//! What coordinators tell each other of the reports of their runners.

use std::{
    collections::{BTreeMap, HashMap},
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use mesh_proto::{RunnerId, ServiceId, ServicePath, telemetry::Pair};
use serde::{Deserialize, Serialize};

use super::book::{Book, Edge, Name, Refusal, Sums};

/// The most pairs of services and refusals that one coordinator tells.
const PAIRS: usize = 50_000;
const REFUSALS: usize = 1000;

/// What have your runners reported?
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct AskReports {
    /// Whether an operator looks at live numbers, so that they should report often.
    pub(crate) watch: bool,
}

/// The reports of a coordinator's runners, added up.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Reports {
    /// The counts of each pair by each side, and how many milliseconds ago it was in use.
    pairs: Vec<(Pair, Option<u64>)>,
    refusals: Vec<TextRefusal>,
    /// When each runner has reported, in milliseconds ago, and how many connections stand there.
    heard: Vec<(RunnerId, u64, u64)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct TextRefusal {
    runner: RunnerId,
    caller: TextName,
    callee: TextName,
    port: u16,
    reason: String,
    count: u64,
    milliseconds: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct TextName {
    path: Option<ServicePath>,
    service: Option<ServiceId>,
    address: Ipv4Addr,
}

impl From<Name> for TextName {
    fn from(Name { path, service, address }: Name) -> Self {
        Self { path, service, address }
    }
}

impl From<&TextName> for Name {
    fn from(TextName { path, service, address }: &TextName) -> Self {
        Self { path: path.clone(), service: *service, address: *address }
    }
}

impl Reports {
    /// What this coordinator's runners have reported.
    pub(crate) fn of(book: &Book, now: Instant) -> Self {
        let milliseconds =
            |at: Instant| u64::try_from(now.saturating_duration_since(at).as_millis()).unwrap_or(u64::MAX);
        let mut pairs: Vec<_> = book.sums().into_pairs().collect();
        pairs.sort_by_key(|(pair, used)| std::cmp::Reverse((pair.counts.open, *used)));
        pairs.truncate(PAIRS);
        let refusal = |refusal: Refusal| TextRefusal {
            runner: refusal.runner,
            caller: refusal.caller.into(),
            callee: refusal.callee.into(),
            port: refusal.port,
            reason: refusal.reason,
            count: refusal.count,
            milliseconds: milliseconds(refusal.last),
        };
        let heard = book.heard().into_iter();
        Self {
            pairs: pairs.into_iter().map(|(pair, used)| (pair, used.map(milliseconds))).collect(),
            refusals: book.refusals(REFUSALS).into_iter().map(refusal).collect(),
            heard: heard.map(|(runner, at)| (runner, milliseconds(at), book.open_at(runner).unwrap_or(0))).collect(),
        }
    }
}

impl Reports {
    /// Adds when each of the runners has reported, as told at this time.
    pub(crate) fn add_heard(&self, heard: &mut HashMap<RunnerId, Instant>, at: Instant) {
        for (runner, milliseconds, _) in &self.heard {
            let at = before(at, *milliseconds);
            heard.entry(*runner).and_modify(|known| *known = at.max(*known)).or_insert(at);
        }
    }
}

fn before(at: Instant, milliseconds: u64) -> Instant {
    at.checked_sub(Duration::from_millis(milliseconds)).unwrap_or(at)
}

/// The reports of all runners, at whichever coordinator.
#[derive(Debug, Default)]
pub(crate) struct All {
    sums: Sums,
    refusals: Vec<Refusal>,
    heard: HashMap<RunnerId, Instant>,
    open: BTreeMap<RunnerId, u64>,
}

impl All {
    /// This coordinator's.
    pub(crate) fn of(book: &Book, refusals: usize) -> Self {
        let heard = book.heard();
        let open = heard.keys().filter_map(|runner| Some((*runner, book.open_at(*runner)?))).collect();
        Self { sums: book.sums(), refusals: book.refusals(refusals), heard, open }
    }

    /// Adds what another coordinator has told at this time. A runner that has moved is heard by the one that has it now:
    /// the one that it has left forgets it.
    pub(crate) fn add(&mut self, told: &Reports, at: Instant) {
        let came = at;
        let at = |milliseconds| before(came, milliseconds);
        for (pair, used) in told.pairs.iter().take(PAIRS) {
            self.sums.add(*pair, used.map(at));
        }
        self.refusals.extend(told.refusals.iter().take(REFUSALS).map(|refusal| Refusal {
            runner: refusal.runner,
            caller: (&refusal.caller).into(),
            callee: (&refusal.callee).into(),
            port: refusal.port,
            reason: refusal.reason.clone(),
            count: refusal.count,
            last: at(refusal.milliseconds),
        }));
        told.add_heard(&mut self.heard, came);
        self.open.extend(told.heard.iter().map(|(runner, _, open)| (*runner, *open)));
    }

    /// All pairs of services.
    pub(crate) fn edges(&self) -> Vec<Edge> {
        self.sums.edges()
    }

    /// The last refused connections, the very last ones first.
    pub(crate) fn into_refusals(mut self, most: usize) -> Vec<Refusal> {
        self.refusals.sort_by_key(|refusal| std::cmp::Reverse(refusal.last));
        self.refusals.truncate(most);
        self.refusals
    }

    /// When each runner has last reported.
    pub(crate) const fn heard(&self) -> &HashMap<RunnerId, Instant> {
        &self.heard
    }

    /// How many connections with an end on this runner stand.
    pub(crate) fn open_at(&self, runner: RunnerId) -> Option<u64> {
        self.open.get(&runner).copied()
    }
}

#[cfg(test)]
mod tests {
    use mesh_proto::telemetry::{Counts, Side};

    use super::*;

    const CALLER: RunnerId = RunnerId(1);
    const CALLEE: RunnerId = RunnerId(2);

    /// What another coordinator tells, as it comes by the wire.
    fn told(side: Side, runner: RunnerId, open: u64) -> Reports {
        let counts = Counts { opened: 9, open, ..Counts::default() };
        let pair = Pair { caller: ServiceId(1), callee: ServiceId(2), side, counts };
        let name = |last| TextName { path: None, service: None, address: Ipv4Addr::new(10, 0, 0, last) };
        let (port, reason) = (80, "untrusted".to_owned());
        let refusal =
            TextRefusal { runner, caller: name(1), callee: name(2), port, reason, count: 3, milliseconds: open };
        let reports =
            Reports { pairs: vec![(pair, Some(500))], refusals: vec![refusal], heard: vec![(runner, 700, open)] };
        serde_json::from_str(&serde_json::to_string(&reports).unwrap()).unwrap()
    }

    #[test]
    fn both_ends_of_a_connection_are_one_though_they_report_to_different_coordinators() {
        let (mut all, now) = (All::default(), Instant::now() + Duration::from_secs(100));
        all.add(&told(Side::From, CALLER, 4), now);
        all.add(&told(Side::To, CALLEE, 5), now);
        let edges = all.edges();
        assert_eq!((edges.len(), edges[0].counts.opened, edges[0].counts.open), (1, 9, 5));
        assert_eq!(edges[0].used, Some(now - Duration::from_millis(500)));
        assert_eq!((all.open_at(CALLER), all.open_at(CALLEE), all.open_at(RunnerId(3))), (Some(4), Some(5), None));
        assert_eq!(all.heard()[&CALLER], now - Duration::from_millis(700));
        let refusals = all.into_refusals(1);
        assert_eq!((refusals.len(), refusals[0].runner), (1, CALLER), "the latest one");
    }

    #[test]
    fn what_is_told_is_what_the_book_has() {
        assert_eq!(All::of(&Book::default(), 9).edges(), []);
        let reports = Reports::of(&Book::default(), Instant::now());
        assert!(reports.pairs.is_empty() && reports.refusals.is_empty() && reports.heard.is_empty());
    }
}
