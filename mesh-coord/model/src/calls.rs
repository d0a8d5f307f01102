//! What services call, by the hour: noted from what runners report, so that previews and pages know it after a restart
//! of the coordinator. It grants and takes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mesh_proto::{Label, ServiceId};

use crate::{
    Decision, Key, Now, Outcome, Record, State, UnixSeconds,
    draft::Draft,
    limits,
    record::{Callee, Calls, Noted, Passed, hour_of},
};

/// Adds it to the records, all at once.
pub(crate) fn note(state: &State, noted: &[Noted], now: Now) -> Decision {
    let mut after: BTreeMap<ServiceId, Calls> =
        state.calls.iter().map(|(id, calls)| (*id, (**calls).clone())).collect();
    let exists = |service: ServiceId| state.services.contains_key(&service);
    for one in noted.iter().filter(|one| exists(one.caller) && exists(one.callee)) {
        let calls = after.entry(one.caller).or_insert_with(|| Calls { caller: one.caller, callees: vec![] });
        calls.add(one, now.day);
    }
    for calls in after.values_mut() {
        let (caller, day) = (calls.caller, now.day);
        // A program of before these records may have removed the service.
        calls
            .callees
            .retain(|callee| exists(caller) && exists(callee.callee) && day.since(callee.last) < limits::CALLS_KEPT);
        keep_latest(&mut calls.callees, limits::CALLEES);
    }
    make_room(state, &mut after, limits::CALLS);
    let mut draft = Draft::new(state, now);
    for (caller, calls) in after {
        let before = state.calls.get(&caller);
        if calls.callees.is_empty() {
            if before.is_some() {
                draft.delete(Key::Calls(caller));
            }
        } else if before.is_none_or(|before| **before != calls) {
            draft.put(Record::Calls(Arc::new(calls)));
        }
    }
    draft.decided(Outcome::Noted)
}

impl Calls {
    fn add(&mut self, noted: &Noted, now: UnixSeconds) {
        // A clock that was wrong once must not keep it forever.
        let used = noted.used.min(now);
        let at = self.callees.binary_search_by_key(&noted.callee, |callee| callee.callee).unwrap_or_else(|at| {
            let new = Callee { callee: noted.callee, first: used, last: used, hours: vec![] };
            self.callees.insert(at, new);
            at
        });
        let callee = &mut self.callees[at];
        callee.last = callee.last.max(used).min(now);
        if noted.hour.passed() == Passed::default() {
            return;
        }
        match callee.hours.binary_search_by_key(&noted.hour.hour, |hour| hour.hour) {
            Ok(at) => {
                let hour = &mut callee.hours[at];
                hour.by_callers = hour.by_callers.plus(noted.hour.by_callers);
                hour.by_callees = hour.by_callees.plus(noted.hour.by_callees);
            }
            Err(at) => callee.hours.insert(at, noted.hour),
        }
        let this = hour_of(now);
        callee.hours.retain(|hour| hour.hour <= this && this - hour.hour < limits::HOURS);
    }
}

/// Drops those that are unused for the longest time.
fn keep_latest(callees: &mut Vec<Callee>, most: usize) {
    if callees.len() > most {
        callees.sort_by_key(|callee| std::cmp::Reverse(callee.last));
        callees.truncate(most);
        callees.sort_by_key(|callee| callee.callee);
    }
}

/// If there are more than `most`, the teams with most of them lose those that are unused for the longest time.
fn make_room(state: &State, all: &mut BTreeMap<ServiceId, Calls>, most: usize) {
    if all.values().map(|calls| calls.callees.len()).sum::<usize>() <= most {
        return;
    }
    let mut teams: BTreeMap<Option<Label>, Vec<(UnixSeconds, ServiceId, ServiceId)>> = BTreeMap::new();
    for calls in all.values() {
        let of_team = teams.entry(state.team_of_service(calls.caller)).or_default();
        of_team.extend(calls.callees.iter().map(|callee| (callee.last, calls.caller, callee.callee)));
    }
    let part = part_of_each(teams.values().map(Vec::len).collect(), most);
    let mut gone = BTreeSet::new();
    for of_team in teams.values_mut() {
        of_team.sort_unstable();
        let surplus = of_team.len().saturating_sub(part);
        gone.extend(of_team.iter().take(surplus).map(|(_, caller, callee)| (*caller, *callee)));
    }
    for calls in all.values_mut() {
        let caller = calls.caller;
        calls.callees.retain(|callee| !gone.contains(&(caller, callee.callee)));
    }
}

/// How many each may have at most, so that all together have at most `most`.
fn part_of_each(mut sizes: Vec<usize>, most: usize) -> usize {
    sizes.sort_unstable();
    let (mut left, mut others) = (most, sizes.len());
    for size in sizes {
        if size > left / others {
            return left / others;
        }
        left -= size;
        others -= 1;
    }
    most
}

impl State {
    /// What services call, as it was last noted.
    pub fn calls(&self) -> impl Iterator<Item = (ServiceId, &Callee)> {
        self.calls.values().flat_map(|calls| calls.callees.iter().map(|callee| (calls.caller, callee)))
    }

    /// What a service calls, as it was last noted.
    #[must_use]
    pub fn call(&self, caller: ServiceId, callee: ServiceId) -> Option<&Callee> {
        let callees = &self.calls.get(&caller)?.callees;
        callees.binary_search_by_key(&callee, |known| known.callee).ok().map(|at| &callees[at])
    }
}

#[cfg(test)]
mod tests;
