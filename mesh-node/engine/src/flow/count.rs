//! The number of standing flows, for everything that they are counted by. The counts are kept up to date as flows come
//! and go.

use mesh_proto::RunnerId;

use super::{
    end::{Location, Phase, Role, Target},
    entry::Flow,
    pairs::Pairs,
    usage::{Level, Tenant, Usage, both, less},
};
use crate::{
    filter::Filter,
    index::{DeploymentIx, InstanceIx, IxVec, PoolIx, RunnerIx, ServiceIx, TeamIx},
    number::NumberMap,
    route::Route,
};

#[derive(Debug, Default)]
pub(super) struct Counts {
    all: usize,
    /// How many of them are claims of one end.
    claimed: usize,
    /// By the identifier of the other runner.
    links: NumberMap<u64, u32>,
    usage: Usage,
    /// Of unanswered attempts only.
    unanswered: Usage,
    teams: IxVec<DeploymentIx, TeamIx>,
    /// By the called instance, if that is local.
    here: IxVec<InstanceIx, u32>,
    /// By the called service and the runner of the callee.
    there: NumberMap<u64, u32>,
    /// Those of them whose callers prefer one release, by its instances and the runner of the callee.
    preferring: NumberMap<u64, u32>,
    /// By the pair of services.
    pub(super) pairs: Pairs,
}

impl Counts {
    /// Starts again at zero, for a new map. Returns whether pairs have other positions now.
    pub(super) fn clear(&mut self, route: &Route, filter: &Filter) -> bool {
        self.teams = filter.teams();
        (self.all, self.claimed) = (0, 0);
        self.links.clear();
        self.usage.clear();
        self.unanswered.clear();
        self.here.reset(route.instances.len(), 0);
        self.there.clear();
        self.preferring.clear();
        self.pairs.begin_map(route)
    }

    /// Counts a flow, if it stands.
    pub(super) fn enter(&mut self, flow: &Flow) {
        if !flow.pin.phase.stands() {
            return;
        }
        self.all += 1;
        self.pairs.enter(flow);
        self.claimed += usize::from(flow.pin.phase == Phase::Claimed);
        runners(flow).for_each(|runner| *self.links.entry(runner).or_default() += 1);
        let Some(resolved) = flow.resolved else { return };
        if let Some(tenant) = self.tenant(flow) {
            self.usage.add(tenant, payer(flow));
            if flow.pin.phase == Phase::Opening {
                self.unanswered.add(tenant, payer(flow));
            }
        }
        if flow.pin.phase == Phase::Claimed {
            return; // no load yet
        }
        match resolved.targets[Role::Callee as usize] {
            Target::Instance(instance) => {
                if let Some(count) = self.here.get_mut(instance) {
                    *count += 1;
                }
            }
            Target::Runner(runner) => {
                *self.there.entry(both(resolved.services[1].0, runner.0)).or_default() += 1;
                if let Some(pool) = resolved.preferred {
                    *self.preferring.entry(both(pool.0, runner.0)).or_default() += 1;
                }
            }
        }
    }

    /// Takes a flow off the counts, if it stands, before it ends or changes.
    pub(super) fn leave(&mut self, flow: &Flow) {
        if !flow.pin.phase.stands() {
            return;
        }
        self.all = self.all.saturating_sub(1);
        self.pairs.leave(flow);
        self.claimed = self.claimed.saturating_sub(usize::from(flow.pin.phase == Phase::Claimed));
        runners(flow).for_each(|runner| less(&mut self.links, runner));
        let Some(resolved) = flow.resolved else { return };
        if let Some(tenant) = self.tenant(flow) {
            self.usage.remove(tenant, payer(flow));
            if flow.pin.phase == Phase::Opening {
                self.unanswered.remove(tenant, payer(flow));
            }
        }
        if flow.pin.phase == Phase::Claimed {
            return; // no load yet
        }
        match resolved.targets[Role::Callee as usize] {
            Target::Instance(instance) => {
                if let Some(count) = self.here.get_mut(instance) {
                    *count = count.saturating_sub(1);
                }
            }
            Target::Runner(runner) => {
                less(&mut self.there, both(resolved.services[1].0, runner.0));
                if let Some(pool) = resolved.preferred {
                    less(&mut self.preferring, both(pool.0, runner.0));
                }
            }
        }
    }

    /// The tenant that a flow counts for.
    pub(super) fn tenant(&self, flow: &Flow) -> Option<Tenant> {
        let resolved = flow.resolved?;
        let deployment = resolved.deployments[flow.payer as usize];
        let team = self.teams.get(deployment).copied()?;
        Some(Tenant { team, deployment, leaf: resolved.targets[flow.payer as usize] })
    }

    /// The level at which the flow's tenant has as many as it may, of `capacity` in all and `most` for each instance.
    pub(super) fn limit(&self, flow: &Flow, capacity: u32, most: u32) -> Option<Level> {
        let Some(tenant) = self.tenant(flow) else { return Some(Level::Team) };
        let free = capacity.saturating_sub(self.all as u32);
        self.usage.limit(tenant, payer(flow), free, most)
    }

    /// Whether `greedy` has more unanswered attempts than `tenant` has flows, at the first level where they differ.
    pub(super) fn is_greedier(&self, greedy: Tenant, tenant: Tenant) -> bool {
        if greedy.team != tenant.team {
            self.unanswered.of_team(greedy) > self.usage.of_team(tenant)
        } else if greedy.deployment != tenant.deployment {
            self.unanswered.of_deployment(greedy) > self.usage.of_deployment(tenant)
        } else {
            greedy.leaf != tenant.leaf && self.unanswered.of(greedy) > self.usage.of(tenant)
        }
    }

    #[cfg(test)]
    pub(super) fn all_of(&self, tenant: Tenant) -> u32 {
        self.usage.of(tenant)
    }

    /// The other runners with which flows stand.
    pub(super) fn linked(&self) -> impl Iterator<Item = RunnerId> {
        self.links.keys().copied().map(RunnerId)
    }

    pub(super) const fn acknowledged(&self) -> usize {
        self.all - self.claimed
    }

    #[inline]
    pub(super) fn here(&self, instance: InstanceIx) -> u32 {
        self.here.get(instance).copied().unwrap_or(0)
    }

    #[inline]
    pub(super) fn there(&self, service: ServiceIx, preferring: Option<PoolIx>, runner: RunnerIx) -> u32 {
        let count = match preferring {
            Some(pool) => self.preferring.get(&both(pool.0, runner.0)),
            None => self.there.get(&both(service.0, runner.0)),
        };
        count.copied().unwrap_or(0)
    }
}

/// The address of the end that a flow counts for.
fn payer(flow: &Flow) -> u32 {
    flow.end(flow.payer).address.into()
}

fn runners(flow: &Flow) -> impl Iterator<Item = u64> + use<> {
    [flow.pin.caller_location, flow.pin.callee_location].into_iter().filter_map(|location| match location {
        Location::There(runner) => Some(runner.0),
        Location::Here(_) => None,
    })
}
