//! What a store of the coordinator's records takes and tells.

use std::sync::Arc;

use mesh_model::{Change, Record, RunningSeconds};
use mesh_proto::{Epoch, Revision};

use crate::right::Right;

/// The contents of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// What is kept beside them.
    pub head: Head,
    /// All records, in no particular order.
    pub records: Vec<Record>,
}

/// What a store keeps beside the records. Each commit writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The number of commits.
    pub revision: Revision,
    /// The epoch of these revisions; `None` if only programs before 0.3 have written.
    pub epoch: Option<Epoch>,
    /// How long coordinators had been running at the last commit, added up.
    pub running: RunningSeconds,
}

/// A commit to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The changes, at most one of each record.
    pub changes: Vec<Change>,
    /// The epoch.
    pub epoch: Epoch,
    /// How long coordinators have been running.
    pub running: RunningSeconds,
    /// Tells this commit from all others.
    pub nonce: Nonce,
    /// By what right it was decided on, in stores that have such: it is committed only while that is there.
    pub right: Option<Right>,
}

/// A number that was drawn for one commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nonce(pub u64);

/// What one commit changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its revision.
    pub revision: Revision,
    /// Its nonce.
    pub nonce: Nonce,
    /// The epoch since then.
    pub epoch: Epoch,
    /// How long coordinators had been running then.
    pub running: RunningSeconds,
    /// As they were given.
    pub changes: Arc<[Change]>,
}

/// An error of a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another writer has committed. Decide again, on the current records.
    #[error("the database is at revision {actual}, and not at {expected}")]
    Stale {
        /// The revision that the caller expected.
        expected: Revision,
        /// The current revision.
        actual: Revision,
    },
    /// The commits aren't known.
    #[error("the commits after revision {0} are not known any more")]
    Gap(Revision),
    /// There is no answer, so the commit may be there, or may yet be made.
    #[error("the database has not answered: whether the command has taken effect is not known")]
    Unknown,
    /// The disk is full.
    #[error("the disk with the database is full")]
    Full,
    /// The disk doesn't answer. Whether the pending commit will succeed isn't known.
    #[error("the disk with the database does not answer: whether the command takes effect is not known yet")]
    Slow,
    /// The database is elsewhere, and there is no way to it. Nothing was sent.
    #[error("the database cannot be reached: nothing was changed")]
    Away,
    /// This coordinator stood still or was away between the decision and its commit.
    #[error("this coordinator was away from the database for too long: nothing was changed")]
    Ended,
    /// etcd has no space left.
    #[error("etcd has used up the space that it may have")]
    Quota,
    /// A record is larger than the database takes.
    #[error("this change is larger than the database takes")]
    TooLarge,
    /// The database is not the one that it was.
    #[error("the database was put back to an earlier state while in use: restart mesh-coord")]
    PutBack,
    /// Another one has the right to use the database alone.
    #[error("{0} uses this database alone")]
    Held(String),
    /// Coordinators serve these records.
    #[error("{0} uses this database")]
    InUse(String),
    /// The right to use the database alone, or the place among those that do, is lost.
    #[error("this process has put the database down, or was away from it for too long")]
    Replaced,
    /// The disk is read-only.
    #[error("the database cannot be written to: its file or its disk is read-only")]
    ReadOnly,
    /// The database is damaged.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// A later version of this program wrote the database.
    #[error("the database has format {found}, and this mesh-coord knows up to {known}")]
    Newer {
        /// The database's format.
        found: i64,
        /// The latest format that this program knows.
        known: i64,
    },
    /// Any other error of the engine or the system.
    #[error("the database fails: {0}")]
    Failed(String),
}

/// The record that is kept as `key`.
///
/// # Errors
/// If the text is no record, or another one.
pub fn record(key: &str, text: &str) -> Result<Record, StoreError> {
    let record: Record = serde_json::from_str(text)
        .map_err(|error| StoreError::Damaged(format!("the record `{key}` cannot be read: {error}")))?;
    if record.key().to_string() == key {
        Ok(record)
    } else {
        Err(StoreError::Damaged(format!("the record `{}` is kept as `{key}`", record.key())))
    }
}

impl StoreError {
    /// Whether the commit may be there, or may yet be made.
    #[must_use]
    pub const fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown | Self::Slow)
    }

    /// The error, with what the operator may try next.
    #[must_use]
    pub fn with_hint(&self) -> String {
        format!("{self}: {}", self.hint())
    }

    /// What the operator may try next.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Stale { .. } | Self::Gap(_) => "try again",
            Self::Unknown => "look whether it has taken effect before you try again",
            Self::Full => "make room on the disk that holds --data, then try again; what was confirmed is safe",
            Self::Slow => {
                "look at the disk that holds the database, and at what is there, then try again; what was confirmed is safe"
            }
            Self::ReadOnly => "make --data writable for the coordinator, then try again; what was confirmed is safe",
            Self::Damaged(_) => "restore the database from a backup; the agents go on with what they have",
            Self::Newer { .. } => "upgrade mesh-coord",
            Self::Away | Self::Ended => "try again, or ask another coordinator; what was confirmed is safe",
            Self::Quota => {
                "let etcd forget old revisions (`etcdctl compact --physical REVISION`, `etcdctl defrag`, `etcdctl alarm \
                 disarm`) or give it more (--quota-backend-bytes), then try again; what was confirmed is safe"
            }
            Self::Held(_) => {
                "it is `mesh-coord migrate`, or of a version that serves alone: let it end, or stop it; 6 s after its end \
                 this one can begin"
            }
            Self::InUse(_) => "stop all its coordinators; 6 s after their end this can go on",
            Self::Replaced => "start it again",
            Self::TooLarge => "split it",
            Self::PutBack => "restart all coordinators; all maps begin anew then",
            Self::Failed(_) => "look at the coordinator's log and at the disk that holds the database, then try again",
        }
    }
}
