//! How many flows stand, by whom they concern: kept as they come and go, never counted over.

use mesh_proto::RunnerId;

use super::{
    Flow, Phase, Role, Seat, Way,
    share::{Level, Shares, Tenant, both, less},
};
use crate::{filter::Filter, number::NumberMap, route::Route};

/// The counts of standing flows.
#[derive(Debug, Default)]
pub(super) struct Counts {
    all: usize,
    /// Those of them that only one end has spoken for.
    claimed: usize,
    /// By the identifier of the other runner.
    links: NumberMap<u64, u32>,
    shares: Shares,
    /// Those that nobody has answered.
    half: Shares,
    /// The team of each deployment in the current map.
    teams: Box<[u32]>,
    /// By the called instance, if it is here: an index of the current route.
    here: Vec<u32>,
    /// By the called service and the other runner that it is called on: indexes of the current route.
    there: NumberMap<u64, u32>,
}

impl Counts {
    /// There is a new map, in which nobody has been counted yet.
    pub(super) fn clear(&mut self, route: &Route, filter: &Filter) {
        self.teams = filter.teams();
        (self.all, self.claimed) = (0, 0);
        self.links.clear();
        self.shares.clear();
        self.half.clear();
        self.here.clear();
        self.here.resize(route.instances.len(), 0);
        self.there.clear();
    }

    /// A flow stands from now on, if it does at all.
    pub(super) fn enter(&mut self, flow: &Flow) {
        if !flow.pin.phase.stands() {
            return;
        }
        self.all += 1;
        self.claimed += usize::from(flow.pin.phase == Phase::Claimed);
        runners(flow).for_each(|runner| *self.links.entry(runner).or_default() += 1);
        let Some(resolved) = flow.resolved else { return };
        if let Some(tenant) = self.tenant(flow) {
            self.shares.add(tenant, payer(flow));
            if flow.pin.phase == Phase::Opening {
                self.half.add(tenant, payer(flow));
            }
        }
        if flow.pin.phase == Phase::Claimed {
            return; // no load yet
        }
        match resolved.ways[Role::Callee as usize] {
            Way::Instance(instance) => {
                if let Some(count) = self.here.get_mut(instance as usize) {
                    *count += 1;
                }
            }
            Way::Runner(runner) => *self.there.entry(both(resolved.service, runner)).or_default() += 1,
        }
    }

    /// It does no longer, or is about to change.
    pub(super) fn leave(&mut self, flow: &Flow) {
        if !flow.pin.phase.stands() {
            return;
        }
        self.all = self.all.saturating_sub(1);
        self.claimed = self.claimed.saturating_sub(usize::from(flow.pin.phase == Phase::Claimed));
        runners(flow).for_each(|runner| less(&mut self.links, runner));
        let Some(resolved) = flow.resolved else { return };
        if let Some(tenant) = self.tenant(flow) {
            self.shares.remove(tenant, payer(flow));
            if flow.pin.phase == Phase::Opening {
                self.half.remove(tenant, payer(flow));
            }
        }
        if flow.pin.phase == Phase::Claimed {
            return; // no load yet
        }
        match resolved.ways[Role::Callee as usize] {
            Way::Instance(instance) => {
                if let Some(count) = self.here.get_mut(instance as usize) {
                    *count = count.saturating_sub(1);
                }
            }
            Way::Runner(runner) => less(&mut self.there, both(resolved.service, runner)),
        }
    }

    /// Whom a flow counts for.
    pub(super) fn tenant(&self, flow: &Flow) -> Option<Tenant> {
        let resolved = flow.resolved?;
        let deployment = resolved.deployments[flow.payer as usize];
        let team = self.teams.get(deployment as usize).copied()?;
        Some(Tenant { team, deployment, leaf: resolved.ways[flow.payer as usize] })
    }

    /// Where whom a flow counts for has as many as it may, of `capacity` in all and `most` for each.
    pub(super) fn limit(&self, flow: &Flow, capacity: u32, most: u32) -> Option<Level> {
        let Some(tenant) = self.tenant(flow) else { return Some(Level::Team) };
        let free = capacity.saturating_sub(self.all as u32);
        self.shares.limit(tenant, payer(flow), free, most)
    }

    /// Whether `greedy` has more that nobody has answered than `tenant` has in all, at the first level where they differ.
    pub(super) fn is_greedier(&self, greedy: Tenant, tenant: Tenant) -> bool {
        let (half, all) = (self.half.above(greedy), self.shares.above(tenant));
        if greedy.team != tenant.team {
            half.1 > all.1
        } else if greedy.deployment != tenant.deployment {
            half.0 > all.0
        } else {
            greedy.leaf != tenant.leaf && self.half.of(greedy) > self.shares.of(tenant)
        }
    }

    #[cfg(test)]
    pub(super) fn all_of(&self, tenant: Tenant) -> u32 {
        self.shares.of(tenant)
    }

    /// The other runners with which flows stand.
    pub(super) fn linked(&self) -> impl Iterator<Item = RunnerId> {
        self.links.keys().copied().map(RunnerId)
    }

    pub(super) const fn acknowledged(&self) -> usize {
        self.all - self.claimed
    }

    #[inline]
    pub(super) fn here(&self, instance: u32) -> u32 {
        self.here.get(instance as usize).copied().unwrap_or(0)
    }

    #[inline]
    pub(super) fn there(&self, service: u32, runner: u32) -> u32 {
        self.there.get(&both(service, runner)).copied().unwrap_or(0)
    }
}

/// The address of the end that a flow counts for.
fn payer(flow: &Flow) -> u32 {
    flow.end(flow.payer).address.into()
}

fn runners(flow: &Flow) -> impl Iterator<Item = u64> + use<> {
    [flow.pin.caller_seat, flow.pin.callee_seat].into_iter().filter_map(|seat| match seat {
        Seat::There(runner) => Some(runner.0),
        Seat::Here(_) => None,
    })
}
