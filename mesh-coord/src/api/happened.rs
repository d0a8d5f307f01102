//! What a follower is told.

use std::collections::BTreeSet;

use mesh_model::{Admin, Changed as Instance, List};
use mesh_proto::{InstanceId, Label, Revision, RunnerId, ServicePath, view::InstanceState};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{AuditEntry, NodeState};
use crate::coordinator::{Core, Event};

/// A kind of event, beside `resync`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// A commit: which lists have changed, and the new entries of the audit.
    Change,
    /// A new entry of the audit.
    Audit,
    /// A runner has changed, has come or is gone.
    Node,
    /// An instance has changed, has begun or has ended.
    Instance,
    /// A deployment's trust list is in force everywhere after it has changed.
    TrustApplied,
    /// Runners have reported what passes. Who asks for it has them report often.
    Telemetry,
}

/// What a follower asks for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventsQuery {
    /// The kinds of events, with commas between: `change`, `audit`, `node`, `instance`, `trust-applied`, `telemetry`.
    /// Without it, `change` only. `resync` comes always.
    #[serde(default)]
    pub(crate) kinds: Option<String>,
}

impl EventsQuery {
    /// The kinds; the part that is none if there is one.
    pub(crate) fn kinds(&self) -> Result<BTreeSet<Kind>, String> {
        let Some(kinds) = &self.kinds else { return Ok([Kind::Change].into()) };
        let read = |part: &str| serde_json::from_value(part.into()).map_err(|_| part.to_owned());
        kinds.split(',').map(read).collect()
    }
}

/// An event.
#[derive(Debug)]
pub(crate) enum Happened {
    /// A commit.
    Change(Changed),
    /// A new entry of the audit.
    Audit(Box<AuditEntry>),
    /// A runner as it is now.
    Node(NodeNow),
    /// An instance as it is now.
    Instance(InstanceNow),
    /// A trust list is in force everywhere.
    TrustApplied(Applied),
    /// Runners have reported what passes.
    Telemetry(Reports),
    /// There was more than is kept, or this is the beginning: everything has to be read.
    Resync {
        /// What it is to be read as of, at least.
        revision: Revision,
    },
}

/// What a commit has changed.
#[derive(Debug, Serialize)]
pub(crate) struct Changed {
    revision: Revision,
    /// The lists that have changed.
    lists: BTreeSet<List>,
    /// The new entries of the audit.
    audit: Vec<AuditEntry>,
}

/// A runner as it is now.
#[derive(Debug, Serialize)]
pub(crate) struct NodeNow {
    id: RunnerId,
    node: Label,
    state: NodeState,
    drained: bool,
}

/// An instance as it is now.
#[derive(Debug, Serialize)]
pub(crate) struct InstanceNow {
    id: InstanceId,
    service: ServicePath,
    node: Option<Label>,
    /// `live`, `draining`, `client` or `ended`.
    state: &'static str,
}

/// A trust list that is in force everywhere.
#[derive(Debug, Serialize)]
pub(crate) struct Applied {
    pub(crate) deployment: Label,
    /// The commit with its last change.
    pub(crate) revision: Revision,
}

/// Runners have reported what passes.
#[derive(Debug, Serialize)]
pub(crate) struct Reports {
    /// How many runners have, since the last such event.
    pub(crate) nodes: usize,
}

impl Happened {
    /// What of these kinds a commit has changed for the reader.
    pub(crate) fn of(core: &Core, reader: &Admin, event: &Event, kinds: &BTreeSet<Kind>) -> Vec<Self> {
        let (concern, mut told) = (&event.concern, vec![]);
        let audit: Vec<AuditEntry> = concern.audit(reader).map(|entry| entry.clone().into()).collect();
        if kinds.contains(&Kind::Audit) {
            told.extend(audit.iter().cloned().map(|entry| Self::Audit(Box::new(entry))));
        }
        if kinds.contains(&Kind::Node) {
            told.extend(concern.runners().filter_map(|runner| Self::node(core, reader, runner)));
        }
        if kinds.contains(&Kind::Instance) {
            told.extend(concern.instances(reader).map(|changed| Self::Instance(InstanceNow::of(core, changed))));
        }
        let lists = concern.lists(&core.state, reader);
        if kinds.contains(&Kind::Change) && !(lists.is_empty() && audit.is_empty()) {
            told.push(Self::Change(Changed { revision: event.revision, lists, audit }));
        }
        told
    }

    /// A runner as it is now, if the reader sees it.
    pub(crate) fn node(core: &Core, reader: &Admin, id: RunnerId) -> Option<Self> {
        let runner = core.state.runner(id).filter(|runner| core.state.sees(reader, runner))?;
        let state = NodeState::of(core, id, runner.removed.is_some());
        Some(Self::Node(NodeNow { id, node: runner.name.clone(), state, drained: runner.drained }))
    }

    /// As server-sent events have it. With an identifier, who has received it doesn't receive it again.
    pub(crate) fn text(&self, id: Option<Revision>) -> String {
        let (name, data) = match self {
            Self::Change(changed) => ("change", serde_json::to_string(changed)),
            Self::Audit(entry) => ("audit", serde_json::to_string(entry)),
            Self::Node(node) => ("node", serde_json::to_string(node)),
            Self::Instance(instance) => ("instance", serde_json::to_string(instance)),
            Self::TrustApplied(applied) => ("trust-applied", serde_json::to_string(applied)),
            Self::Telemetry(reports) => ("telemetry", serde_json::to_string(reports)),
            Self::Resync { revision } => ("resync", Ok(format!(r#"{{"revision":{revision}}}"#))),
        };
        let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
        // JSON has no line breaks.
        format!("event: {name}\n{id}data: {}\n\n", data.unwrap_or_default())
    }
}

impl InstanceNow {
    fn of(core: &Core, changed: &Instance) -> Self {
        let state = match changed.state {
            Some(InstanceState::Live) => "live",
            Some(InstanceState::Draining) => "draining",
            Some(InstanceState::Client) => "client",
            None => "ended",
        };
        let node = core.state.runner(changed.runner).map(|runner| runner.name.clone());
        Self { id: changed.id, service: changed.service.clone(), node, state }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_those_that_there_are() {
        let kinds = |text: &str| EventsQuery { kinds: Some(text.to_owned()) }.kinds();
        assert_eq!(EventsQuery::default().kinds(), Ok([Kind::Change].into()));
        assert_eq!(kinds("trust-applied,node"), Ok([Kind::Node, Kind::TrustApplied].into()));
        assert_eq!(kinds("change,nodes"), Err("nodes".to_owned()));
        assert_eq!(kinds(""), Err(String::new()));
    }
}
