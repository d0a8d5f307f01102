//! The hosts files in which instances' names are kept.

use std::{
    net::Ipv4Addr,
    path::Path,
    sync::{Arc, Weak},
    time::Duration,
};

use mesh_proto::{InstanceId, View, message::Refusal, names::names};
use serde::{Deserialize, Deserializer};
use tokio::{
    task::{JoinSet, spawn_blocking},
    time::{Instant, sleep, timeout},
};

use super::{
    manager::{Inner, Instances},
    recover::process_in,
};
use crate::{
    attach::NamespaceId,
    hosts::{HostsFile, Kept, Place},
};

/// How long a hosts file that another instance keeps is waited for: its end may not have been heard of yet.
const UNHEARD: Duration = Duration::from_secs(2);
/// The same while that one is being taken out, which a coordinator that says nothing delays.
const ENDING: Duration = Duration::from_secs(15);
/// How long a restarted agent waits for its hosts files before it goes on: one may be on a file system that doesn't answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long until a hosts file that can't be had is tried again; doubled each time, up to [`LATE`].
const SOON: Duration = Duration::from_millis(50);
/// The longest that this becomes.
const LATE: Duration = Duration::from_secs(10);

/// A hosts file in which an instance's names are kept.
#[derive(Debug)]
pub(super) struct Hosts {
    pub(super) place: Place,
    pub(super) file: Kept,
}

/// A hosts file of an earlier run.
#[derive(Debug, Clone)]
pub(super) struct Left {
    pub(super) instance: InstanceId,
    pub(super) namespace: NamespaceId,
    pub(super) place: Place,
}

/// Why it can't be had now.
#[derive(Debug)]
enum Later {
    /// Somebody holds a lease on it.
    Leased,
    /// Another instance keeps it.
    Taken(Refusal),
}

impl Instances {
    /// Keeps a hosts file for the instance of a namespace. One that another instance keeps is waited for if that is about to end.
    ///
    /// # Errors
    /// If it is not: the names of one would be the other's.
    pub(super) async fn keep(
        &self,
        namespace: NamespaceId,
        (place, mut file): (Place, HostsFile),
    ) -> Result<Hosts, Refusal> {
        let (begun, mut released) = (Instant::now(), self.inner.files.released());
        loop {
            released.mark_unchanged();
            let taken = match self.inner.files.keep(file, namespace) {
                Ok(file) => return Ok(Hosts { place, file }),
                Err(taken) => taken,
            };
            let stays = self.table().stays(taken.by);
            let left = if stays { UNHEARD } else { ENDING }.saturating_sub(begun.elapsed());
            if left.is_zero() {
                let refusal = self.refusal(taken.file.name(), taken.by);
                taken.file.let_go();
                return Err(refusal);
            }
            let _ = timeout(left, released.changed()).await;
            file = taken.file;
        }
    }

    fn refusal(&self, hosts: &Path, by: NamespaceId) -> Refusal {
        let hosts = hosts.display();
        let table = self.table();
        match table.by_namespace(by).and_then(|instance| table.get(instance)).map(|entry| &entry.attachment) {
            Some(there) => Refusal::new(
                format!("the hosts file {hosts} holds the names of {} of {} already", there.instance, there.service),
                format!(
                    "give each instance a hosts file of its own (only containers that share a network namespace can share one); \
                     `mesh-node detach {}` frees it",
                    there.instance
                ),
            ),
            None => Refusal::new(
                format!("the names of an instance that has ended are still being taken out of the hosts file {hosts}"),
                "try again when its file system answers, or give another one with --hosts FILE",
            ),
        }
    }

    /// Finds the hosts files of an earlier run again, for instances that are here to keep their names in, and for the others
    /// to take them out.
    pub(super) async fn reopen_hosts(&self, all: Vec<Left>) {
        let mut reopening = JoinSet::new();
        for left in all {
            let this = self.clone();
            reopening.spawn(async move {
                let Err(later) = this.reopen(&left).await else { return };
                if let Later::Taken(error) = later {
                    tracing::warn!(instance = %left.instance, %error, "its names aren't kept there until that one goes");
                }
                tokio::spawn(reopen_later(Arc::downgrade(&this.inner), left));
            });
        }
        let all = async { while reopening.join_next().await.is_some() {} };
        if timeout(PATIENCE, all).await.is_err() {
            tracing::warn!("a hosts file keeps us waiting: its names follow when its file system answers");
            reopening.detach_all();
        }
    }

    async fn reopen(&self, left: &Left) -> Result<(), Later> {
        let Left { instance, namespace, place } = left;
        let wanted = || self.table().get(*instance).is_some_and(|entry| entry.wants(place));
        // The process was the instance's: it is gone with that, or before it, and its number may be another's by now.
        if let Place::Process(pid) = place
            && (!wanted() || process_in(*pid, *namespace).is_none())
        {
            return Ok(());
        }
        let at = place.clone();
        let opened = spawn_blocking(move || HostsFile::open_unleased(&at.reach()?)).await;
        match opened.unwrap_or_else(|e| Err(Refusal::bare(e.to_string()))) {
            Ok(Some(file)) => return self.keep_again(left, file).await,
            Ok(None) => return Err(Later::Leased),
            Err(error) if wanted() => {
                tracing::warn!(%instance, %error, "a hosts file of it does not follow changes any more");
            }
            // It has gone with the instance.
            Err(_) => {}
        }
        Ok(())
    }

    async fn keep_again(&self, left: &Left, file: HostsFile) -> Result<(), Later> {
        let Left { instance, namespace, place } = left;
        let _turn = self.turn(*namespace).await;
        let wanted = self.table().get(*instance).is_some_and(|entry| entry.wants(place));
        let file = match self.inner.files.keep(file, *namespace) {
            Ok(file) => file,
            Err(taken) => {
                let why = self.refusal(taken.file.name(), taken.by);
                taken.file.let_go();
                // Whoever keeps it has put his names in place of those that were there.
                return if wanted { Err(Later::Taken(why)) } else { Ok(()) };
            }
        };
        let written = if wanted {
            if let Some(entry) = self.table().get_mut(*instance) {
                entry.keep_hosts(Hosts { place: place.clone(), file: file.clone() });
            }
            // A runtime may have rewritten it while nobody looked.
            put_names(self.inner.parts.control.view().as_deref(), *instance, &file).await
        } else if self.table().keeps(&file) {
            Ok(())
        } else {
            file.clear().await.map_err(|e| Refusal::bare(e.to_string()))
        };
        if let Err(error) = written {
            tracing::warn!(%instance, ?place, %error, "the names in a hosts file are out of date");
        }
        Ok(())
    }
}

impl Hosts {
    /// Takes the names out. What can't be is told.
    pub(super) async fn clear(self) {
        if let Err(error) = self.file.clear().await {
            tracing::warn!(place = ?self.place, %error, "the names could not be taken out of the hosts file");
        }
    }
}

/// Until the lease is given up, which the kernel sees to, or whoever keeps it lets go, or the agent ends.
async fn reopen_later(inner: Weak<Inner>, left: Left) {
    let mut pause = SOON;
    loop {
        sleep(pause).await;
        let Some(inner) = inner.upgrade() else { return };
        if (Instances { inner }).reopen(&left).await.is_ok() {
            return;
        }
        pause = (pause * 2).min(LATE);
    }
}

/// What belongs into an instance's hosts file, if the view holds it.
pub(super) fn names_of(view: &View, instance: InstanceId) -> Option<Vec<(Ipv4Addr, String)>> {
    Some(names(view, view.instance(instance)?.service)?.hosts)
}

/// Writes what the view says into an instance's hosts file.
pub(super) async fn put_names(view: Option<&View>, instance: InstanceId, file: &Kept) -> Result<(), Refusal> {
    let Some(names) = view.and_then(|view| names_of(view, instance)) else { return Ok(()) };
    file.put(names).await.map_err(|e| {
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

#[cfg(test)]
mod tests;
