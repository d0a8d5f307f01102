//! Where other runners reach this one: at the addresses of its interfaces, or where its operator says.

mod gateway;
mod interfaces;
mod mapping;
mod names;
mod offer;
mod router;
mod seen;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use mesh_proto::{View, relay::Place};
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::{Instant, interval, timeout},
};

pub(super) use self::router::FILE;
use self::{
    names::Names,
    offer::{Known, Offer},
    router::{Port, Shown},
    seen::Seen,
};
use super::{lookup, settings::Reach};
use crate::{config::Endpoint, control::Offered, dataplane::RelayNews, local, state::StateDir};

/// How often the interfaces are read.
const INTERVAL: Duration = Duration::from_secs(3);

/// What this runner offers, and what there is to say of it.
#[derive(Debug)]
pub(super) struct Endpoints {
    offered: watch::Receiver<Offered>,
    warnings: watch::Receiver<Vec<String>>,
    mapping: watch::Receiver<Shown>,
    reach: watch::Sender<Reach>,
    task: AbortHandle,
}

impl Endpoints {
    /// Follows what the offer is made of. What names mean, what relays see and what the router forwards comes a little later.
    pub(super) fn follow(
        port: u16,
        state: &StateDir,
        reach: Reach,
        views: watch::Receiver<Option<Arc<View>>>,
        news: watch::Receiver<RelayNews>,
    ) -> Self {
        let bell = Arc::new(Notify::new());
        let (reach, wanted) = watch::channel(reach);
        let (told, mapping) = watch::channel(None);
        if let Some(port) = Port::new(port, state) {
            tokio::spawn(router::keep(port, wanted.clone(), Arc::clone(&bell), told));
        }
        let (names, seen) = (Names::default(), Seen::new(Instant::now()));
        let mapped = mapping.clone();
        let mut sources =
            Sources { reach: wanted, views, news, mapping: mapped, names, seen, port, interfaces: vec![], bell };
        sources.read_interfaces();
        let Offer { offered, warnings } = sources.offer();
        let ((offered, offers), (warned, warnings)) = (watch::channel(offered), watch::channel(warnings));
        let task = tokio::spawn(sources.follow(offered, warned)).abort_handle();
        Self { offered: offers, warnings, mapping, reach, task }
    }

    /// The offer; every change is to be told.
    pub(super) fn offered(&self) -> watch::Receiver<Offered> {
        self.offered.clone()
    }

    /// The addresses that are offered.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.offered.borrow().addresses.clone()
    }

    /// What is wrong, in words.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mapping = self.mapping().and_then(|mapping| mapping.error);
        let mapping = mapping.map(|why| format!("no port is mapped, or none that all runners reach: {why}"));
        self.warnings.borrow().iter().cloned().chain(mapping).collect()
    }

    /// The port of the router, if one was asked for.
    pub(super) fn mapping(&self) -> Option<local::PortMapping> {
        self.mapping.borrow().clone()
    }

    /// Whether a port of another machine is said to lead here, by the operator or by the router.
    pub(super) fn are_forwarded(&self) -> bool {
        !self.reach.borrow().endpoints.is_empty() || self.mapping().is_some_and(|mapping| mapping.outside.is_some())
    }

    /// The operator says otherwise.
    pub(super) fn set(&self, reach: Reach) {
        self.reach.send_if_modified(|before| std::mem::replace(before, reach.clone()) != reach);
    }

    /// Takes back what the router forwards, within this time. The offer stays as it was.
    pub(super) async fn end(&self, patience: Duration) {
        self.task.abort();
        self.reach.send_modify(|reach| reach.map_port = false);
        let _ = timeout(patience, self.mapping.clone().wait_for(Option::is_none)).await;
    }
}

/// What the offer is made of.
struct Sources {
    reach: watch::Receiver<Reach>,
    views: watch::Receiver<Option<Arc<View>>>,
    news: watch::Receiver<RelayNews>,
    mapping: watch::Receiver<Shown>,
    names: Names,
    seen: Seen,
    port: u16,
    /// The addresses of this machine's interfaces, as they were last read.
    interfaces: Vec<SocketAddr>,
    /// Has the router asked at once.
    bell: Arc<Notify>,
}

type Lookup = BoxFuture<'static, (Place, Result<Vec<SocketAddr>, String>)>;

impl Sources {
    /// Makes the offer anew whenever something has changed, as long as there is a receiver.
    async fn follow(mut self, offered: watch::Sender<Offered>, warned: watch::Sender<Vec<String>>) {
        let (mut reading, mut looking) = (interval(INTERVAL), interval(lookup::AGAIN));
        let mut lookups = FuturesUnordered::<Lookup>::new();
        loop {
            tokio::select! {
                () = offered.closed() => return,
                _ = reading.tick() => self.read_interfaces(),
                _ = looking.tick() => if lookups.is_empty() {
                    lookups = self.look_up();
                },
                Some((place, answer)) = lookups.next() => self.names.learn(place, answer, Instant::now()),
                Ok(()) = self.reach.changed() => lookups = self.look_up(),
                Ok(()) = self.news.changed() => {
                    let news = self.news.borrow_and_update().clone();
                    if self.seen.learn(&news, Instant::now()) {
                        self.bell.notify_one();
                    }
                }
                Ok(()) = self.views.changed() => self.read_interfaces(),
                Ok(()) = self.mapping.changed() => {}
            }
            self.tell(&offered, &warned);
        }
    }

    fn read_interfaces(&mut self) {
        let range = self.views.borrow_and_update().as_ref().map(|view| view.network.range);
        let now = interfaces::addresses(self.port, range);
        if std::mem::replace(&mut self.interfaces, now) != self.interfaces {
            self.bell.notify_one();
        }
    }

    /// Begins to look all names up.
    fn look_up(&mut self) -> FuturesUnordered<Lookup> {
        let endpoints = self.reach.borrow_and_update().endpoints.clone();
        let names: Vec<Place> = endpoints
            .into_iter()
            .filter_map(|endpoint| match endpoint {
                Endpoint::Name(place) => Some(place),
                Endpoint::At(_) | Endpoint::Seen(_) => None,
            })
            .collect();
        self.names.keep(names.iter());
        let look_up = |place: Place| async move { (place.clone(), lookup::addresses(&place).await) }.boxed();
        names.into_iter().map(look_up).collect()
    }

    fn offer(&self) -> Offer {
        let range = self.views.borrow().as_ref().map(|view| view.network.range);
        let (reach, news) = (self.reach.borrow(), self.news.borrow());
        let known = Known {
            reach: &reach,
            names: &self.names,
            seen: self.seen.addresses(Instant::now()),
            mapped: self.mapping.borrow().as_ref().and_then(|mapping| mapping.outside),
            interfaces: &self.interfaces,
            range,
            relays: &news.places().collect::<Vec<_>>(),
        };
        known.offer()
    }

    fn tell(&self, offered: &watch::Sender<Offered>, warned: &watch::Sender<Vec<String>>) {
        let Offer { offered: now, warnings } = self.offer();
        if offered.send_if_modified(|before| std::mem::replace(before, now.clone()) != now) {
            tracing::info!(endpoints = ?now.addresses, "this runner is reached at other addresses");
        }
        warned.send_if_modified(|before| {
            warnings.iter().filter(|warning| !before.contains(warning)).for_each(|news| tracing::warn!("{news}"));
            std::mem::replace(before, warnings.clone()) != warnings
        });
    }
}
