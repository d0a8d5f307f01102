//! The reference: which service may call which, in as few lines as possible and independently of the model.

use std::collections::{BTreeMap, BTreeSet};

/// A service: a deployment's number and a service's within it.
pub type Service = (usize, usize);

/// A release, by its number; `None`: it wasn't told.
pub type Release = Option<u32>;

/// Whether an instance of the release `answers` may get a call of one of the release `calls`, if the callee has instances
/// of the releases `live`.
#[must_use]
pub fn may_answer((caller, calls): (Service, Release), callee: Service, answers: Release, live: &[Release]) -> bool {
    let keeps_to_itself = calls.is_some() && caller.0 == callee.0 && live.contains(&calls);
    !keeps_to_itself || answers == calls
}

/// The requests of the operators.
#[derive(Debug, Default)]
pub struct Reference {
    /// Each deployment's team.
    pub teams: BTreeMap<usize, usize>,
    /// The services that exist.
    pub services: BTreeSet<Service>,
    /// The callee trusts the caller, on this port only if there is one.
    pub trust: BTreeSet<(usize, usize, Option<u16>)>,
}

impl Reference {
    /// Whether `caller` may open a connection to `port` of `callee`.
    #[must_use]
    pub fn may_open(&self, caller: Service, callee: Service, port: u16) -> bool {
        let both_exist = self.services.contains(&caller) && self.services.contains(&callee);
        let trusted = [None, Some(port)].iter().any(|p| self.trust.contains(&(callee.0, caller.0, *p)));
        let same_team = self.teams.get(&caller.0) == self.teams.get(&callee.0);
        both_exist && (caller.0 == callee.0 || (same_team && trusted))
    }
}
