//! Each connection holds one of a limited number of places as long as it lives.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::tenant::Tenant;

mod source;
mod table;

pub(crate) use source::share;
pub(crate) use table::{Full, Room, Stage};
use table::{Id, Places};

/// The places of a listener.
#[derive(Debug, Clone)]
pub(crate) struct Seats(Arc<Mutex<Taken>>);

#[derive(Debug)]
struct Taken {
    places: Places,
    /// Closed when the connection has to end.
    holders: HashMap<Id, watch::Sender<()>>,
}

impl Seats {
    pub(crate) fn new(room: Room) -> Self {
        Self(Arc::new(Mutex::new(Taken { places: Places::new(room), holders: HashMap::new() })))
    }

    /// A place for a connection from this address.
    pub(crate) fn enter(&self, address: std::net::IpAddr) -> Place {
        let mut taken = self.lock();
        let (id, gone) = taken.places.enter(address);
        let (holder, lost) = watch::channel(());
        taken.holders.insert(id, holder);
        if let Some(gone) = gone {
            taken.holders.remove(&gone);
        }
        Place(Arc::new(Hold { id, seats: self.clone(), lost }))
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a connection, released when the last clone is dropped. A stream keeps the place of its connection.
#[derive(Debug, Clone)]
pub(crate) struct Place(Arc<Hold>);

#[derive(Debug)]
struct Hold {
    id: Id,
    seats: Seats,
    lost: watch::Receiver<()>,
}

impl Place {
    /// Records the connection's stage.
    pub(crate) fn reach(&self, stage: Stage) {
        self.0.seats.lock().places.reach(self.0.id, stage);
    }

    /// The connection has presented a tenant's credential.
    ///
    /// # Errors
    /// If the tenant has no place left.
    pub(crate) fn prove(&self, tenant: &Tenant) -> Result<(), Full> {
        self.change_over(tenant)
    }

    /// The same for short requests: if the tenant has no place left, the connection keeps the one that it has.
    pub(crate) fn prove_if_there_is_room(&self, tenant: &Tenant) {
        let _ = self.change_over(tenant);
    }

    fn change_over(&self, tenant: &Tenant) -> Result<(), Full> {
        let mut taken = self.0.seats.lock();
        let gone = taken.places.prove(self.0.id, tenant)?;
        if let Some(gone) = gone {
            taken.holders.remove(&gone);
        }
        Ok(())
    }

    /// The connection's stream has begun.
    pub(crate) fn begin(&self) {
        self.0.seats.lock().places.begin(self.0.id);
    }

    /// Returns when the connection has to end.
    pub(crate) async fn lost(&self) {
        let mut lost = self.0.lost.clone();
        while lost.changed().await.is_ok() {}
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut taken = self.seats.lock();
        taken.places.leave(self.id);
        taken.holders.remove(&self.id);
    }
}
