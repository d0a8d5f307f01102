//! A store in memory, for tests.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use mesh_model::{Change, Record, RunningSeconds, record::Key};
use mesh_proto::Revision;
use tokio::sync::watch;

use super::{Commit, Draft, Head, Loaded, Store, StoreError, Watch, feed::Feed};

/// Records in memory.
#[derive(Debug)]
pub(crate) struct MemoryStore {
    contents: Mutex<(Head, BTreeMap<Key, Record>)>,
    feed: Feed,
    full: Arc<AtomicBool>,
    answers: Arc<watch::Sender<bool>>,
}

impl MemoryStore {
    /// An empty one.
    pub(crate) fn new() -> Self {
        let head = Head { revision: Revision(0), epoch: None, running: RunningSeconds(0) };
        Self {
            contents: Mutex::new((head, BTreeMap::new())),
            feed: Feed::new(Revision(0)),
            full: Arc::default(),
            answers: Arc::new(watch::Sender::new(true)),
        }
    }

    /// While this is set, commits find no space.
    pub(crate) fn full(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.full)
    }

    /// As though programs before 0.3 had written all of it.
    pub(crate) fn forget_epoch(&self) {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner).0.epoch = None;
    }

    /// While this is `false`, commits aren't answered.
    pub(crate) fn answers(&self) -> Arc<watch::Sender<bool>> {
        Arc::clone(&self.answers)
    }
}

impl Store for MemoryStore {
    async fn load(&self) -> Result<Loaded, StoreError> {
        let contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Loaded { head: contents.0, records: contents.1.values().cloned().collect() })
    }

    async fn commit(&self, expected: Revision, draft: Draft) -> Result<Revision, StoreError> {
        drop(self.answers.subscribe().wait_for(|answers| *answers).await);
        if self.full.load(Ordering::Relaxed) {
            return Err(StoreError::Full);
        }
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        let actual = contents.0.revision;
        if actual != expected {
            return Err(StoreError::Stale { expected, actual });
        }
        let Draft { changes, epoch, running, nonce, .. } = draft;
        for change in &changes {
            match change {
                Change::Put(record) => contents.1.insert(record.key(), record.clone()),
                Change::Delete(key) => contents.1.remove(key),
            };
        }
        let revision = expected.next();
        contents.0 = Head { revision, epoch: Some(epoch), running };
        self.feed.push(Commit { revision, nonce, epoch, running, changes: changes.into() });
        Ok(revision)
    }

    async fn watch(&self, from: Revision) -> Result<Watch, StoreError> {
        self.feed.watch(from)
    }

    async fn sync(&self) -> Result<Revision, StoreError> {
        Ok(self.feed.latest())
    }
}
