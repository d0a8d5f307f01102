//! The store of the coordinator's records. Any engine that maps keys to texts, numbers its commits and can compare
//! that number before it writes can implement [`Store`].

use std::future::Future;

use mesh_model::record::MemberId;
use mesh_proto::Revision;
use mesh_several::right::Right;

#[cfg(test)]
pub(crate) mod conformance;
mod etcd;
mod feed;
mod measured;
#[cfg(test)]
mod memory;
mod sqlite;

#[cfg(test)]
pub(crate) use etcd::lab::Etcd as EtcdLab;
pub(crate) use etcd::{Access, BEAT, EtcdStore, Holder, Place, Release, Seat, Seated};
pub(crate) use feed::Watch;
pub(crate) use measured::{Health, Measured};
#[cfg(test)]
pub(crate) use memory::MemoryStore;
pub(crate) use mesh_several::store::{Commit, Draft, Head, Loaded, Nonce, StoreError, record};
pub(crate) use sqlite::{SqliteStore, copy_of};

/// A place for records.
pub(crate) trait Store: Send + Sync + 'static {
    /// All records and the head, as of one revision. Revision 0 is a store that was never written to.
    fn load(&self) -> impl Future<Output = Result<Loaded, StoreError>> + Send;

    /// Commits all of a draft or nothing, as the revision after `expected`. On return it survives a power cut.
    ///
    /// # Errors
    /// [`StoreError::Stale`] if `expected` isn't the current revision. [`StoreError::Unknown`] if it may be there, now or
    /// later: the nonce of the revision after `expected` tells, once there is one. After any other error it is not there.
    fn commit(&self, expected: Revision, draft: Draft) -> impl Future<Output = Result<Revision, StoreError>> + Send;

    /// The commits after `from`, of all writers, each once and in order.
    ///
    /// # Errors
    /// [`StoreError::Gap`] if they aren't known: load, and watch from there.
    fn watch(&self, from: Revision) -> impl Future<Output = Result<Watch, StoreError>> + Send;

    /// The revision of the last commit of all writers that was confirmed before this call, or a later one.
    fn sync(&self) -> impl Future<Output = Result<Revision, StoreError>> + Send;

    /// Whether others can commit, or the way to the records can be lost, so that what is known of them may be old.
    fn is_remote(&self) -> bool {
        false
    }

    /// Which coordinator this one is, if several may serve these records.
    fn member(&self) -> Option<MemberId> {
        None
    }

    /// By what right a decision that is made now can be committed, in stores that have such. A decision takes it along.
    fn right(&self) -> Option<Right> {
        None
    }
}
