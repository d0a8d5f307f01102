//! Passes the commits of a store on to watchers in this process.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use mesh_proto::Revision;
use tokio::sync::watch;

use super::{Commit, StoreError};

/// How many commits are kept. A watcher that falls further behind has to load everything again.
const REMEMBERED: usize = 256;

/// Takes the commits of a store and passes them on to its watchers.
#[derive(Debug)]
pub(super) struct Feed {
    recent: Arc<Mutex<Recent>>,
    latest: watch::Sender<Revision>,
}

/// The latest commits, without a gap.
#[derive(Debug)]
struct Recent {
    /// The revision before the first of them.
    before: Revision,
    commits: VecDeque<Commit>,
    /// Why no more will come.
    failed: Option<StoreError>,
}

impl Recent {
    const fn after(before: Revision) -> Self {
        Self { before, commits: VecDeque::new(), failed: None }
    }
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
        {
            let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
            if recent.commits.len() == REMEMBERED
                && let Some(oldest) = recent.commits.pop_front()
            {
                recent.before = oldest.revision;
            }
            recent.commits.push_back(commit);
        }
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
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).failed = Some(error);
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
        if let Some(error) = &recent.failed {
            return Err(error.clone());
        }
        let ahead = self.at.0.checked_sub(recent.before.0).and_then(|n| usize::try_from(n).ok());
        match ahead {
            Some(n) if n <= recent.commits.len() => Ok(recent.commits.get(n).cloned()),
            _ => Err(StoreError::Gap(self.at)),
        }
    }
}
