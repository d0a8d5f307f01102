//! Notices that another program has written to a hosts file, or that another file may have taken its place.

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{task::JoinHandle, time::sleep};

use super::{bell::Bell, mounts::MountWatches};
use crate::sys::inotify::{Watched, Writes, Written};

/// How long events are collected: a container that always writes causes no more events than this.
const BREATH: Duration = Duration::from_millis(1);

/// How often a file without a watch is checked.
pub(super) const UNWATCHED: Duration = Duration::from_secs(10);

/// Guards of any number of files.
#[derive(Debug, Clone)]
pub(crate) struct Guards {
    inner: Arc<Mutex<Opened>>,
    pub(super) mounts: Arc<MountWatches>,
}

/// The inotify instance, if there is one.
#[derive(Debug, Default)]
struct Opened {
    inner: Option<Arc<Inner>>,
    /// Its absence has been logged.
    logged: bool,
}

#[derive(Debug)]
struct Inner {
    post: Arc<Post>,
    ringing: JoinHandle<()>,
}

/// Collects the events and passes them on.
#[derive(Debug)]
struct Post {
    writes: Writes,
    /// The bells of the watched files.
    bells: Mutex<HashMap<Watched, Arc<Bell>>>,
}

/// A watch on one file, until dropped.
#[derive(Debug)]
pub(super) struct Guard {
    inner: Arc<Inner>,
    watched: Watched,
}

/// Why a file has no watch. It is checked regularly instead, and each check tries to get a watch.
#[derive(Debug)]
pub(super) enum Unwatched {
    /// No file has one, which is logged.
    All,
    /// This file has none.
    This(io::Error),
}

impl Guards {
    /// Guards without files; within a tokio runtime.
    pub(crate) fn new() -> Self {
        let guards = Self { inner: Arc::default(), mounts: Arc::default() };
        // At once, before other programs use up the instances.
        let _ = guards.opened();
        guards
    }

    /// Whether nothing else has these: every file that was kept with them has been let go, and no work on one is under way.
    #[cfg(test)]
    pub(crate) fn are_unused(&self) -> bool {
        Arc::strong_count(&self.inner) == 1
    }

    /// The inotify instance. If there is none, this tries again to open one.
    fn opened(&self) -> Option<Arc<Inner>> {
        let mut opened = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if opened.inner.is_none() {
            match Inner::open() {
                Ok(inner) => {
                    if opened.logged {
                        tracing::info!("hosts files are watched again");
                    }
                    *opened = Opened { inner: Some(Arc::new(inner)), logged: false };
                }
                Err(error) if !opened.logged => {
                    opened.logged = true;
                    tracing::warn!(
                        %error,
                        "hosts files can't be watched (sysctl fs.inotify.max_user_instances may be too low): until they can, a file \
                         that a runtime rewrites is restored {UNWATCHED:?} later"
                    );
                }
                Err(_) => {}
            }
        }
        opened.inner.clone()
    }

    /// The bell rings when the file was written from now on. A file has one watch at a time. Blocks as long as its file
    /// system does. Within a tokio runtime.
    ///
    /// # Errors
    /// If the file can't be watched.
    pub(super) fn guard(&self, path: &Path, bell: &Arc<Bell>) -> Result<Guard, Unwatched> {
        let inner = self.opened().ok_or(Unwatched::All)?;
        let watched = inner.post.writes.watch(path).map_err(Unwatched::This)?;
        inner.post.bells().insert(watched, Arc::clone(bell));
        Ok(Guard { inner, watched })
    }
}

impl Inner {
    fn open() -> io::Result<Self> {
        let post = Arc::new(Post { writes: Writes::new()?, bells: Mutex::default() });
        let ringing = tokio::spawn(ring(Arc::clone(&post)));
        Ok(Self { post, ringing })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.ringing.abort();
    }
}

impl Post {
    fn bells(&self) -> MutexGuard<'_, HashMap<Watched, Arc<Bell>>> {
        self.bells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let post = &self.inner.post;
        let mut bells = post.bells();
        bells.remove(&self.watched);
        post.writes.unwatch(self.watched);
    }
}

/// Passes the events to the guards.
async fn ring(post: Arc<Post>) {
    loop {
        let written = match post.writes.next().await {
            Ok(written) => written,
            Err(error) => {
                tracing::warn!(%error, "hosts files that a runtime rewrites are not restored any more");
                return;
            }
        };
        {
            let bells = post.bells();
            for written in written {
                match written {
                    Written::One(watched) => bells.get(&watched).into_iter().for_each(|bell| bell.rung.notify_one()),
                    Written::Moved(watched) => bells.get(&watched).into_iter().for_each(|bell| bell.ring_for_move()),
                    Written::Any => bells.values().for_each(|bell| bell.ring_for_move()),
                }
            }
        }
        sleep(BREATH).await;
    }
}
