//! What a follower is told.

use std::collections::BTreeSet;

use mesh_model::{Admin, List};
use mesh_proto::Revision;
use serde::Serialize;

use super::AuditEntry;
use crate::coordinator::{Core, Event};

/// An event.
#[derive(Debug)]
pub(crate) enum Happened {
    /// A commit.
    Change(Changed),
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

impl Happened {
    /// What a commit has changed for the reader; `None`: nothing.
    pub(crate) fn of(core: &Core, reader: &Admin, event: &Event) -> Option<Self> {
        let lists = event.concern.lists(&core.state, reader);
        let audit: Vec<AuditEntry> = event.concern.audit(reader).map(|entry| entry.clone().into()).collect();
        let is_something = !lists.is_empty() || !audit.is_empty();
        is_something.then_some(Self::Change(Changed { revision: event.revision, lists, audit }))
    }

    /// As server-sent events have it.
    pub(crate) fn text(&self) -> String {
        let (name, revision, data) = match self {
            Self::Change(changed) => ("change", changed.revision, serde_json::to_string(changed)),
            Self::Resync { revision } => ("resync", *revision, Ok(format!(r#"{{"revision":{revision}}}"#))),
        };
        // JSON has no line breaks.
        format!("event: {name}\nid: {revision}\ndata: {}\n\n", data.unwrap_or_default())
    }
}
