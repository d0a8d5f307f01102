//! The end of all instances, while it is under way.

use std::collections::{BTreeSet, VecDeque};

use super::request::Attach;
use crate::{CallId, NamespaceId, Shown};

/// Whether all instances are being taken out, and what waits for that.
#[derive(Debug, Default)]
pub(crate) struct Clearing {
    pub(crate) running: Option<Running>,
    /// Further calls for the same.
    pub(crate) next: VecDeque<CallId>,
    pub(crate) attaches: Vec<Attach>,
}

/// All instances are being taken out.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) call: CallId,
    pub(crate) left: BTreeSet<NamespaceId>,
    pub(crate) ended: Vec<Shown>,
}

impl Clearing {
    /// Keeps an attachment until all instances are gone; returns it if none are being taken out.
    pub(crate) fn holds_back(&mut self, attach: Attach) -> Option<Attach> {
        if self.running.is_none() {
            return Some(attach);
        }
        self.attaches.push(attach);
        None
    }

    pub(crate) fn is_queued(&self, call: CallId) -> bool {
        self.attaches.iter().any(|attach| attach.call == call)
    }
}
