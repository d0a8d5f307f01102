//! The hosts files that this runner keeps. Each has the names of one service.

use std::{
    collections::hash_map::{Entry, VacantEntry},
    sync::{Arc, Mutex},
    time::Duration,
};

use mesh_lifecycle::FileId;
use mesh_proto::ServicePath;
use tokio::{
    sync::{mpsc, watch},
    task::spawn_blocking,
    time::sleep,
};

use super::{
    HostsFile,
    guard::Guards,
    keeping::keep,
    kept::{Holding, Kept, KeptFile, Shared},
    ledger::{Found, Ledger, Written},
};
use crate::{state::StateDir, sys::turns::Turns};

/// How many files are worked on at a time, without those whose file systems don't answer.
const AT_ONCE: usize = 8;

/// How long until a file on which another process holds a lease is tried again, to take the names out; doubled each
/// time, up to [`LATE`].
const SOON: Duration = Duration::from_millis(50);
/// The longest that this becomes.
const LATE: Duration = Duration::from_secs(10);

/// The kept hosts files.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    inner: Arc<Shared>,
}

/// The hosts file is kept for another service.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) file: HostsFile,
    pub(crate) by: ServicePath,
    /// The handle of the other holder, if it still has one.
    pub(crate) there: Option<Kept>,
}

impl Files {
    /// Without files. Rewritten files are restored if there are guards. For tests in which no file is replaced.
    #[cfg(test)]
    pub(crate) fn new(guards: Option<Guards>) -> Self {
        Self::with(guards, Ledger::default()).0
    }

    /// With the events of replaced files, and with what an earlier agent remembered of its files. Rewritten files are
    /// restored if there are guards.
    pub(crate) fn watched(guards: Option<Guards>, state: StateDir) -> (Self, mpsc::UnboundedReceiver<FileId>) {
        Self::with(guards, Ledger::load(state))
    }

    fn with(guards: Option<Guards>, ledger: Ledger) -> (Self, mpsc::UnboundedReceiver<FileId>) {
        let (kept, released) = (Mutex::default(), watch::Sender::default());
        let (moved, moves) = mpsc::unbounded_channel();
        (Self { inner: Arc::new(Shared { guards, ledger, turns: Turns::of(AT_ONCE), kept, released, moved }) }, moves)
    }

    /// Keeps a file for a service. A second call returns the same handle. Within a tokio runtime.
    ///
    /// # Errors
    /// If it is kept for another service.
    pub(crate) fn keep(&self, file: HostsFile, holder: &ServicePath) -> Result<Kept, Box<Taken>> {
        let (by, there) = match self.inner.kept().entry(file.id()) {
            Entry::Occupied(there) => (there.get().0.clone(), there.get().1.upgrade().map(Kept)),
            Entry::Vacant(free) => {
                return Ok(self.add(free, file, holder));
            }
        };
        match there {
            Some(there) if by == *holder => {
                there.also_seen_by(file.process());
                file.let_go();
                Ok(there)
            }
            there => Err(Box::new(Taken { file, by, there })),
        }
    }

    /// Takes the names out of the files that an earlier agent left and that no instance has taken up: each was replaced
    /// meanwhile, or its instance has ended. Within a tokio runtime.
    pub(crate) fn take_out_left(&self) {
        for written in self.inner.ledger.left() {
            let files = self.clone();
            tokio::spawn(async move {
                let mut pause = SOON;
                // The kernel ends a lease within minutes.
                while !files.take_out(&written).await {
                    sleep(pause).await;
                    pause = (pause * 2).min(LATE);
                }
            });
        }
    }

    /// Whether that is settled.
    async fn take_out(&self, written: &Written) -> bool {
        let (files, left, left_kind) = (self.clone(), written.clone(), written.kind());
        let opened = spawn_blocking(move || {
            let found = match left.find() {
                Found::There(found) => found,
                Found::Gone(why) => {
                    files.inner.ledger.forget_gone(&left, why);
                    return Ok(None);
                }
                Found::Hidden(why) => return Err(why),
            };
            // It is the very file into which the agent wrote, with rights that were checked then: this takes its own
            // lines back, as it does by a descriptor that it still has.
            HostsFile::open_unleased(&found, None, left_kind).map(Some).map_err(|unkept| unkept.refusal().error)
        });
        match opened.await.unwrap_or_else(|e| Err(e.to_string())) {
            Ok(Some(Some(file))) => {
                if let Some(kept) = self.keep_unkept(file, &written.service)
                    && let Err(error) = kept.take_back().await
                {
                    self.inner.ledger.stays(written, &error.to_string());
                }
            }
            Ok(Some(None)) => return false,
            Ok(None) => {}
            Err(why) => self.inner.ledger.stays(written, &why),
        }
        true
    }

    /// Keeps a file to take the names out, unless an instance keeps its own there.
    fn keep_unkept(&self, file: HostsFile, holder: &ServicePath) -> Option<Kept> {
        match self.inner.kept().entry(file.id()) {
            Entry::Vacant(free) => Some(self.add(free, file, holder)),
            Entry::Occupied(_) => {
                file.let_go();
                None
            }
        }
    }

    /// In which files names of ended instances, or of files that were replaced, stay, and why.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.inner.ledger.warnings()
    }

    /// Changes when a file isn't kept any more.
    pub(crate) fn released(&self) -> watch::Receiver<()> {
        self.inner.released.subscribe()
    }

    /// Within a tokio runtime.
    fn add(&self, free: VacantEntry<'_, FileId, Holding>, file: HostsFile, holder: &ServicePath) -> Kept {
        let name = file.name().to_owned();
        let kept = Kept(KeptFile::new(Arc::clone(&self.inner), file, holder));
        let keeping = tokio::spawn(keep(Arc::downgrade(&kept.0), name, Arc::clone(&kept.0.bell)));
        let _ = kept.0.keeping.set(keeping);
        free.insert((holder.clone(), Arc::downgrade(&kept.0)));
        kept
    }
}

#[cfg(test)]
mod tests;
