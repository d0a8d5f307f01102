//! What is in use of that which a change takes away, as far as runners report it.

use std::collections::BTreeMap;

use mesh_proto::{Ports, ServiceId, ServicePath};
use serde::{Deserialize, Serialize};

use super::{Effect, lost};
use crate::{Admin, AdminCommand, Command, State, UnixSeconds, limits};

/// What runners report of connections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// The pairs of services that were in use.
    pub pairs: Vec<Used>,
    /// The age of the oldest report, in seconds; `None` if a runner hasn't reported.
    pub oldest: Option<u64>,
    /// How many connections have an end on the runner that the command removes; `None`: it removes none, or that isn't
    /// known.
    pub at_removed: Option<u64>,
}

/// A pair of services that was in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// The caller.
    pub caller: ServiceId,
    /// The callee.
    pub callee: ServiceId,
    /// Connections that stand.
    pub open: u64,
    /// How long ago it was in use, in seconds.
    pub seconds: u64,
}

/// A pair of services that is in use and is cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct InUse {
    /// The caller.
    pub from: ServicePath,
    /// The callee.
    pub to: ServicePath,
    /// Connections that stand.
    pub open: u64,
    /// How long ago it was last in use.
    pub used_seconds: u64,
}

impl State {
    /// Adds what is in use of all that is not in `after` any more.
    pub(super) fn add_usage(
        &self,
        effect: &mut Effect,
        reader: &Admin,
        after: &Self,
        command: &Command,
        usage: &Usage,
        now: UnixSeconds,
    ) {
        let removes = matches!(command, Command::Admin { what: AdminCommand::RemoveNode { .. }, .. });
        let cut = |used: &&Used| self.loses(used.caller, used.callee, after);
        let mut open = 0_u64;
        for used in self.with_noted(&usage.pairs, now).iter().filter(cut) {
            open = open.saturating_add(used.open);
            let (Some(from), Some(to)) = (self.path_for(reader, used.caller), self.path_for(reader, used.callee))
            else {
                continue;
            };
            effect.in_use.push(InUse { from, to, open: used.open, used_seconds: used.seconds });
        }
        effect
            .in_use
            .sort_by(|a, b| (b.open, a.used_seconds, &a.from, &a.to).cmp(&(a.open, b.used_seconds, &b.from, &b.to)));
        effect.in_use.truncate(limits::EFFECT);
        effect.reported_seconds = usage.oldest;
        let known = usage.oldest.is_some() && (!removes || usage.at_removed.is_some());
        effect.connections = known.then(|| open.max(usage.at_removed.filter(|_| removes).unwrap_or_default()));
    }

    /// These pairs, and those that were noted in the records as in use.
    fn with_noted(&self, pairs: &[Used], now: UnixSeconds) -> Vec<Used> {
        let mut all: BTreeMap<(ServiceId, ServiceId), Used> =
            pairs.iter().map(|used| ((used.caller, used.callee), *used)).collect();
        for (caller, known) in self.calls() {
            let (callee, seconds) = (known.callee, now.since(known.last));
            if seconds < limits::IN_USE {
                let used = all.entry((caller, callee)).or_insert(Used { caller, callee, open: 0, seconds });
                used.seconds = used.seconds.min(seconds);
            }
        }
        all.into_values().collect()
    }

    /// Whether the caller may open connections here that it may not open there.
    fn loses(&self, caller: ServiceId, callee: ServiceId, after: &Self) -> bool {
        let before = self.ports(caller, callee);
        before.is_some_and(|before| lost(&before, after.ports(caller, callee).as_ref()).is_some())
    }

    /// The ports on which a service may call another one.
    fn ports(&self, caller: ServiceId, callee: ServiceId) -> Option<Ports> {
        let deployment = |service| Some(self.services.get(&service)?.record.deployment);
        let (from, to) = (deployment(caller)?, deployment(callee)?);
        if from == to { Some(Ports::All) } else { Some(self.grants.get(from, to, callee)?.ports.clone()) }
    }
}
