//! The last commits, for those that follow them: each gets all of them once and in order, or hears of a gap.

use std::collections::VecDeque;

use mesh_proto::Revision;

use crate::store::{Commit, StoreError};

/// How many commits are kept. Who falls further behind has to load everything again.
const REMEMBERED: usize = 256;

/// The latest commits, without a gap.
#[derive(Debug)]
pub struct Recent {
    /// The revision before the first of them.
    before: Revision,
    commits: VecDeque<Commit>,
    /// Why no more will come.
    failed: Option<StoreError>,
}

impl Recent {
    /// Of a store at this revision.
    #[must_use]
    pub const fn after(before: Revision) -> Self {
        Self { before, commits: VecDeque::new(), failed: None }
    }

    /// Takes in the next commit.
    pub fn push(&mut self, commit: Commit) {
        if self.commits.len() == REMEMBERED
            && let Some(oldest) = self.commits.pop_front()
        {
            self.before = oldest.revision;
        }
        self.commits.push_back(commit);
    }

    /// No more commits will come.
    pub fn fail(&mut self, error: StoreError) {
        self.failed = Some(error);
    }

    /// The commit after `at`; `None`: it is yet to come.
    ///
    /// # Errors
    /// [`StoreError::Gap`] if it isn't known any more; other errors if no more will come.
    pub fn next(&self, at: Revision) -> Result<Option<&Commit>, StoreError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let ahead = at.0.checked_sub(self.before.0).and_then(|n| usize::try_from(n).ok());
        match ahead {
            Some(n) if n <= self.commits.len() => Ok(self.commits.get(n)),
            _ => Err(StoreError::Gap(at)),
        }
    }
}
