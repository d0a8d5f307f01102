//! The SYNs that are kept, to be sent to another instance should one refuse: shared by the callers, so that a flood of
//! one takes no other's.

use std::collections::{HashMap, VecDeque};

use super::{hash::Seeded, share::Tenant};

/// How many are kept at most, and how long one may be: it may carry data (RFC 7413), which nobody has to keep.
const KEPT: usize = 4096;
pub(super) const KEPT_OCTETS: usize = 2048;

/// Attempts that can be moved, by whose they are, oldest first: slots with their generations.
pub(super) struct Kept {
    queues: HashMap<Tenant, VecDeque<(u32, u64)>, Seeded>,
    len: usize,
}

impl Kept {
    pub(super) fn new(seed: u64) -> Self {
        Self { queues: HashMap::with_hasher(Seeded(seed)), len: 0 }
    }

    /// Adds one. Gives the one whose SYN is kept no longer: the oldest of who has most, in the team that has most.
    pub(super) fn push(&mut self, tenant: Tenant, slot: u32, generation: u64) -> Option<(u32, u64)> {
        self.queues.entry(tenant).or_default().push_back((slot, generation));
        self.len += 1;
        if self.len <= KEPT { None } else { self.pop() }
    }

    fn pop(&mut self) -> Option<(u32, u64)> {
        let mut teams: Vec<(u32, usize)> = vec![];
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

    /// There is a new map, by which `whose` says whose each attempt is, if it is one still.
    pub(super) fn rekey(&mut self, whose: impl Fn(u32, u64) -> Option<Tenant>) {
        self.len = 0;
        let mut before: Vec<_> = self.queues.drain().collect();
        before.sort_unstable_by_key(|(tenant, _)| *tenant);
        for (slot, generation) in before.into_iter().flat_map(|(_, queue)| queue) {
            if let Some(tenant) = whose(slot, generation) {
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
