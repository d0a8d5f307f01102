//! A store in memory, for tests.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use mesh_model::{Change, Record, record::Key};
use mesh_proto::Revision;
use tokio::sync::watch;

use super::{Commit, Loaded, Store, StoreError, Watch, feed::Feed};

/// Records in memory.
#[derive(Debug)]
pub(crate) struct MemoryStore {
    contents: Mutex<(Revision, BTreeMap<Key, Record>)>,
    feed: Feed,
    full: Arc<AtomicBool>,
    answers: Arc<watch::Sender<bool>>,
}

impl MemoryStore {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self {
            contents: Mutex::default(),
            feed: Feed::new(Revision(0)),
            full: Arc::default(),
            answers: Arc::new(watch::Sender::new(true)),
        }
    }

    /// While this is set, commits find no space.
    pub(crate) fn full(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.full)
    }

    /// While this is `false`, commits aren't answered.
    pub(crate) fn answers(&self) -> Arc<watch::Sender<bool>> {
        Arc::clone(&self.answers)
    }
}

impl Store for MemoryStore {
    async fn load(&self) -> Result<Loaded, StoreError> {
        let contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Loaded { revision: contents.0, records: contents.1.values().cloned().collect() })
    }

    async fn commit(&self, expected: Revision, changes: Vec<Change>) -> Result<Revision, StoreError> {
        drop(self.answers.subscribe().wait_for(|answers| *answers).await);
        if self.full.load(Ordering::Relaxed) {
            return Err(StoreError::Full);
        }
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        if contents.0 != expected {
            return Err(StoreError::Stale { expected, actual: contents.0 });
        }
        for change in &changes {
            match change {
                Change::Put(record) => contents.1.insert(record.key(), record.clone()),
                Change::Delete(key) => contents.1.remove(key),
            };
        }
        contents.0 = expected.next();
        self.feed.push(Commit { revision: contents.0, changes: changes.into() });
        Ok(contents.0)
    }

    async fn watch(&self, from: Revision) -> Result<Watch, StoreError> {
        self.feed.watch(from)
    }
}
