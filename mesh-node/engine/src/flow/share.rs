//! Who has how much of something that all share: by the team, the deployment, and the instance or, where the instance is
//! elsewhere, its runner. A hostile runner can claim what any instance on it claims, so what calls from a runner is
//! counted together as well.
//!
//! Each of them has at most as much as it leaves to its siblings (Choudhury and Hahne, Dynamic queue length thresholds,
//! 1998), level by level: however many fill the table, who has little finds room.

use super::Way;
use crate::number::NumberMap;

/// Whom something counts for, by indexes of the current map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Tenant {
    pub(super) team: u32,
    pub(super) deployment: u32,
    /// The instance, or the runner that it is on.
    pub(super) leaf: Way,
}

/// Where a tenant has too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Team,
    Deployment,
    Leaf,
    Runner,
}

/// What each tenant has.
#[derive(Debug, Default)]
pub(super) struct Shares {
    teams: NumberMap<u64, u32>,
    deployments: NumberMap<u64, u32>,
    leaves: NumberMap<u64, u32>,
    runners: NumberMap<u64, u32>,
    /// By the runner and the team.
    guests: NumberMap<u64, u32>,
    /// By the address of a caller on another runner.
    callers: NumberMap<u64, u32>,
}

/// So much a caller on another runner may have though another one of its deployment there has all.
const LITTLE: u32 = 1024;

impl Shares {
    /// There is a new map, and nothing has been counted in it yet.
    pub(super) fn clear(&mut self) {
        let Self { teams, deployments, leaves, runners, guests, callers } = self;
        [teams, deployments, leaves, runners, guests, callers].into_iter().for_each(NumberMap::clear);
    }

    /// The tenant has one more, which its instance with this address pays for.
    pub(super) fn add(&mut self, tenant: Tenant, address: u32) {
        let more = |counts: &mut NumberMap<u64, u32>, key| *counts.entry(key).or_default() += 1;
        more(&mut self.teams, tenant.team.into());
        more(&mut self.deployments, tenant.deployment.into());
        more(&mut self.leaves, tenant.leaf_key());
        if let Way::Runner(runner) = tenant.leaf {
            more(&mut self.runners, runner.into());
            more(&mut self.guests, both(runner, tenant.team));
            more(&mut self.callers, address.into());
        }
    }

    /// The tenant has one less.
    pub(super) fn remove(&mut self, tenant: Tenant, address: u32) {
        less(&mut self.teams, tenant.team.into());
        less(&mut self.deployments, tenant.deployment.into());
        less(&mut self.leaves, tenant.leaf_key());
        if let Way::Runner(runner) = tenant.leaf {
            less(&mut self.runners, runner.into());
            less(&mut self.guests, both(runner, tenant.team));
            less(&mut self.callers, address.into());
        }
    }

    /// Where the tenant has as much as it may, with `free` left for all and `most` for each instance. On another runner
    /// the one with this address is let have a little, and all of its deployment there a quarter more.
    pub(super) fn limit(&self, tenant: Tenant, address: u32, free: u32, most: u32) -> Option<Level> {
        let team = get(&self.teams, tenant.team.into());
        let Some(of_team) = room(free, team) else { return Some(Level::Team) };
        let Some(of_deployment) = room(of_team, get(&self.deployments, tenant.deployment.into())) else {
            return Some(Level::Deployment);
        };
        let leaf = get(&self.leaves, tenant.leaf_key());
        let own = if let Way::Runner(_) = tenant.leaf { get(&self.callers, address.into()) } else { leaf };
        let fits = |left: u32| leaf < left.min(most) || (own < left.min(LITTLE) && leaf < most + most / 4);
        if !fits(of_deployment) {
            return Some(Level::Leaf);
        }
        let Way::Runner(runner) = tenant.leaf else { return None };
        let of_runner = room(free, get(&self.runners, runner.into()));
        let of_guest = of_runner.and_then(|left| room(left, get(&self.guests, both(runner, tenant.team))));
        (!of_guest.is_some_and(fits)).then_some(Level::Runner)
    }

    /// How much the tenant has.
    pub(super) fn of(&self, tenant: Tenant) -> u32 {
        get(&self.leaves, tenant.leaf_key())
    }

    /// How much its deployment has, and its team.
    pub(super) fn above(&self, tenant: Tenant) -> (u32, u32) {
        (get(&self.deployments, tenant.deployment.into()), get(&self.teams, tenant.team.into()))
    }
}

/// What who has `count` may still take of what is left: nothing if that would be more than it leaves.
const fn room(left: u32, count: u32) -> Option<u32> {
    if count < left { Some(left - count) } else { None }
}

impl Tenant {
    const fn leaf_key(self) -> u64 {
        match self.leaf {
            Way::Instance(instance) => instance as u64,
            Way::Runner(runner) => 1 << 63 | both(runner, self.deployment),
        }
    }
}

fn get(counts: &NumberMap<u64, u32>, key: u64) -> u32 {
    counts.get(&key).copied().unwrap_or(0)
}

pub(super) fn less(counts: &mut NumberMap<u64, u32>, key: u64) {
    if let Some(count) = counts.get_mut(&key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

pub(super) const fn both(a: u32, b: u32) -> u64 {
    (a as u64) << 32 | b as u64
}
