//! What of the reports isn't noted in the records yet.

use std::{collections::BTreeMap, time::Instant};

use mesh_model::{
    Noted, UnixSeconds, hour_of,
    record::{Hour, Passed},
};
use mesh_proto::{ServiceId, telemetry::Side};

use super::{Book, passed};

/// The most that is kept for later while the records can't be written.
const MOST_OWED: usize = 50_000;

impl Book {
    /// What has passed and what was in use since it was noted last. It counts for the hour of `began`, which was at most
    /// an hour ago.
    pub(crate) fn unnoted(&self, began: UnixSeconds, now: (Instant, UnixSeconds)) -> Vec<Noted> {
        let mut all: BTreeMap<(ServiceId, ServiceId), (Instant, [Passed; 2])> = BTreeMap::new();
        for reporter in self.runners.values() {
            for ((caller, callee, side), known) in &reporter.pairs {
                let since = passed(known.total()).since(known.noted);
                let Some(used) = known.last_used(reporter.heard) else { continue };
                if since == Passed::default() && self.noted.is_some_and(|noted| used <= noted) {
                    continue;
                }
                let (last, [callers, callees]) =
                    all.entry((*caller, *callee)).or_insert((used, [Passed::default(); 2]));
                *last = (*last).max(used);
                match side {
                    Side::Both => (*callers, *callees) = (callers.plus(since), callees.plus(since)),
                    Side::From => *callers = callers.plus(since),
                    Side::To => *callees = callees.plus(since),
                }
            }
        }
        let (instant, day) = now;
        let noted = |((caller, callee), (used, [by_callers, by_callees])): (_, (Instant, [Passed; 2]))| {
            let ago = instant.saturating_duration_since(used).as_secs();
            let hour = Hour { hour: hour_of(began), by_callers, by_callees };
            Noted { caller, callee, used: UnixSeconds(day.0.saturating_sub(ago)), hour }
        };
        self.owed.iter().copied().chain(all.into_iter().map(noted)).collect()
    }

    /// The same, which counts as noted from now on.
    pub(crate) fn take_unnoted(&mut self, began: UnixSeconds, now: (Instant, UnixSeconds)) -> Vec<Noted> {
        let unnoted = self.unnoted(began, now);
        self.owed.clear();
        self.noted = Some(now.0);
        for known in self.runners.values_mut().flat_map(|reporter| reporter.pairs.values_mut()) {
            known.noted = passed(known.total());
        }
        unnoted
    }

    /// This could not be noted: later.
    pub(crate) fn owe(&mut self, unnoted: Vec<Noted>) {
        if self.owed.len() + unnoted.len() <= MOST_OWED {
            self.owed.extend(unnoted);
        }
    }
}
