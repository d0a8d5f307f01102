//! Which instance, or which runner, a new connection goes to.

use std::time::Instant;

use super::{Engine, refused::No};
use crate::{
    Reason,
    flow::{End, Seat, Way},
    route::{Owner, Place},
};

/// Who is to have a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pick {
    pub(super) seat: Seat,
    pub(super) way: Way,
}

/// How good a choice is; the least is the best. A moment ago refused; out of reach; far; how many connections each
/// instance there has (times 2²⁰); and what decides where all are equal.
type Rank = (bool, bool, bool, u64, u64);

impl Engine {
    /// Who should have a connection of `caller`, who is at `from`, to `callee`: the live instance with the fewest open
    /// connections, here if there is one here, else the runner with the fewest for each of its instances. Not one that is
    /// among `tried`. What comes from another runner stays on this one: it has chosen already.
    ///
    /// # Errors
    /// If there is nobody (left).
    pub(super) fn pick(
        &self,
        owner: Owner,
        caller: End,
        callee: End,
        from: Seat,
        tried: &[Seat],
        now: Instant,
    ) -> Result<Pick, No> {
        let route = &self.map.route;
        let service = route.service_of(owner);
        let mut best: Option<(Rank, Pick)> = None;
        let mut consider = |demoted: bool, far: bool, load: u64, pick: Pick| {
            if !tried.contains(&pick.seat) {
                let skipped = self.skips.holds(callee, pick.seat, now);
                let rank = (skipped, demoted, far, load, self.flows.tie(caller, callee, pick.seat));
                if best.is_none_or(|(least, _)| rank < least) {
                    best = Some((rank, pick));
                }
            }
        };
        let mut missing = false;
        let mut runners: Vec<(u32, u64)> = vec![];
        for instance in route.open_to(owner) {
            match route.instances[instance as usize].place {
                Place::Here if self.homes.port(instance).is_some() => {
                    let seat = Seat::Here(route.instances[instance as usize].id);
                    let load = u64::from(self.flows.open_here(instance)) << 20;
                    consider(false, false, load, Pick { seat, way: Way::Instance(instance) });
                }
                Place::Here => missing |= !self.homes.is_gone(instance),
                Place::There(runner) => match runners.iter_mut().find(|(known, _)| *known == runner) {
                    Some((_, instances)) => *instances += 1,
                    None => runners.push((runner, 1)),
                },
            }
        }
        if matches!(from, Seat::Here(_)) {
            for (runner, instances) in runners {
                let open = u64::from(self.flows.open_there(service, runner));
                let demoted = route.runners[runner as usize].silent || self.peers.is_demoted(runner, now);
                let seat = Seat::There(route.runners[runner as usize].id);
                consider(demoted, true, (open << 20) / instances, Pick { seat, way: Way::Runner(runner) });
            }
        }
        match best {
            Some((_, pick)) => Ok(pick),
            // While the agent starts, TUNs come back one by one: what is sent meanwhile is sent again by TCP.
            None if missing => Err(No::silent(Reason::NotAttached)),
            None => Err(No::nobody(Reason::NoLiveInstance)),
        }
    }

    /// Who has a connection that stood before it was followed here: by the ends alone, so that it stays the same.
    pub(super) fn guess(&self, owner: Owner, caller: End, callee: End, from: Seat) -> Result<Pick, No> {
        let route = &self.map.route;
        let picks = route.standing_at(owner).filter_map(|instance| {
            let found = &route.instances[instance as usize];
            match (found.place, from) {
                (Place::Here, _) if self.homes.is_gone(instance) => None,
                (Place::Here, _) => Some(Pick { seat: Seat::Here(found.id), way: Way::Instance(instance) }),
                (Place::There(runner), Seat::Here(_)) => {
                    let seat = Seat::There(route.runners[runner as usize].id);
                    Some(Pick { seat, way: Way::Runner(runner) })
                }
                (Place::There(_), Seat::There(_)) => None,
            }
        });
        let best =
            picks.min_by_key(|pick| (matches!(pick.seat, Seat::There(_)), self.flows.tie(caller, callee, pick.seat)));
        best.ok_or(No::nobody(Reason::NoLiveInstance))
    }
}
