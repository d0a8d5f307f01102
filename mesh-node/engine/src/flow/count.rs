//! How many flows stand, by whom they concern: kept as they come and go, never counted over.

use mesh_proto::{InstanceId, RunnerId};

use super::{Pin, Resolved, Role, Seat, Way};
use crate::{number::NumberMap, route::Route};

/// The counts of standing flows.
#[derive(Debug, Default)]
pub(super) struct Counts {
    all: usize,
    /// By the calling instance's identifier.
    callers: NumberMap<u64, u32>,
    /// By the identifier of the other runner.
    runners: NumberMap<u64, u32>,
    /// By the identifier of the other runner, whoever calls: while there are any, the path is kept open.
    linked: NumberMap<u64, u32>,
    /// By the called instance, if it is here: an index of the current route.
    here: Vec<u32>,
    /// By the called service and the other runner that it is called on: indexes of the current route.
    there: NumberMap<u64, u32>,
}

impl Counts {
    /// A flow stands from now on.
    pub(super) fn enter(&mut self, pin: &Pin) {
        if pin.phase.stands() {
            self.all += 1;
            *self.callers.entry(pin.caller_is.0).or_default() += 1;
            runners(pin).for_each(|runner| *self.runners.entry(runner).or_default() += 1);
            runners(pin).for_each(|runner| *self.linked.entry(runner).or_default() += 1);
        }
    }

    /// It does no longer.
    pub(super) fn leave(&mut self, pin: &Pin) {
        self.all = self.all.saturating_sub(1);
        less(&mut self.callers, pin.caller_is.0);
        runners(pin).for_each(|runner| less(&mut self.runners, runner));
        runners(pin).for_each(|runner| less(&mut self.linked, runner));
    }

    /// A standing flow has this place in the current map.
    pub(super) fn place(&mut self, pin: &Pin, resolved: &Resolved) {
        if !pin.phase.stands() {
            return;
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

    /// It has it no longer.
    pub(super) fn displace(&mut self, resolved: &Resolved) {
        match resolved.ways[Role::Callee as usize] {
            Way::Instance(instance) => {
                if let Some(count) = self.here.get_mut(instance as usize) {
                    *count = count.saturating_sub(1);
                }
            }
            Way::Runner(runner) => less(&mut self.there, both(resolved.service, runner)),
        }
    }

    /// There is a new map, in which nobody has a place yet.
    pub(super) fn forget_places(&mut self, route: &Route) {
        self.here.clear();
        self.here.resize(route.instances.len(), 0);
        self.there.clear();
    }

    /// The other runners that have an end of a flow.
    pub(super) fn linked(&self) -> impl Iterator<Item = RunnerId> {
        self.linked.keys().map(|runner| RunnerId(*runner))
    }

    pub(super) const fn standing(&self) -> usize {
        self.all
    }

    pub(super) fn of_caller(&self, instance: InstanceId) -> u32 {
        self.callers.get(&instance.0).copied().unwrap_or(0)
    }

    /// The counts of the other runners that a flow concerns.
    pub(super) fn with_runners(&self, pin: &Pin) -> impl Iterator<Item = u32> {
        runners(pin).map(|runner| self.runners.get(&runner).copied().unwrap_or(0))
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

fn runners(pin: &Pin) -> impl Iterator<Item = u64> + use<> {
    [pin.caller_seat, pin.callee_seat].into_iter().filter_map(|seat| match seat {
        Seat::There(runner) => Some(runner.0),
        Seat::Here(_) => None,
    })
}

fn less(counts: &mut NumberMap<u64, u32>, key: u64) {
    if let Some(count) = counts.get_mut(&key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

const fn both(service: u32, runner: u32) -> u64 {
    (service as u64) << 32 | runner as u64
}
