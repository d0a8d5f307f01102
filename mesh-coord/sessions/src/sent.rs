//! The view that a stream has sent.

use std::sync::Arc;

use mesh_model::Sliced;
use mesh_proto::{Delta, Revision};

/// An update of an agent's view.
#[derive(Debug, Clone)]
pub enum News {
    /// The whole view.
    Snapshot(Arc<Sliced>),
    /// The changes.
    Delta(Delta),
}

/// The last view that a stream has sent: the agent's view once all that was sent has arrived.
#[derive(Debug, Default, Clone)]
pub struct Sent {
    view: Option<Arc<Sliced>>,
    /// The revision of the first one. What the agent has applied before is of another stream, maybe of a database that
    /// was put back since.
    first: Option<Revision>,
}

impl Sent {
    /// For a stream whose agent has this view, or none that can be continued.
    #[must_use]
    pub fn new(view: Option<Arc<Sliced>>) -> Self {
        let first = view.as_ref().map(|view| view.revision);
        Self { view, first }
    }

    /// The update that the agent needs to have `view`; `None` if it has it.
    #[must_use]
    pub fn news(&self, view: &Arc<Sliced>) -> Option<News> {
        match &self.view {
            Some(sent) => Some(sent.delta_to(view)).filter(|delta| !delta.is_empty()).map(News::Delta),
            None => Some(News::Snapshot(Arc::clone(view))),
        }
    }

    /// Forgets what was sent: the agent has asked for all of it, or sending has begun and may fail half-way.
    pub fn forget(&mut self) {
        self.view = None;
    }

    /// Records that `view` was sent completely.
    pub fn sent(&mut self, view: Arc<Sliced>) {
        self.first.get_or_insert(view.revision);
        self.view = Some(view);
    }

    /// Whether the agent can have a view of this revision by this stream. Other confirmations don't count.
    #[must_use]
    pub fn reaches(&self, revision: Revision) -> bool {
        self.first.is_some_and(|first| first <= revision) && self.view.as_ref().is_some_and(|v| revision <= v.revision)
    }

    /// The view.
    #[must_use]
    pub fn into_view(self) -> Option<Arc<Sliced>> {
        self.view
    }
}
