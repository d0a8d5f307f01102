//! Chooses the instance or the runner that gets a new connection.

use std::time::Instant;

use super::{core::Core, rejection::Rejection};
use crate::{
    Reason,
    flow::{End, Location, Target},
    index::RunnerIx,
    route::{Owner, RunsOn},
};

/// A connection that needs a callee.
#[derive(Clone, Copy)]
pub(super) struct Call {
    pub(super) caller: End,
    pub(super) callee: End,
    /// Where the caller is.
    pub(super) from: Location,
    /// The owner of the callee's address.
    pub(super) owner: Owner,
}

/// The callee of a connection, by identifier and in the current map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) location: Location,
    pub(super) target: Target,
}

/// How good a candidate is: the least is the best, the first field counts most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    refused_lately: bool,
    unreachable: bool,
    /// It runs another release than the caller, and the service has one of the caller's.
    other_release: bool,
    remote: bool,
    /// Open connections for each of its instances, times 2²⁰.
    load: u64,
    /// Decides between equals.
    tie: u64,
}

impl Core {
    /// Chooses a callee: the live instance with the fewest open connections if one is local, else the runner with the
    /// fewest for each of its instances. Those of the caller's release come before all others. Candidates in `tried` are
    /// left out. A connection from another runner stays on this one: that runner has chosen already.
    ///
    /// # Errors
    /// If no candidate is left.
    pub(super) fn choose(&self, call: &Call, tried: &[Location], now: Instant) -> Result<Choice, Rejection> {
        let route = &self.map.route;
        let service = route.service_of(call.owner);
        let mut best: Option<(Rank, Choice)> = None;
        let preferred = route.owner(call.caller.address).and_then(|caller| route.preferred(caller, service));
        let mut consider = |unreachable: bool, other_release: bool, remote: bool, load: u64, choice: Choice| {
            if !tried.contains(&choice.location) {
                let refused_lately = self.skips.holds(call.callee, choice.location, now);
                let tie = self.flows.tie(call.caller, call.callee, choice.location);
                let rank = Rank { refused_lately, unreachable, other_release, remote, load, tie };
                if best.is_none_or(|(least, _)| rank < least) {
                    best = Some((rank, choice));
                }
            }
        };
        let mut missing = false;
        let mut runners: Vec<(RunnerIx, bool, u64)> = vec![];
        for instance in route.open_to(call.owner) {
            let other_release = preferred.is_some_and(|pool| route.instances[instance].pool != Some(pool));
            match route.instances[instance].runs_on {
                RunsOn::ThisRunner if self.ports.port(instance).is_some() => {
                    let location = Location::Here(route.instances[instance].id);
                    let load = u64::from(self.flows.open_here(instance)) << 20;
                    consider(
                        false,
                        other_release,
                        false,
                        load,
                        Choice { location, target: Target::Instance(instance) },
                    );
                }
                RunsOn::ThisRunner => missing |= !self.ports.has_ended(instance),
                RunsOn::Runner(runner) => {
                    let is_it =
                        |(known, other, _): &&mut (RunnerIx, bool, u64)| (*known, *other) == (runner, other_release);
                    match runners.iter_mut().find(is_it) {
                        Some((_, _, instances)) => *instances += 1,
                        None => runners.push((runner, other_release, 1)),
                    }
                }
            }
        }
        if matches!(call.from, Location::Here(_)) {
            for (runner, other_release, instances) in runners {
                let pool = preferred.filter(|_| !other_release);
                let open = u64::from(self.flows.open_there(service, pool, runner));
                let unreachable = route.runners[runner].silent || self.peers.is_demoted(runner, now);
                let location = Location::There(route.runners[runner].id);
                consider(
                    unreachable,
                    other_release,
                    true,
                    (open << 20) / instances,
                    Choice { location, target: Target::Runner(runner) },
                );
            }
        }
        match best {
            Some((_, choice)) => Ok(choice),
            // While the agent starts, TUNs come back one by one. TCP retransmits what arrives meanwhile.
            None if missing => Err(Rejection::silent(Reason::NotAttached)),
            None => Err(Rejection::no_host(Reason::NoLiveInstance)),
        }
    }

    /// Guesses the callee of a connection that stood before this engine followed it: by its ends alone, so that the
    /// guess never changes. `other` is the end that is looked for, at the address of `owner`.
    pub(super) fn guess(&self, owner: Owner, sender: End, other: End, from: Location) -> Result<Choice, Rejection> {
        let route = &self.map.route;
        let choices = route.standing_at(owner).filter_map(|instance| {
            let found = &route.instances[instance];
            match (found.runs_on, from) {
                (RunsOn::ThisRunner, _) if self.ports.has_ended(instance) => None,
                (RunsOn::ThisRunner, _) => {
                    Some(Choice { location: Location::Here(found.id), target: Target::Instance(instance) })
                }
                (RunsOn::Runner(runner), Location::Here(_)) => {
                    let location = Location::There(route.runners[runner].id);
                    Some(Choice { location, target: Target::Runner(runner) })
                }
                (RunsOn::Runner(_), Location::There(_)) => None,
            }
        });
        let rank = |choice: &Choice| {
            let remote = matches!(choice.location, Location::There(_));
            (remote, self.flows.tie(sender, other, choice.location))
        };
        choices.min_by_key(rank).ok_or(Rejection::no_host(Reason::NoLiveInstance))
    }
}
