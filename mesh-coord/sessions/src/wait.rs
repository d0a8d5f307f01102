//! Waits for confirmations.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use mesh_proto::{Revision, RunnerId};

/// A wait, by its number since the coordinator's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaitId(u64);

/// How a wait treats runners that aren't connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// As unconfirmed: they may still act on what they knew.
    Unconfirmed,
    /// They don't count, so that they don't delay others.
    Ignored,
}

/// A wait.
#[derive(Debug)]
pub(crate) struct Wait {
    pub(crate) revision: Revision,
    pub(crate) absent: Absent,
    deadline: Instant,
    /// All runners that it waits for.
    runners: BTreeSet<RunnerId>,
    /// Those of them that are unconfirmed.
    unconfirmed: BTreeSet<RunnerId>,
}

/// All waits, by runner and by deadline.
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

    /// Whether any wait is for this runner.
    pub(crate) fn names(&self, runner: RunnerId) -> bool {
        self.of_runner.contains_key(&runner)
    }

    /// Updates for each wait whether the runner is unconfirmed. Returns the waits that are over.
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

    /// Forgets a removed runner. Returns the waits that are over without it.
    pub(crate) fn forget(&mut self, runner: RunnerId) -> Vec<WaitId> {
        let over = self.reconsider(runner, |_| false);
        for id in self.of_runner.remove(&runner).into_iter().flatten() {
            if let Some(wait) = self.waits.get_mut(&id) {
                wait.runners.remove(&runner);
            }
        }
        over
    }

    /// Removes a wait. Returns its unconfirmed runners.
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
