//! The processes that have a file as their `/etc/hosts`, or as their resolv.conf, or had.

use std::{
    os::fd::OwnedFd,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mesh_lifecycle::{FileId, FileKind};
use tokio::task::spawn_blocking;

use super::{
    bell::Bell,
    mounts::{MountWatch, MountWatches},
    place::is_seen_by,
};
use crate::sys::process::{has_ended, pidfd};

/// The processes of one file.
#[derive(Debug, Default)]
pub(super) struct SeenBy(Mutex<Vec<Seen>>);

#[derive(Debug)]
struct Seen {
    pid: i32,
    process: Arc<OwnedFd>,
    /// What is mounted over the file there.
    mounts: Option<MountWatch>,
}

impl SeenBy {
    /// Adds a process, unless it is one of them, or has ended.
    pub(super) fn add(&self, pid: i32) {
        let mut all = self.all();
        if !all.iter().any(|seen| seen.pid == pid && !has_ended(&seen.process))
            && let Ok(process) = pidfd(pid)
        {
            all.push(Seen { pid, process: Arc::new(process), mounts: None });
        }
    }

    /// Whether it was never a process's.
    pub(super) fn is_empty(&self) -> bool {
        self.all().is_empty()
    }

    /// Whether every process that runs has another file in its place, or none. `None`: none of them runs.
    pub(super) async fn is_hidden(&self, file: (FileId, FileKind)) -> Option<bool> {
        let all: Vec<_> = self.all().iter().map(|seen| (seen.pid, Arc::clone(&seen.process))).collect();
        if all.is_empty() {
            return None;
        }
        let look = move || all.iter().filter_map(|(pid, process)| is_seen_by(*pid, process, file)).collect();
        let seen: Vec<bool> = spawn_blocking(look).await.unwrap_or_default();
        (!seen.is_empty()).then(|| seen.iter().all(|seen| !seen))
    }

    /// Watches what is mounted over it, unless that is watched already. Within a tokio runtime.
    pub(super) fn watch(&self, mounts: &MountWatches, kind: FileKind, bell: &Arc<Bell>) {
        for seen in self.all().iter_mut().filter(|seen| seen.mounts.is_none()) {
            seen.mounts = mounts.watch(Some(seen.pid), Path::new(kind.path()), bell).ok();
        }
    }

    /// Whether that is watched for every process that runs.
    pub(super) fn is_watched(&self) -> bool {
        self.all().iter().all(|seen| seen.mounts.is_some() || has_ended(&seen.process))
    }

    fn all(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
