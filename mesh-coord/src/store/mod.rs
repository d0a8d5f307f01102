//! Where the coordinator's records are kept. Any engine that maps keys to texts, numbers its commits and can compare
//! that number before it writes can stand behind [`Store`].

use std::{future::Future, sync::Arc};

use mesh_model::{Change, Record};
use mesh_proto::Revision;

#[cfg(test)]
mod conformance;
mod feed;
#[cfg(test)]
mod memory;
mod sqlite;

pub(crate) use feed::Watch;
#[cfg(test)]
pub(crate) use memory::MemoryStore;
pub(crate) use sqlite::SqliteStore;

/// A place for records.
pub(crate) trait Store: Send + Sync + 'static {
    /// Everything, as of one revision; revision 0 is a store that nothing was ever written to.
    fn load(&self) -> impl Future<Output = Result<Loaded, StoreError>> + Send;

    /// Writes the changes as the revision after `expected`, all or none. Once this has returned they outlast a power cut.
    ///
    /// # Errors
    /// [`StoreError::Stale`] if `expected` isn't the current revision. After any error nothing was confirmed: whether
    /// the changes are there tells the next [`Store::load`].
    fn commit(
        &self,
        expected: Revision,
        changes: Vec<Change>,
    ) -> impl Future<Output = Result<Revision, StoreError>> + Send;

    /// The commits after `from`, those of other writers too, each once and in order.
    ///
    /// # Errors
    /// [`StoreError::Gap`] if they are no longer (or not yet) known: load, and watch from there.
    fn watch(&self, from: Revision) -> impl Future<Output = Result<Watch, StoreError>> + Send;
}

/// The contents of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loaded {
    /// As of which commit.
    pub(crate) revision: Revision,
    /// In no particular order.
    pub(crate) records: Vec<Record>,
}

/// What one commit changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Commit {
    /// Its number.
    pub(crate) revision: Revision,
    /// As they were given.
    pub(crate) changes: Arc<[Change]>,
}

/// Why a store didn't do as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreError {
    /// Another writer has committed: decide again, on the current records.
    #[error("the database is at revision {actual}, and not at {expected}")]
    Stale {
        /// Where the caller thought it was.
        expected: Revision,
        /// Where it is.
        actual: Revision,
    },
    /// The commits asked for aren't known here.
    #[error("the commits after revision {0} are not known any more")]
    Gap(Revision),
    /// No space.
    #[error("the disk with the database is full")]
    Full,
    /// It doesn't answer. Whether the commit that waits for it will be there isn't known.
    #[error("the disk with the database does not answer: whether the command takes effect is not known yet")]
    Slow,
    /// No right to write.
    #[error("the database cannot be written to: its file or its disk is read-only")]
    ReadOnly,
    /// The database isn't what was written.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// The database is of a later version of this program.
    #[error("the database has format {found}, and this mesh-coord knows up to {known}")]
    Newer {
        /// What it has.
        found: i64,
        /// What this program knows.
        known: i64,
    },
    /// Anything else that the engine or the system says.
    #[error("the database fails: {0}")]
    Failed(String),
}

impl StoreError {
    /// What the operator may try next.
    pub(crate) const fn hint(&self) -> &'static str {
        match self {
            Self::Stale { .. } | Self::Gap(_) => "try again",
            Self::Full => "make room on the disk that holds --data, then try again; what was confirmed is safe",
            Self::Slow => {
                "look at the disk that holds --data, and at what is there, then try again; what was confirmed is safe"
            }
            Self::ReadOnly => "make --data writable for the coordinator, then try again; what was confirmed is safe",
            Self::Damaged(_) => "restore the data directory from a backup; the agents go on with what they have",
            Self::Newer { .. } => "upgrade mesh-coord",
            Self::Failed(_) => "look at the coordinator's log and at the disk that holds --data, then try again",
        }
    }
}
