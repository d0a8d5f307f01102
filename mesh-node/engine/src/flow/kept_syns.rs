//! The kept SYNs, which are sent to another instance when one refuses. The room is shared by the callers, so that a
//! flood from one doesn't displace the SYNs of others.

use std::collections::{HashMap, VecDeque};

use super::{hash::Seeded, usage::Tenant};
use crate::index::{Slot, TeamIx};

/// How many SYNs are kept at most, and how long one may be: a SYN may carry data (RFC 7413), which need not be kept.
const KEPT: usize = 4096;
pub(super) const KEPT_BYTES: usize = 2048;

/// The attempts that can be moved, oldest first for each tenant: slots with their generations.
pub(super) struct KeptSyns {
    queues: HashMap<Tenant, VecDeque<(Slot, u64)>, Seeded>,
    len: usize,
}

impl KeptSyns {
    pub(super) fn new(seed: u64) -> Self {
        Self { queues: HashMap::with_hasher(Seeded(seed)), len: 0 }
    }

    /// Adds an attempt. Returns the one whose SYN has to go: the oldest of the tenant with most, in the team with most.
    pub(super) fn push(&mut self, tenant: Tenant, slot: Slot, generation: u64) -> Option<(Slot, u64)> {
        self.queues.entry(tenant).or_default().push_back((slot, generation));
        self.len += 1;
        if self.len <= KEPT { None } else { self.pop() }
    }

    fn pop(&mut self) -> Option<(Slot, u64)> {
        let mut teams: Vec<(TeamIx, usize)> = vec![];
        for (tenant, queue) in &self.queues {
            match teams.iter_mut().find(|(team, _)| *team == tenant.team) {
                Some((_, count)) => *count += queue.len(),
                None => teams.push((tenant.team, queue.len())),
            }
        }
        let (team, _) = teams.into_iter().max_by_key(|(team, count)| (*count, *team))?;
        let of_team = self.queues.iter().filter(|(tenant, _)| tenant.team == team);
        let tenant = *of_team.max_by_key(|(tenant, queue)| (queue.len(), **tenant))?.0;
        let queue = self.queues.get_mut(&tenant)?;
        let oldest = queue.pop_front();
        self.len -= usize::from(oldest.is_some());
        if queue.is_empty() {
            self.queues.remove(&tenant);
        }
        oldest
    }

    /// Assigns the attempts to the tenants of a new map. `tenant` returns `None` for what is no attempt any more.
    pub(super) fn rekey(&mut self, tenant: impl Fn(Slot, u64) -> Option<Tenant>) {
        self.len = 0;
        let mut before: Vec<_> = self.queues.drain().collect();
        before.sort_unstable_by_key(|(tenant, _)| *tenant);
        for (slot, generation) in before.into_iter().flat_map(|(_, queue)| queue) {
            if let Some(tenant) = tenant(slot, generation) {
                self.queues.entry(tenant).or_default().push_back((slot, generation));
                self.len += 1;
            }
        }
    }

    #[cfg(test)]
    pub(super) const fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
pub(super) const MOST: usize = KEPT;
