//! What monitoring asks for: whether the coordinator works, and its numbers.

mod figures;

use std::{path::PathBuf, sync::Arc, time::Duration};

use axum::http::StatusCode;
use mesh_metrics::{EachSecond, Page, Pages};
use tokio::time::timeout;

use crate::{
    coordinator::Coordinator,
    store::{Health, StoreError},
};

/// How long the writer may take before the coordinator counts as not ready.
const PATIENCE: Duration = Duration::from_secs(2);

/// The pages for monitoring. What they cost doesn't grow with the number of requests.
#[derive(Debug, Clone)]
pub(crate) struct Exposition(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    coordinator: Coordinator,
    disk: Option<Disk>,
    text: EachSecond<Result<Arc<str>, Unready>>,
    ready: EachSecond<Result<(), Unready>>,
}

/// The store's state and place.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) health: Arc<Health>,
    /// The database's file; `None` where it is elsewhere.
    pub(crate) database: Option<PathBuf>,
}

/// Why the coordinator doesn't work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unready {
    /// Commands can't be committed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The writer doesn't answer.
    #[error("the coordinator's writer does not answer within {} s", PATIENCE.as_secs())]
    Busy,
    /// The coordinator is ending.
    #[error("the coordinator is shutting down")]
    Ending,
}

impl Unready {
    /// What the operator may try next.
    pub(crate) const fn hint(&self) -> &'static str {
        match self {
            Self::Store(error) => error.hint(),
            Self::Busy => "is the machine overloaded, or its disk slow? The log may say more",
            Self::Ending => "try again when it is back",
        }
    }
}

impl Exposition {
    pub(crate) fn new(coordinator: Coordinator, disk: Option<Disk>) -> Self {
        Self(Arc::new(Inner { coordinator, disk, text: EachSecond::default(), ready: EachSecond::default() }))
    }

    /// Whether commands can be carried out.
    pub(crate) async fn ready(&self) -> Result<(), Unready> {
        self.0.ready.get(self.0.check()).await
    }

    /// All metrics.
    pub(crate) async fn metrics(&self) -> Result<Arc<str>, Unready> {
        self.0.text.get(self.0.text()).await
    }
}

impl Inner {
    async fn check(&self) -> Result<(), Unready> {
        if let Some(trouble) = self.disk.as_ref().and_then(|disk| disk.health.trouble()) {
            return Err(trouble.into());
        }
        if self.coordinator.is_stale() {
            return Err(StoreError::Away.into());
        }
        let visit = timeout(PATIENCE, self.coordinator.visit(|_| ())).await;
        visit.map_err(|_| Unready::Busy)?.map_err(|_| Unready::Ending)
    }

    async fn text(&self) -> Result<Arc<str>, Unready> {
        let (now, secrets) = (self.coordinator.now(), Arc::clone(&self.coordinator.relay_secrets));
        let look =
            move |core: &mut crate::coordinator::Core| figures::of(core, now, &|handle| secrets.get(handle).is_some());
        // A relay may have its stream at another coordinator.
        let looked = timeout(PATIENCE, self.coordinator.look_elsewhere()).await;
        looked.map_err(|_| Unready::Busy)?.map_err(|_| Unready::Ending)?;
        let visit = timeout(PATIENCE, self.coordinator.visit(look)).await;
        let mut snapshot = visit.map_err(|_| Unready::Busy)?.map_err(|_| Unready::Ending)?;
        if let Some(book) = self.coordinator.telemetry.book() {
            figures::add_reports(&mut snapshot, &book);
        }
        if let Some(database) = self.disk.as_ref().and_then(|disk| disk.database.as_ref()) {
            figures::add_sizes(&mut snapshot, database);
        }
        mesh_metrics::add_process(&mut snapshot);
        let figures = snapshot.into_registry();
        Ok(mesh_metrics::text(&[&figures, self.coordinator.metrics.registry()]).into())
    }
}

/// At an address of their own.
impl Pages for Exposition {
    async fn page(&self, path: &str) -> Option<Page> {
        let failing = |why: Unready| Page::line(StatusCode::SERVICE_UNAVAILABLE, &why.to_string());
        Some(match path {
            "/metrics" => {
                self.metrics().await.map_or_else(failing, |text| Page::metrics(text.as_bytes().to_vec().into()))
            }
            "/readyz" => self.ready().await.map_or_else(failing, |()| Page::line(StatusCode::OK, "ready")),
            "/healthz" => Page::line(StatusCode::OK, "ok"),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests;
