//! Audit entries by ring and holder.

use std::collections::{BTreeMap, BTreeSet};

use mesh_proto::{Label, RunnerId};

use crate::{
    limits,
    record::{Audit, By, Verdict},
};

/// The action of an entry about a runner that begins to host a service.
pub(crate) const HOST: &str = "host";
/// The action of an enrolment's entry.
pub(crate) const ENROL: &str = "enrol";

/// Entries that compete for room only with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Ring {
    /// Changes by administrators.
    Administrators,
    /// Actions of runners, and those of the coordinator on their behalf.
    Runners,
    /// Refusals of administrators.
    Refused,
}

impl Ring {
    pub(crate) fn of(entry: &Audit) -> Self {
        match (entry.result, entry.by) {
            (Verdict::Refused, _) => Self::Refused,
            (Verdict::Done, By::Runner(_) | By::Coordinator) => Self::Runners,
            (Verdict::Done, By::Token(_)) if entry.action == ENROL => Self::Runners,
            (Verdict::Done, By::Socket { .. } | By::Token(_)) => Self::Administrators,
        }
    }

    pub(crate) const fn limit(self) -> usize {
        match self {
            Self::Administrators | Self::Runners => limits::AUDIT,
            Self::Refused => limits::AUDIT_REFUSED,
        }
    }
}

/// The holder of entries within a ring.
pub(crate) type Whose = (Option<Label>, Option<RunnerId>);

/// The holder of an entry.
pub(crate) fn holder(entry: &Audit) -> Whose {
    (entry.by_team.clone(), entry.runner)
}

/// The numbers of the entries, by ring and holder. No map holds an empty collection.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Rings {
    pub(crate) entries: BTreeMap<Ring, BTreeMap<Whose, BTreeSet<u64>>>,
    /// The last entry that notes that a runner hosts a service.
    pub(crate) hosting: BTreeMap<(RunnerId, String), u64>,
}

impl Rings {
    pub(crate) fn insert(&mut self, entry: &Audit) {
        self.entries.entry(Ring::of(entry)).or_default().entry(holder(entry)).or_default().insert(entry.number);
        if let (HOST, Some(runner), Some(object)) = (entry.action.as_str(), entry.runner, &entry.object) {
            let last = self.hosting.entry((runner, object.clone())).or_default();
            *last = entry.number.max(*last);
        }
    }

    pub(crate) fn remove(&mut self, entry: &Audit) {
        let (ring, holder) = (Ring::of(entry), holder(entry));
        if let Some(holders) = self.entries.get_mut(&ring) {
            if let Some(numbers) = holders.get_mut(&holder) {
                numbers.remove(&entry.number);
                if numbers.is_empty() {
                    holders.remove(&holder);
                }
            }
            if holders.is_empty() {
                self.entries.remove(&ring);
            }
        }
        if let (Some(runner), Some(object)) = (entry.runner, &entry.object) {
            let key = (runner, object.clone());
            if self.hosting.get(&key) == Some(&entry.number) {
                self.hosting.remove(&key);
            }
        }
    }
}
