//! What one stream has sent of its runner's view.

use std::sync::Arc;

use mesh_proto::{Delta, Revision, View};

/// What leads an agent from the view that it has to the one that it should have.
#[derive(Debug, Clone)]
pub enum News {
    /// The whole view.
    Snapshot(Arc<View>),
    /// What has changed.
    Delta(Delta),
}

/// The view that a stream has sent last: the one that its agent has once all that was sent has arrived.
#[derive(Debug, Default, Clone)]
pub struct Sent(Option<Arc<View>>);

impl Sent {
    /// A stream whose agent has this view already, or none that can be continued.
    #[must_use]
    pub const fn new(view: Option<Arc<View>>) -> Self {
        Self(view)
    }

    /// What has to be sent so that the agent has `view`; `None` if it has it.
    #[must_use]
    pub fn news(&self, view: &Arc<View>) -> Option<News> {
        match &self.0 {
            Some(sent) => Some(sent.delta_to(view)).filter(|delta| !delta.is_empty()).map(News::Delta),
            None => Some(News::Snapshot(Arc::clone(view))),
        }
    }

    /// Forgets what was sent: the agent has asked for all of it, or sending has begun and may fail half-way.
    pub fn forget(&mut self) {
        self.0 = None;
    }

    /// Notes that `view` was sent whole.
    pub fn sent(&mut self, view: Arc<View>) {
        self.0 = Some(view);
    }

    /// Whether the agent can have a view of this revision. A confirmation of any other one doesn't count.
    #[must_use]
    pub fn reaches(&self, revision: Revision) -> bool {
        self.0.as_ref().is_some_and(|sent| revision <= sent.revision)
    }

    /// The view.
    #[must_use]
    pub fn into_view(self) -> Option<Arc<View>> {
        self.0
    }
}
