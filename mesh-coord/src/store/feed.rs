//! Passes the commits of a store on to watchers in this process.

use std::sync::{Arc, Mutex, PoisonError};

use mesh_proto::Revision;
use mesh_several::feed::Recent;
use tokio::sync::watch;

use super::{Commit, StoreError};

/// Takes the commits of a store and passes them on to its watchers.
#[derive(Debug)]
pub(super) struct Feed {
    recent: Arc<Mutex<Recent>>,
    latest: watch::Sender<Revision>,
}

impl Feed {
    /// A feed of a store at `revision`.
    pub(super) fn new(revision: Revision) -> Self {
        let recent = Recent::after(revision);
        Self { recent: Arc::new(Mutex::new(recent)), latest: watch::Sender::new(revision) }
    }

    /// Passes on the next commit.
    pub(super) fn push(&self, commit: Commit) {
        let revision = commit.revision;
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).push(commit);
        self.latest.send_replace(revision);
    }

    /// The revision of the last commit.
    pub(super) fn latest(&self) -> Revision {
        *self.latest.borrow()
    }

    /// Continues from a commit that wasn't passed on, which is a gap for every watcher.
    pub(super) fn restart(&self, revision: Revision) {
        *self.recent.lock().unwrap_or_else(PoisonError::into_inner) = Recent::after(revision);
        self.latest.send_replace(revision);
    }

    /// No more commits will come, for all watchers.
    pub(super) fn fail(&self, error: StoreError) {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).fail(error);
        self.latest.send_modify(|_| {});
    }

    /// The commits after `from`.
    ///
    /// # Errors
    /// If they are no longer kept.
    pub(super) fn watch(&self, from: Revision) -> Result<Watch, StoreError> {
        let watch = Watch { recent: Arc::clone(&self.recent), latest: self.latest.subscribe(), at: from };
        watch.look().map(|_| watch)
    }
}

/// The commits of a store from some revision on.
#[derive(Debug)]
pub(crate) struct Watch {
    recent: Arc<Mutex<Recent>>,
    latest: watch::Receiver<Revision>,
    at: Revision,
}

impl Watch {
    /// The next commit. Cancel safe.
    ///
    /// # Errors
    /// [`StoreError::Gap`] if the watcher fell too far behind; other errors if no more will come.
    pub(crate) async fn next(&mut self) -> Result<Commit, StoreError> {
        loop {
            if let Some(commit) = self.look()? {
                self.at = commit.revision;
                return Ok(commit);
            }
            self.latest.changed().await.map_err(|_| StoreError::Failed("it is closed".to_owned()))?;
        }
    }

    fn look(&self) -> Result<Option<Commit>, StoreError> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.next(self.at).map(|next| next.cloned())
    }
}
