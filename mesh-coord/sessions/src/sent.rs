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
pub struct Sent(Option<Arc<Sliced>>);

impl Sent {
    /// For a stream whose agent has this view, or none that can be continued.
    #[must_use]
    pub const fn new(view: Option<Arc<Sliced>>) -> Self {
        Self(view)
    }

    /// The update that the agent needs to have `view`; `None` if it has it.
    #[must_use]
    pub fn news(&self, view: &Arc<Sliced>) -> Option<News> {
        match &self.0 {
            Some(sent) => Some(sent.delta_to(view)).filter(|delta| !delta.is_empty()).map(News::Delta),
            None => Some(News::Snapshot(Arc::clone(view))),
        }
    }

    /// Forgets what was sent: the agent has asked for all of it, or sending has begun and may fail half-way.
    pub fn forget(&mut self) {
        self.0 = None;
    }

    /// Records that `view` was sent completely.
    pub fn sent(&mut self, view: Arc<Sliced>) {
        self.0 = Some(view);
    }

    /// Whether the agent can have a view of this revision. Other confirmations don't count.
    #[must_use]
    pub fn reaches(&self, revision: Revision) -> bool {
        self.0.as_ref().is_some_and(|sent| revision <= sent.revision)
    }

    /// The view.
    #[must_use]
    pub fn into_view(self) -> Option<Arc<Sliced>> {
        self.0
    }
}
