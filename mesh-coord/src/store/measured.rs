//! A store of which is known how long its commits take, and whether it takes any.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mesh_model::record::MemberId;
use mesh_proto::Revision;
use mesh_several::right::Right;
use tokio::time::Instant;

use super::{Draft, Loaded, Store, StoreError, Watch};
use crate::metrics::Metrics;

/// How long a commit may take before the store counts as failing.
const SLOW: Duration = Duration::from_secs(5);

/// Whether a store takes commits.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Why the last commit failed.
    trouble: Option<StoreError>,
    /// Since when a commit is under way.
    pending: Option<Instant>,
}

impl Health {
    /// That of a store which is known to fail, until a commit succeeds.
    pub(crate) fn failing(trouble: StoreError) -> Self {
        Self(Mutex::new(Known { trouble: Some(trouble), pending: None }))
    }

    /// Why the store takes no commits; `None` if it does, as far as is known.
    pub(crate) fn trouble(&self) -> Option<StoreError> {
        let known = self.lock();
        let slow = known.pending.is_some_and(|since| since.elapsed() > SLOW);
        known.trouble.clone().or(slow.then_some(StoreError::Slow))
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A store whose commits are counted.
#[derive(Debug)]
pub(crate) struct Measured<S> {
    pub(crate) store: S,
    pub(crate) health: Arc<Health>,
    pub(crate) metrics: Arc<Metrics>,
}

impl<S: Store> Measured<S> {
    /// Whether an error says that the store fails. Another writer's commit and a change that is too large don't, and
    /// whether a remote one can be reached is looked at all the time.
    fn is_trouble(&self, error: &StoreError) -> bool {
        match error {
            StoreError::Stale { .. } | StoreError::TooLarge => false,
            StoreError::Away | StoreError::Ended | StoreError::Unknown => !self.store.is_remote(),
            _ => true,
        }
    }
}

impl<S: Store> Store for Measured<S> {
    async fn load(&self) -> Result<Loaded, StoreError> {
        self.store.load().await
    }

    async fn commit(&self, expected: Revision, draft: Draft) -> Result<Revision, StoreError> {
        let began = Instant::now();
        self.health.lock().pending = Some(began);
        let committed = self.store.commit(expected, draft).await;
        let trouble = committed.as_ref().err().filter(|error| self.is_trouble(error)).cloned();
        self.metrics.commit(began.elapsed(), trouble.is_some());
        *self.health.lock() = Known { trouble, pending: None };
        committed
    }

    async fn watch(&self, from: Revision) -> Result<Watch, StoreError> {
        self.store.watch(from).await
    }

    async fn sync(&self) -> Result<Revision, StoreError> {
        self.store.sync().await
    }

    fn is_remote(&self) -> bool {
        self.store.is_remote()
    }

    fn member(&self) -> Option<MemberId> {
        self.store.member()
    }

    fn right(&self) -> Option<Right> {
        self.store.right()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{MemoryStore, conformance::draft};

    /// A store whose commits never end.
    struct Stuck;

    impl Store for Stuck {
        async fn load(&self) -> Result<Loaded, StoreError> {
            std::future::pending().await
        }

        async fn commit(&self, _: Revision, _: Draft) -> Result<Revision, StoreError> {
            std::future::pending().await
        }

        async fn watch(&self, _: Revision) -> Result<Watch, StoreError> {
            std::future::pending().await
        }

        async fn sync(&self) -> Result<Revision, StoreError> {
            std::future::pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_does_not_answer_is_noticed() {
        let health = Arc::new(Health::default());
        let store = Measured { store: Stuck, health: Arc::clone(&health), metrics: Arc::default() };
        tokio::spawn(async move { store.commit(Revision(0), draft(vec![])).await });
        tokio::task::yield_now().await;
        tokio::time::advance(SLOW).await;
        assert_eq!(health.trouble(), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(health.trouble(), Some(StoreError::Slow));
    }

    #[tokio::test]
    async fn a_commit_shows_that_the_store_works_again() {
        let health = Arc::new(Health::failing(StoreError::Full));
        let metrics = Arc::<Metrics>::default();
        let store = Measured { store: MemoryStore::new(), health: Arc::clone(&health), metrics: Arc::clone(&metrics) };
        assert_eq!(health.trouble(), Some(StoreError::Full));
        assert!(matches!(store.commit(Revision(7), draft(vec![])).await, Err(StoreError::Stale { .. })));
        store.commit(Revision(0), draft(vec![])).await.unwrap();
        assert_eq!(health.trouble(), None);
        let text = mesh_metrics::text(&[metrics.registry()]);
        assert!(text.contains("mesh_coord_store_errors_total 0\n"), "another writer's commit is no error: {text}");
        assert!(text.contains("mesh_coord_store_commit_seconds_count 2\n"), "{text}");
    }
}
