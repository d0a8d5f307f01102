//! Waiting until a change is confirmed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use mesh_proto::{Revision, RunnerId};

/// A wait, by its number in this life of the coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaitId(u64);

/// What a wait makes of runners that aren't connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// They count as unconfirmed: they may still act on what they knew.
    Unconfirmed,
    /// They don't count: their silence must not hold others up.
    Ignored,
}

/// One wait.
#[derive(Debug)]
pub(crate) struct Wait {
    pub(crate) revision: Revision,
    pub(crate) absent: Absent,
    deadline: Instant,
    /// All that are waited for,
    runners: BTreeSet<RunnerId>,
    /// and those of them that are unconfirmed.
    unconfirmed: BTreeSet<RunnerId>,
}

/// All waits, found by runner and by deadline.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    last: u64,
    waits: BTreeMap<WaitId, Wait>,
    of_runner: BTreeMap<RunnerId, BTreeSet<WaitId>>,
    deadlines: BTreeSet<(Instant, WaitId)>,
}

impl Waits {
    /// The number of the next wait.
    pub(crate) const fn next_id(&mut self) -> WaitId {
        self.last += 1;
        WaitId(self.last)
    }

    /// Adds a wait for `runners`, of which these are unconfirmed.
    pub(crate) fn insert(
        &mut self,
        id: WaitId,
        (revision, absent): (Revision, Absent),
        deadline: Instant,
        runners: BTreeSet<RunnerId>,
        unconfirmed: BTreeSet<RunnerId>,
    ) {
        for runner in &runners {
            self.of_runner.entry(*runner).or_default().insert(id);
        }
        self.deadlines.insert((deadline, id));
        self.waits.insert(id, Wait { revision, absent, deadline, runners, unconfirmed });
    }

    /// Whether a wait for this runner exists.
    pub(crate) fn names(&self, runner: RunnerId) -> bool {
        self.of_runner.contains_key(&runner)
    }

    /// Works out again whether the runner is unconfirmed, for each wait that is for it; returns the waits that are over.
    pub(crate) fn reconsider(&mut self, runner: RunnerId, is_unconfirmed: impl Fn(&Wait) -> bool) -> Vec<WaitId> {
        let mut over = Vec::new();
        for id in self.of_runner.get(&runner).into_iter().flatten() {
            let Some(wait) = self.waits.get_mut(id) else { continue };
            if is_unconfirmed(wait) {
                wait.unconfirmed.insert(runner);
            } else if wait.unconfirmed.remove(&runner) && wait.unconfirmed.is_empty() {
                over.push(*id);
            }
        }
        over
    }

    /// Forgets a runner that was removed; returns the waits that are over without it.
    pub(crate) fn forget(&mut self, runner: RunnerId) -> Vec<WaitId> {
        let over = self.reconsider(runner, |_| false);
        for id in self.of_runner.remove(&runner).into_iter().flatten() {
            if let Some(wait) = self.waits.get_mut(&id) {
                wait.runners.remove(&runner);
            }
        }
        over
    }

    /// Takes a wait out; returns the runners that are unconfirmed.
    pub(crate) fn remove(&mut self, id: WaitId) -> Option<BTreeSet<RunnerId>> {
        let Wait { deadline, runners, unconfirmed, .. } = self.waits.remove(&id)?;
        self.deadlines.remove(&(deadline, id));
        for runner in runners {
            if let Some(waits) = self.of_runner.get_mut(&runner) {
                waits.remove(&id);
                if waits.is_empty() {
                    self.of_runner.remove(&runner);
                }
            }
        }
        Some(unconfirmed)
    }

    /// The first deadline.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// A wait whose deadline is `now` or earlier.
    pub(crate) fn expired(&self, now: Instant) -> Option<WaitId> {
        self.deadlines.first().filter(|(deadline, _)| *deadline <= now).map(|(_, id)| *id)
    }
}
