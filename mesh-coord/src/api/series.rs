//! What passed between services by the hour.

use std::{cmp::Reverse, collections::BTreeMap};

use mesh_model::{
    Admin, Noted, UnixSeconds, hour_of, limits,
    record::{Hour, Passed},
};
use mesh_proto::{ServiceId, ServicePath};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{VERSION, traffic::matches};
use crate::coordinator::Core;

/// The most pairs in one answer.
const PAIRS: usize = 500;
/// An hour, in seconds.
const STEP: u64 = 3600;

/// What is asked.
#[derive(Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SeriesQuery {
    /// Only connections of this service, or of this deployment's services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
    /// Only connections to this service, or to this deployment's services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<String>,
}

/// What passed between services in the last hours.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Series {
    pub(crate) version: u32,
    /// When the first of the hours began.
    pub(crate) begins: UnixSeconds,
    /// The length of an hour in seconds.
    pub(crate) step: u64,
    /// Pairs of services, those that were in use last first; at most [`PAIRS`].
    pub(crate) series: Vec<OfPair>,
}

/// What passed from one service to another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct OfPair {
    pub(crate) from: ServicePath,
    pub(crate) to: ServicePath,
    /// How long ago it was last in use.
    pub(crate) used_seconds: u64,
    /// Connections that were accepted in each hour.
    pub(crate) opened: Vec<u64>,
    /// Bytes in each hour, both ways.
    pub(crate) bytes: Vec<u64>,
}

impl Series {
    /// What the reader may see of what is in the records and of what isn't yet: both ends have to be of its teams.
    pub(crate) fn of(core: &Core, unnoted: Vec<Noted>, reader: &Admin, query: &SeriesQuery, now: UnixSeconds) -> Self {
        let mut pairs: BTreeMap<(ServiceId, ServiceId), (UnixSeconds, Vec<Hour>)> = BTreeMap::new();
        for (caller, known) in core.state.calls() {
            pairs.insert((caller, known.callee), (known.last, known.hours.clone()));
        }
        for Noted { caller, callee, used, hour } in unnoted {
            let (last, hours) = pairs.entry((caller, callee)).or_default();
            *last = (*last).max(used);
            hours.push(hour);
        }
        let this = hour_of(now);
        let pair = |((caller, callee), (last, hours)): (_, (UnixSeconds, Vec<Hour>))| {
            let (from, to) = (core.state.path_for(reader, caller)?, core.state.path_for(reader, callee)?);
            let wanted = matches(query.from.as_deref(), &from) && matches(query.to.as_deref(), &to);
            wanted.then(|| {
                let (opened, bytes) = by_hour(&hours, this);
                OfPair { from, to, used_seconds: now.since(last), opened, bytes }
            })
        };
        let mut series: Vec<OfPair> = pairs.into_iter().filter_map(pair).collect();
        series.sort_by_key(|pair| (pair.used_seconds, Reverse(pair.opened.iter().sum::<u64>())));
        series.truncate(PAIRS);
        let begins = UnixSeconds((this + 1).saturating_sub(limits::HOURS) * STEP);
        Self { version: VERSION, begins, step: STEP, series }
    }
}

/// The numbers of the last hours, of which this is the last one. Several may be of the same hour.
fn by_hour(hours: &[Hour], this: u64) -> (Vec<u64>, Vec<u64>) {
    let mut sums: BTreeMap<u64, Hour> = BTreeMap::new();
    for hour in hours {
        let none = Hour { by_callers: Passed::default(), by_callees: Passed::default(), ..*hour };
        let sum = sums.entry(hour.hour).or_insert(none);
        sum.by_callers = sum.by_callers.plus(hour.by_callers);
        sum.by_callees = sum.by_callees.plus(hour.by_callees);
    }
    let first = (this + 1).saturating_sub(limits::HOURS);
    (first..first + limits::HOURS)
        .map(|hour| sums.get(&hour).map_or_else(Passed::default, Hour::passed))
        .map(|passed| (passed.opened, passed.bytes))
        .unzip()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_without_anything_are_there_and_what_is_new_is_added_to_its_hour() {
        let hour = |hour, opened| {
            let passed = |opened| Passed { opened, bytes: 10 * opened };
            Hour { hour, by_callers: passed(opened), by_callees: passed(opened + 1) }
        };
        let (opened, bytes) = by_hour(&[hour(76, 9), hour(77, 1), hour(100, 2), hour(100, 5)], 100);
        assert_eq!((opened.len(), opened[0], opened[1], opened[23], bytes[23]), (24, 2, 0, 9, 90));
        assert_eq!(by_hour(&[], 3).0, [0; 24], "a clock that was never set");
    }
}
