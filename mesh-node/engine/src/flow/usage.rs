//! How much each tenant uses of something shared: by team, by deployment, and by instance or, if the instance is
//! remote, by its runner. A hostile runner can pretend to be any instance on it, so that what calls from one runner is
//! counted together as well.
//!
//! At each level a tenant may use at most what it leaves to its siblings (Choudhury and Hahne, Dynamic queue length
//! thresholds, 1998), so that a small user always finds room.

use super::end::Target;
use crate::{
    index::{DeploymentIx, TeamIx},
    number::NumberMap,
};

/// What something counts for, in the current map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Tenant {
    pub(super) team: TeamIx,
    pub(super) deployment: DeploymentIx,
    /// The instance, or the runner that it is on.
    pub(super) leaf: Target,
}

/// The level at which a tenant uses too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Team,
    Deployment,
    Leaf,
    Runner,
}

/// How much is used, at every level.
#[derive(Debug, Default)]
pub(super) struct Usage {
    teams: NumberMap<u64, u32>,
    deployments: NumberMap<u64, u32>,
    leaves: NumberMap<u64, u32>,
    runners: NumberMap<u64, u32>,
    /// By runner and team.
    guests: NumberMap<u64, u32>,
    /// By the address of a remote caller.
    callers: NumberMap<u64, u32>,
}

/// A remote caller may have this many even if another one of its deployment on that runner uses up their share.
const LITTLE: u32 = 1024;

impl Usage {
    /// Starts again at zero, for a new map.
    pub(super) fn clear(&mut self) {
        let Self { teams, deployments, leaves, runners, guests, callers } = self;
        [teams, deployments, leaves, runners, guests, callers].into_iter().for_each(NumberMap::clear);
    }

    /// Adds one to the tenant's usage, for its instance with this address.
    pub(super) fn add(&mut self, tenant: Tenant, address: u32) {
        let more = |counts: &mut NumberMap<u64, u32>, key| *counts.entry(key).or_default() += 1;
        more(&mut self.teams, tenant.team.0.into());
        more(&mut self.deployments, tenant.deployment.0.into());
        more(&mut self.leaves, tenant.leaf_key());
        if let Target::Runner(runner) = tenant.leaf {
            more(&mut self.runners, runner.0.into());
            more(&mut self.guests, both(runner.0, tenant.team.0));
            more(&mut self.callers, address.into());
        }
    }

    /// Takes one off the tenant's usage.
    pub(super) fn remove(&mut self, tenant: Tenant, address: u32) {
        less(&mut self.teams, tenant.team.0.into());
        less(&mut self.deployments, tenant.deployment.0.into());
        less(&mut self.leaves, tenant.leaf_key());
        if let Target::Runner(runner) = tenant.leaf {
            less(&mut self.runners, runner.0.into());
            less(&mut self.guests, both(runner.0, tenant.team.0));
            less(&mut self.callers, address.into());
        }
    }

    /// The level at which the tenant has as much as it may, with `free` left for all and `most` for each instance. On
    /// another runner the caller with this address may have [`LITTLE`], and its deployment there a quarter more.
    pub(super) fn limit(&self, tenant: Tenant, address: u32, free: u32, most: u32) -> Option<Level> {
        let team = get(&self.teams, tenant.team.0.into());
        let Some(of_team) = room(free, team) else { return Some(Level::Team) };
        let Some(of_deployment) = room(of_team, get(&self.deployments, tenant.deployment.0.into())) else {
            return Some(Level::Deployment);
        };
        let leaf = get(&self.leaves, tenant.leaf_key());
        let own = if let Target::Runner(_) = tenant.leaf { get(&self.callers, address.into()) } else { leaf };
        let fits = |left: u32| leaf < left.min(most) || (own < left.min(LITTLE) && leaf < most + most / 4);
        if !fits(of_deployment) {
            return Some(Level::Leaf);
        }
        let Target::Runner(runner) = tenant.leaf else { return None };
        let of_runner = room(free, get(&self.runners, runner.0.into()));
        let of_guest = of_runner.and_then(|left| room(left, get(&self.guests, both(runner.0, tenant.team.0))));
        (!of_guest.is_some_and(fits)).then_some(Level::Runner)
    }

    /// The usage of the tenant's instance or runner.
    pub(super) fn of(&self, tenant: Tenant) -> u32 {
        get(&self.leaves, tenant.leaf_key())
    }

    pub(super) fn of_deployment(&self, tenant: Tenant) -> u32 {
        get(&self.deployments, tenant.deployment.0.into())
    }

    pub(super) fn of_team(&self, tenant: Tenant) -> u32 {
        get(&self.teams, tenant.team.0.into())
    }
}

/// What a user with `count` may still take of `left`. `None` if it would then have more than it leaves.
const fn room(left: u32, count: u32) -> Option<u32> {
    if count < left { Some(left - count) } else { None }
}

impl Tenant {
    const fn leaf_key(self) -> u64 {
        match self.leaf {
            Target::Instance(instance) => instance.0 as u64,
            Target::Runner(runner) => 1 << 63 | both(runner.0, self.deployment.0),
        }
    }
}

fn get(counts: &NumberMap<u64, u32>, key: u64) -> u32 {
    counts.get(&key).copied().unwrap_or(0)
}

/// Takes one off a count. Counts of zero are removed.
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
