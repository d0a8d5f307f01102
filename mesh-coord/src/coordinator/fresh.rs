//! Whether what the coordinator knows is what was confirmed, by whichever coordinator.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use mesh_proto::Revision;
use mesh_several::contact::Contact;
use tokio::{sync::watch, time::timeout};

use super::{Coordinator, Failure, core::now};
use crate::store::{Store, StoreError};

/// How long a request waits for it.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is known of how fresh the state is.
pub(super) struct Fresh {
    /// `None`: no other process can write to the database, so the state is it.
    store: Option<Box<dyn Synced>>,
    reached: watch::Receiver<Revision>,
    contact: Mutex<Contact>,
    /// Whether the streams have to end, so that their other ends look for another coordinator.
    cut_off: watch::Sender<bool>,
}

/// A store, for any kind of which it is.
trait Synced: Send + Sync {
    fn synced(&self) -> BoxFuture<'_, Result<Revision, StoreError>>;
}

impl<S: Store> Synced for Arc<S> {
    fn synced(&self) -> BoxFuture<'_, Result<Revision, StoreError>> {
        Box::pin(self.sync())
    }
}

impl fmt::Debug for Fresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fresh")
    }
}

impl Fresh {
    /// Of a state at `revision`, whose writer tells its further revisions.
    pub(super) fn new(store: Arc<impl Store>, revision: Revision) -> (watch::Sender<Revision>, Self) {
        let (told, reached) = watch::channel(revision);
        let store = store.is_remote().then(|| Box::new(store) as Box<dyn Synced>);
        let (contact, cut_off) = (Mutex::new(Contact::new(now())), watch::Sender::new(false));
        (told, Self { store, reached, contact, cut_off })
    }

    /// Waits until the state has all that was confirmed before this call.
    async fn wait(&self) -> Result<(), StoreError> {
        let Some(store) = &self.store else { return Ok(()) };
        let began = now();
        let reach = async {
            let revision = store.synced().await?;
            let mut reached = self.reached.clone();
            reached.wait_for(|reached| *reached >= revision).await.map(drop).map_err(|_| StoreError::Away)
        };
        timeout(PATIENCE, reach).await.map_err(|_| StoreError::Away)??;
        self.contact.lock().unwrap_or_else(PoisonError::into_inner).made(began);
        Ok(())
    }

    /// When the state was known to be fresh; `None`: it always is.
    fn contact(&self) -> Option<Contact> {
        self.store.as_ref().map(|_| *self.contact.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Coordinator {
    /// Waits until the coordinator knows all that was confirmed before this call.
    ///
    /// # Errors
    /// If it can't know it now.
    pub(crate) async fn refresh(&self) -> Result<(), Failure> {
        Ok(self.fresh.wait().await?)
    }

    /// The same for a request, which doesn't wait where nothing was known for a while.
    ///
    /// # Errors
    /// If it can't know it now.
    pub(crate) async fn refresh_for_request(&self) -> Result<(), Failure> {
        if self.is_stale() {
            return Err(StoreError::Away.into());
        }
        self.refresh().await
    }

    /// Whether it hasn't been known for a while whether the state is fresh.
    pub(crate) fn is_stale(&self) -> bool {
        self.lost_for().is_some()
    }

    /// For how long the database has been away, if it is.
    pub(crate) fn lost_for(&self) -> Option<Duration> {
        self.fresh.contact()?.lost_for(now())
    }

    /// From now on, the streams have to end, or they needn't any more. Returns whether they have to, and had not to
    /// before.
    pub(crate) fn cut_off(&self, is_cut_off: bool) -> bool {
        let was = self.fresh.cut_off.send_replace(is_cut_off);
        is_cut_off && !was
    }

    /// Signals that the streams have to end.
    pub(crate) fn is_cut_off(&self) -> watch::Receiver<bool> {
        self.fresh.cut_off.subscribe()
    }
}
