//! Shares: limited resources are divided by team, then by deployment. A team may have as much as is left for others,
//! so that a team that asks for little always gets it. The operator is not limited by shares, and has a reserve.

use std::net::Ipv4Addr;

use mesh_proto::Label;

use crate::{Now, Refusal, RunningSeconds, State, limits, record::Deployment};

/// Refuses `more` of something to a team that holds `held`, if it would have more than is left. `taken` of `most` are
/// in use by all.
pub(crate) fn check(
    what: &'static str,
    team: &Label,
    (held, more): (usize, usize),
    (taken, most): (usize, usize),
) -> Result<(), Refusal> {
    let left = (most - most / limits::OPERATORS_PART).saturating_sub(taken);
    if more == 0 || held + more <= left {
        return Ok(());
    }
    Err(Refusal::Share { what, whose: format!("team `{team}`"), held })
}

impl State {
    /// How many more addresses a deployment may have, of those that are neither in use nor in quarantine.
    pub(crate) fn room_for_addresses(&self, deployment: &Deployment, now: Now) -> usize {
        let range = self.meta.network.range;
        // All but the first, the resolver's and the last.
        let most = (range.last().to_bits() - range.first().to_bits()) as usize - 2;
        let rest = self.first_at_rest(now);
        let at_rest = usize::try_from(self.meta.next.freed - rest).unwrap_or(usize::MAX);
        let left = most.saturating_sub(self.index.addresses.len()).saturating_sub(at_rest);
        let own = self.index.freed_of.get(&deployment.team).map_or(0, |orders| orders.range(rest..).count());
        let team = self.index.held.of_team(&deployment.team) + own;
        let share = |held: usize, left: usize| left.saturating_mul(limits::ADDRESSES_SHARE).saturating_sub(held);
        // A single team need not leave anything for others.
        let of_team = if self.index.deployments_of.len() > 1 { share(team, left).min(left) } else { left };
        match self.index.deployments_of.get(&deployment.team) {
            Some(all) if all.len() > 1 => share(self.index.held.of(deployment.id), of_team).min(of_team),
            _ => of_team,
        }
    }

    /// The first place in the order of reuse that is still in quarantine. Addresses were freed in that order.
    fn first_at_rest(&self, now: Now) -> u64 {
        let next = |order: u64| {
            let kinds = self.index.resting.values();
            kinds.filter_map(|kind| kind.range(order..).next()).map(|(order, address)| (*order, *address)).min()
        };
        let rests = |(_, address): (u64, Ipv4Addr)| {
            let freed = self.freed.get(&address);
            freed.is_none_or(|freed| self.now_rests(freed.at, now))
        };
        let (mut from, mut to) = (0, self.meta.next.freed);
        while from < to {
            let middle = from + (to - from) / 2;
            if next(middle).is_none_or(rests) { to = middle } else { from = middle + 1 }
        }
        next(from).map_or(self.meta.next.freed, |(order, _)| order)
    }

    fn now_rests(&self, freed: RunningSeconds, now: Now) -> bool {
        now.running.since(freed) < self.meta.quarantine
    }
}

#[cfg(test)]
mod tests;
