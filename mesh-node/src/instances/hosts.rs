//! The hosts files in which instances' names are kept.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::future::join_all;
use mesh_proto::{
    InstanceId, ServicePath,
    message::Refusal,
    names::{Names, names},
};
use serde::{Deserialize, Deserializer};
use tokio::{
    task::{JoinSet, spawn_blocking},
    time::{Instant, sleep, timeout},
};

use super::{
    manager::{Inner, Instances, one_line},
    recover::process_in,
    table::Entry,
};
use crate::{
    attach::NamespaceId,
    hosts::{HostsFile, Kept, Place, Taken, Unkept},
};

/// How long a hosts file that another instance keeps is waited for: its end may not have been heard of yet.
const UNHEARD: Duration = Duration::from_secs(2);
/// The same while that one is being taken out, which a coordinator that says nothing delays.
const ENDING: Duration = Duration::from_secs(15);
/// How long an instance's start waits until its names are in the file: a disk may have much to write.
const WRITTEN: Duration = Duration::from_secs(8);
/// How long a restarted agent waits for its hosts files before it goes on: one may be on a file system that doesn't answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long until a hosts file that can't be had is tried again; doubled each time, up to [`LATE`].
const SOON: Duration = Duration::from_millis(50);
/// How many names that are left out the log names at a time.
const WARNINGS: usize = 20;
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
    pub(super) namespace: NamespaceId,
    pub(super) service: ServicePath,
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
    /// Keeps a hosts file for a service. One that another service keeps is waited for if that is about to end.
    ///
    /// # Errors
    /// If it is not: the names of one would be the other's.
    pub(super) async fn keep(
        &self,
        service: &ServicePath,
        (place, mut file): (Place, HostsFile),
    ) -> Result<Hosts, Refusal> {
        let (begun, mut released) = (Instant::now(), self.inner.files.released());
        loop {
            released.mark_unchanged();
            let taken = match self.inner.files.keep(file, service) {
                Ok(file) => return Ok(Hosts { place, file }),
                Err(taken) => taken,
            };
            let ends = self.table().is_ending(&taken.by);
            let left = if ends { ENDING } else { UNHEARD }.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(self.refuse(*taken));
            }
            file = taken.file;
            drop(taken.there);
            // Whoever was about to end may have been heard of meanwhile, and the other way round.
            let _ = timeout(left.min(UNHEARD), released.changed()).await;
        }
    }

    fn refuse(&self, taken: Taken) -> Refusal {
        let Taken { file, by, there } = taken;
        let hosts = file.name().display().to_string();
        file.let_go();
        match there.and_then(|there| self.table().keeper(&there)) {
            Some(instance) => Refusal::new(
                format!("the hosts file {hosts} holds the names of {instance} of {by} already"),
                format!(
                    "give it a hosts file of its own: only instances of one service can share one; `mesh-node detach {instance}` frees it"
                ),
            ),
            None => Refusal::new(
                format!(
                    "the names of an instance of {by} that has ended are still being taken out of the hosts file {hosts}"
                ),
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
                    tracing::warn!(service = %left.service, %error, "its names aren't kept there until that one goes");
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

    /// The instance that is there and whose names belong into it.
    fn wants(&self, left: &Left) -> Option<InstanceId> {
        let table = self.table();
        let instance = table.by_namespace(left.namespace)?;
        table.get(instance).is_some_and(|entry| entry.wants(&left.place)).then_some(instance)
    }

    async fn reopen(&self, left: &Left) -> Result<(), Later> {
        // The process was the instance's: it is gone with that, or before it, and its number may be another's by now.
        if let Place::Process(pid) | Place::Runtime(pid, _) = left.place
            && (self.wants(left).is_none() || process_in(pid, left.namespace).is_none())
        {
            return Ok(());
        }
        let at = left.place.clone();
        let opened = spawn_blocking(move || at.open_again()).await;
        let unkept = match opened.unwrap_or_else(|e| Err(Unkept::Refused(Refusal::bare(e.to_string())))) {
            Ok(Some(file)) => return self.keep_again(left, file).await,
            Ok(None) => return Err(Later::Leased),
            Err(unkept) => unkept.refusal(),
        };
        // Else it has gone with the instance.
        if let Some(instance) = self.wants(left) {
            let text = Some(one_line(&unkept));
            let is_new = self.table().get_mut(instance).is_some_and(|entry| {
                let before = std::mem::replace(&mut entry.attachment.unkept, text.clone());
                before != text
            });
            if is_new {
                tracing::warn!(service = %left.service, error = %unkept, hint = unkept.hint, "a hosts file of it does not follow changes any more");
                self.save();
            }
        }
        Ok(())
    }

    async fn keep_again(&self, left: &Left, file: HostsFile) -> Result<(), Later> {
        let Left { namespace, service, place } = left;
        let _turn = self.turn(*namespace).await;
        let wanted = self.wants(left);
        let file = match self.inner.files.keep(file, service) {
            Ok(file) => file,
            Err(taken) => {
                let why = self.refuse(*taken);
                // Whoever keeps it has put his names in place of those that were there.
                return if wanted.is_some() { Err(Later::Taken(why)) } else { Ok(()) };
            }
        };
        let hosts = Hosts { place: place.clone(), file: file.clone() };
        let written = match wanted {
            Some(instance) => {
                {
                    let mut table = self.table();
                    let keep = |entry: &mut Entry| {
                        entry.attachment.unkept = None;
                        entry.keep_hosts(hosts)
                    };
                    let replaced = table.get_mut(instance).map(keep).unwrap_or_default();
                    drop(table.let_go(replaced));
                }
                // A runtime may have rewritten it while no agent looked.
                self.put_names(instance, &file).await
            }
            None => {
                let cleared = self.table().let_go(vec![hosts]);
                join_all(cleared).await;
                Ok(())
            }
        };
        if let Err(error) = written {
            tracing::warn!(%service, ?place, %error, "the names in a hosts file are out of date");
        }
        Ok(())
    }
}

impl Instances {
    /// What belongs into an instance's hosts files, if the view holds it. What is left out is said once.
    pub(super) fn names_of(&self, instance: InstanceId) -> Option<Vec<(Ipv4Addr, String)>> {
        let view = self.inner.parts.control.view()?;
        let Names { hosts, warnings, beyond, .. } = names(&view, view.instance(instance)?.service)?;
        let mut table = self.table();
        if let Some(entry) = table.get_mut(instance) {
            let service = &entry.attachment.service;
            let news = entry.told.news(warnings, beyond);
            news.iter().take(WARNINGS).for_each(|left_out| tracing::warn!(%instance, %service, "{left_out}"));
            if let Some(more) = news.len().checked_sub(WARNINGS).filter(|more| *more > 0) {
                tracing::warn!(%instance, %service, more, "more names are left out: `mesh-node hosts {service}` says all");
            }
        }
        Some(hosts)
    }

    /// In which hosts files names stay that no instance keeps there, and why.
    pub(crate) fn hosts_warnings(&self) -> Vec<String> {
        self.inner.files.warnings()
    }

    /// Writes what the view says into an instance's hosts file.
    pub(super) async fn put_names(&self, instance: InstanceId, file: &Kept) -> Result<(), Refusal> {
        let Some(names) = self.names_of(instance) else { return Ok(()) };
        file.put_within(WRITTEN, names).await.map_err(|e| {
            let hint = "give another one with --hosts FILE, or attach by --netns PATH, without a hosts file";
            Refusal::new(format!("the names can't be written into the hosts file: {e}"), hint)
        })
    }
}

impl Hosts {
    /// Takes the names out; that is under way when this returns. What can't be is told.
    pub(super) fn clear(self) -> impl Future<Output = ()> + use<> {
        let cleared = self.file.clear();
        async move {
            if let Err(error) = cleared.await {
                tracing::warn!(place = ?self.place, %error, "the names could not be taken out of the hosts file");
            }
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
mod covered;
pub(super) mod moved;
#[cfg(test)]
mod tests;
