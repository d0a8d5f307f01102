//! Notices the end of processes: an instance's or a container's first one. Its namespace can outlive it by minutes.

use std::{collections::HashMap, io, os::fd::OwnedFd};

use mesh_lifecycle::WatchId;
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};

use crate::sys::process::End;

/// The watches over processes; dropping them ends all.
#[derive(Debug)]
pub(super) struct Watches {
    last: u64,
    running: HashMap<WatchId, AbortHandle>,
    tasks: JoinSet<()>,
    ended: mpsc::UnboundedSender<WatchId>,
}

impl Watches {
    /// Without any, and with the watches whose process has ended.
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<WatchId>) {
        let (ended, ends) = mpsc::unbounded_channel();
        (Self { last: 0, running: HashMap::new(), tasks: JoinSet::new(), ended }, ends)
    }

    /// Watches the process behind a pidfd.
    ///
    /// # Errors
    /// If the descriptor can't be waited for: it is no pidfd.
    pub(super) fn add(&mut self, pidfd: OwnedFd) -> io::Result<WatchId> {
        let end = End::of(pidfd)?;
        let (watch, ended) = (self.unseen(), self.ended.clone());
        let task = self.tasks.spawn(async move {
            if end.wait().await.is_ok() {
                let _ = ended.send(watch);
            }
        });
        self.running.insert(watch, task);
        Ok(watch)
    }

    /// A watch over a process that can't be watched: its end never shows.
    pub(super) const fn unseen(&mut self) -> WatchId {
        self.last += 1;
        WatchId(self.last)
    }

    /// Ends a watch.
    pub(super) fn end(&mut self, watch: WatchId) {
        if let Some(task) = self.running.remove(&watch) {
            task.abort();
        }
        while self.tasks.try_join_next().is_some() {}
    }
}
