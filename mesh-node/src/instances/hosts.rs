//! The hosts files in which instances' names are kept.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use mesh_proto::{InstanceId, View, message::Refusal, names::names};
use serde::{Deserialize, Deserializer};
use tokio::{
    task::{JoinSet, spawn_blocking},
    time::{sleep, timeout},
};

use super::manager::{Inner, Instances, blocking};
use crate::hosts::{Guard, HostsFile, Place};

/// How long a restarted agent waits for its hosts files before it goes on: one may be on a file system that doesn't answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long until a hosts file on which somebody holds a lease is tried again; doubled each time, up to [`LATE`].
const SOON: Duration = Duration::from_millis(50);
/// The longest that this becomes.
const LATE: Duration = Duration::from_secs(10);

/// A hosts file in which an instance's names are kept.
#[derive(Debug)]
pub(super) struct Hosts {
    pub(super) place: Place,
    pub(super) file: Arc<HostsFile>,
    /// Puts them back, until dropped.
    pub(super) _guard: Option<Guard>,
}

impl Instances {
    /// A hosts file that keeps its names whatever a runtime writes.
    pub(super) fn guarded(&self, place: Place, file: Arc<HostsFile>) -> Hosts {
        let guard = self.inner.parts.guards.as_ref().map(|guards| guards.guard(&file)).transpose();
        let _guard = guard.unwrap_or_else(|error| {
            tracing::warn!(?place, %error, "if its runtime rewrites this hosts file, the names are gone until they change");
            None
        });
        Hosts { place, file, _guard }
    }

    /// Finds the hosts files of an earlier run again, for instances that are here to keep their names in, and for the others
    /// to take them out.
    pub(super) async fn reopen_hosts(&self, all: Vec<(InstanceId, Place)>) {
        let mut reopening = JoinSet::new();
        for (instance, place) in all {
            let this = self.clone();
            reopening.spawn(async move {
                if !this.reopen(instance, &place).await {
                    tokio::spawn(reopen_later(Arc::downgrade(&this.inner), instance, place));
                }
            });
        }
        let all = async { while reopening.join_next().await.is_some() {} };
        if timeout(PATIENCE, all).await.is_err() {
            tracing::warn!("a hosts file keeps us waiting: its names follow when its file system answers");
            reopening.detach_all();
        }
    }

    /// Gives `false` if somebody holds a lease on the file.
    async fn reopen(&self, instance: InstanceId, place: &Place) -> bool {
        let wanted = || self.table().get(instance).is_some_and(|entry| entry.wants(place));
        // The process was the instance's: it is gone with that, and its number may be another's by now.
        if matches!(place, Place::Process(_)) && !wanted() {
            return true;
        }
        let at = place.clone();
        let opened = spawn_blocking(move || HostsFile::open_unleased(&at.reach()?)).await;
        match opened.unwrap_or_else(|e| Err(Refusal::bare(e.to_string()))) {
            Ok(Some(file)) => self.keep_again(instance, place, Arc::new(file)).await,
            Ok(None) => return false,
            Err(error) if wanted() => {
                tracing::warn!(%instance, %error, "a hosts file of it does not follow changes any more");
            }
            // It has gone with the instance.
            Err(_) => {}
        }
        true
    }

    async fn keep_again(&self, instance: InstanceId, place: &Place, file: Arc<HostsFile>) {
        let _turn = self.turn_of(instance).await;
        let hosts = self.guarded(place.clone(), Arc::clone(&file));
        let kept =
            self.table().get_mut(instance).filter(|entry| entry.wants(place)).map(|entry| entry.keep_hosts(hosts));
        let written = match kept {
            // A runtime may have rewritten it while nobody looked.
            Some(()) => put_names(self.inner.parts.control.view().as_deref(), instance, file).await,
            // Another instance may have taken its place.
            None if self.table().iter().any(|entry| entry.wants(place)) => Ok(()),
            None => blocking(move || file.clear()).await,
        };
        if let Err(error) = written {
            tracing::warn!(%instance, ?place, %error, "the names in a hosts file are out of date");
        }
    }
}

/// Until the lease is given up, which the kernel sees to, or the agent ends.
async fn reopen_later(inner: Weak<Inner>, instance: InstanceId, place: Place) {
    let mut pause = SOON;
    loop {
        sleep(pause).await;
        let Some(inner) = inner.upgrade() else { return };
        if (Instances { inner }).reopen(instance, &place).await {
            return;
        }
        pause = (pause * 2).min(LATE);
    }
}

/// Writes what the view says into an instance's hosts file.
pub(super) async fn put_names(view: Option<&View>, instance: InstanceId, file: Arc<HostsFile>) -> Result<(), Refusal> {
    let names = view.and_then(|view| names(view, view.instance(instance)?.service));
    let Some(names) = names else { return Ok(()) };
    let written = spawn_blocking(move || file.put(&names.hosts)).await.unwrap_or_else(|e| Err(e.into()));
    written.map_err(|e| {
        let hint = "give another one with --hosts FILE, or attach by --netns PATH, without a hosts file";
        Refusal::new(format!("the names can't be written into the hosts file: {e}"), hint)
    })
}

/// Of several hosts files, or of the one at most that earlier versions knew.
pub(super) fn places<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Place>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Places {
        Several(Vec<Place>),
        AtMostOne(Option<Place>),
    }
    Ok(match Places::deserialize(from)? {
        Places::Several(places) => places,
        Places::AtMostOne(place) => place.into_iter().collect(),
    })
}
