//! Who talks to whom, and who is refused, as runners report it.

use std::{cmp::Reverse, collections::HashMap, time::Instant};

use mesh_model::Admin;
use mesh_proto::{Label, RunnerId, ServicePath};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Lacking, VERSION};
use crate::{
    coordinator::Core,
    telemetry::{All, Edge as Sum, Refusal},
};

/// The most pairs in one answer, and how many are looked at for that: those in use come first.
const EDGES: usize = 5000;
pub(crate) const LOOKED_AT: usize = 50_000;
/// The most refusals in one answer.
const REFUSALS: usize = 1000;

/// What is asked.
#[derive(Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct TrafficQuery {
    /// Only connections of this service, or of this deployment's services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
    /// Only connections to this service, or to this deployment's services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<String>,
    /// Whether runners should report often for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) watch: Option<bool>,
}

/// How much of the mesh an answer is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Coverage {
    /// Runners that are not removed.
    pub(crate) runners: usize,
    /// Those of them that have reported since the coordinator's start.
    pub(crate) reporting: usize,
    /// The age of the oldest of their last reports.
    pub(crate) oldest_seconds: Option<u64>,
    /// Coordinators that don't answer, so that what their runners report is missing or old.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) lacking: Vec<Lacking>,
}

/// Who talks to whom.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Edges {
    pub(crate) version: u32,
    #[serde(flatten)]
    pub(crate) coverage: Coverage,
    /// Pairs of services, those with the most open connections first; at most [`EDGES`].
    pub(crate) edges: Vec<Edge>,
}

/// What passed between two services since their runners' agents, and the coordinator, began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Edge {
    pub(crate) from: ServicePath,
    pub(crate) to: ServicePath,
    /// Connections that stand.
    pub(crate) open: u64,
    /// Connections that were accepted.
    pub(crate) opened: u64,
    /// Attempts that the callee has refused.
    pub(crate) refused: u64,
    /// Attempts without an answer.
    pub(crate) unanswered: u64,
    /// Connections that ended by a RST.
    pub(crate) reset: u64,
    /// Bytes from the caller.
    pub(crate) sent_bytes: u64,
    /// Bytes from the callee.
    pub(crate) received_bytes: u64,
    /// How long ago it was last in use, as far as reports tell.
    pub(crate) used_seconds: Option<u64>,
}

/// Who is refused.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Refusals {
    pub(crate) version: u32,
    #[serde(flatten)]
    pub(crate) coverage: Coverage,
    /// The latest first, at most [`REFUSALS`].
    pub(crate) refused: Vec<Refused>,
}

/// A kind of refused connections at one runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Refused {
    /// The caller's service, or its address.
    pub(crate) from: String,
    /// The callee's service, or its address.
    pub(crate) to: String,
    /// The port; zero: it wasn't TCP.
    pub(crate) port: u16,
    /// The reason, as `mesh-node denied` has it.
    pub(crate) reason: String,
    pub(crate) count: u64,
    pub(crate) node: Label,
    pub(crate) age_seconds: u64,
}

/// What an answer is made of, taken out of the book before the writer's turn.
#[derive(Debug)]
pub(crate) struct Reported<T> {
    heard: HashMap<RunnerId, Instant>,
    items: Vec<T>,
    lacking: Vec<Lacking>,
}

impl Reported<Sum> {
    /// All pairs, those with the most open connections first.
    pub(crate) fn edges(all: All, lacking: Vec<Lacking>) -> Self {
        let mut items = all.edges();
        items.sort_by_key(|edge| Reverse((edge.counts.open, edge.used, edge.counts.opened)));
        items.truncate(LOOKED_AT);
        Self { heard: all.heard().clone(), items, lacking }
    }
}

impl Reported<Refusal> {
    /// The latest refusals.
    pub(crate) fn refusals(all: All, lacking: Vec<Lacking>) -> Self {
        Self { heard: all.heard().clone(), items: all.into_refusals(LOOKED_AT), lacking }
    }
}

impl Coverage {
    fn of(core: &Core, heard: &HashMap<RunnerId, Instant>, lacking: Vec<Lacking>, now: Instant) -> Self {
        let runners: Vec<_> = core.state.active_runners().map(|runner| heard.get(&runner.id).copied()).collect();
        let oldest = runners.iter().flatten().min();
        Self {
            runners: runners.len(),
            reporting: runners.iter().flatten().count(),
            oldest_seconds: oldest.map(|heard| now.saturating_duration_since(*heard).as_secs()),
            lacking,
        }
    }
}

impl Edges {
    /// What the reader may see of it: both ends have to be of its teams.
    pub(crate) fn of(core: &Core, reported: Reported<Sum>, reader: &Admin, query: &TrafficQuery, now: Instant) -> Self {
        let edge = |Sum { caller, callee, counts, used }: Sum| {
            let (from, to) = (core.state.path_for(reader, caller)?, core.state.path_for(reader, callee)?);
            let wanted = matches(query.from.as_deref(), &from) && matches(query.to.as_deref(), &to);
            wanted.then(|| Edge {
                from,
                to,
                open: counts.open,
                opened: counts.opened,
                refused: counts.refused,
                unanswered: counts.unanswered,
                reset: counts.reset,
                sent_bytes: counts.sent,
                received_bytes: counts.received,
                used_seconds: used.map(|used| now.saturating_duration_since(used).as_secs()),
            })
        };
        let mut edges: Vec<Edge> = reported.items.into_iter().filter_map(edge).take(EDGES).collect();
        edges.sort_by(|a, b| (b.open, &a.from, &a.to).cmp(&(a.open, &b.from, &b.to)));
        Self { version: VERSION, coverage: Coverage::of(core, &reported.heard, reported.lacking, now), edges }
    }
}

impl Refusals {
    /// What the reader may see of it: at least one end has to be of its teams, and the other one is shown by its address.
    pub(crate) fn of(
        core: &Core,
        reported: Reported<Refusal>,
        reader: &Admin,
        query: &TrafficQuery,
        now: Instant,
    ) -> Self {
        let refused = |Refusal { runner, caller, callee, port, reason, count, last }: Refusal| {
            let own = [&caller, &callee].map(|name| name.service.and_then(|id| core.state.path_for(reader, id)));
            let sees_all = reader.team.is_none();
            if !sees_all && own.iter().all(Option::is_none) {
                return None;
            }
            let name = |name: &crate::telemetry::Name, own: &Option<ServicePath>| match (own, &name.path) {
                (Some(path), _) => path.to_string(),
                // The service may be gone: the name is the one that it had.
                (None, Some(path)) if sees_all => path.to_string(),
                _ => name.address.to_string(),
            };
            let node = core.state.runner(runner)?.name.clone();
            let row = Refused {
                from: name(&caller, &own[0]),
                to: name(&callee, &own[1]),
                port,
                reason,
                count,
                node,
                age_seconds: now.saturating_duration_since(last).as_secs(),
            };
            let wanted = matches(query.from.as_deref(), &row.from) && matches(query.to.as_deref(), &row.to);
            wanted.then_some(row)
        };
        let refused = reported.items.into_iter().filter_map(refused).take(REFUSALS).collect();
        Self { version: VERSION, coverage: Coverage::of(core, &reported.heard, reported.lacking, now), refused }
    }
}

/// Whether a name is this service's, or one of this deployment's.
pub(super) fn matches(pattern: Option<&str>, name: &impl ToString) -> bool {
    pattern.is_none_or(|pattern| {
        let name = name.to_string();
        name == pattern || name.split('/').next() == Some(pattern)
    })
}
