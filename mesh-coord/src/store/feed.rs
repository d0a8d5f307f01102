//! The commits of a store that lives in this process, for those who watch it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use mesh_proto::Revision;
use tokio::sync::watch;

use super::{Commit, StoreError};

/// Commits that are kept: a watcher that falls further behind loads everything again.
const REMEMBERED: usize = 256;

/// Takes the commits of a store and passes them on to its watchers.
#[derive(Debug)]
pub(super) struct Feed {
    recent: Arc<Mutex<Recent>>,
    latest: watch::Sender<Revision>,
}

/// The last commits, without a gap.
#[derive(Debug)]
struct Recent {
    /// The revision before the first of them.
    before: Revision,
    commits: VecDeque<Commit>,
}

impl Feed {
    /// The feed of a store that is at `revision`.
    pub(super) fn new(revision: Revision) -> Self {
        let recent = Recent { before: revision, commits: VecDeque::new() };
        Self { recent: Arc::new(Mutex::new(recent)), latest: watch::Sender::new(revision) }
    }

    /// Hands out a commit: the one after the last.
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

    /// The commit that was handed out last.
    pub(super) fn latest(&self) -> Revision {
        *self.latest.borrow()
    }

    /// Goes on from a commit that it didn't hand out: every watcher has a gap there.
    pub(super) fn restart(&self, revision: Revision) {
        *self.recent.lock().unwrap_or_else(PoisonError::into_inner) =
            Recent { before: revision, commits: VecDeque::new() };
        self.latest.send_replace(revision);
    }

    /// The commits after `from`.
    ///
    /// # Errors
    /// If they aren't known.
    pub(super) fn watch(&self, from: Revision) -> Result<Watch, StoreError> {
        let watch = Watch { recent: Arc::clone(&self.recent), latest: self.latest.subscribe(), at: from };
        watch.look().map(|_| watch)
    }
}

/// The commits of a store from a revision on.
#[derive(Debug)]
pub(crate) struct Watch {
    recent: Arc<Mutex<Recent>>,
    latest: watch::Receiver<Revision>,
    at: Revision,
}

impl Watch {
    /// The next commit. May be dropped while it waits, and asked again.
    ///
    /// # Errors
    /// [`StoreError::Gap`] if the watcher fell too far behind; [`StoreError::Failed`] once the store is closed.
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
        let ahead = self.at.0.checked_sub(recent.before.0).and_then(|n| usize::try_from(n).ok());
        match ahead {
            Some(n) if n <= recent.commits.len() => Ok(recent.commits.get(n).cloned()),
            _ => Err(StoreError::Gap(self.at)),
        }
    }
}
