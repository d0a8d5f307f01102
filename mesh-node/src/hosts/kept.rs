//! A hosts file that is kept: at most one thread works on it.
//!
//! A file system may not answer for a while, or ever, and no caller may wait for that. So the wanted content is
//! recorded at once, and one thread works on the file until it has the latest wanted content.
//!
//! The file of a process has the names only while the process sees it there: once another file covers or replaces it,
//! no descriptor of a later agent would lead to it.

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::Duration,
};

use mesh_lifecycle::{FileId, FileKind, HostLines};
use mesh_proto::ServicePath;
use tokio::{
    sync::{mpsc, watch},
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};

use super::{
    HostsFile,
    bell::Bell,
    guard::{Guard, Guards, Unwatched},
    ledger::{Ledger, Written},
    mounts::MountWatch,
    seen::SeenBy,
};
use crate::sys::turns::Turns;

/// How long a caller waits for a file.
const PATIENCE: Duration = Duration::from_secs(2);

/// A kept file, and the service that it is kept for.
pub(super) type Holding = (ServicePath, Weak<KeptFile>);

/// What all kept files share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) guards: Option<Guards>,
    pub(super) ledger: Ledger,
    /// The turns of work on files.
    pub(super) turns: Turns,
    pub(super) kept: Mutex<HashMap<FileId, Holding>>,
    /// Notified when a file isn't kept any more.
    pub(super) released: watch::Sender<()>,
    /// Notified when another file may have replaced one.
    pub(super) moved: mpsc::UnboundedSender<FileId>,
}

impl Shared {
    pub(super) fn kept(&self) -> MutexGuard<'_, HashMap<FileId, Holding>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A kept hosts file. It is kept until the last handle is dropped and no thread works on it.
#[derive(Debug, Clone)]
pub(crate) struct Kept(pub(super) Arc<KeptFile>);

/// Shared by all handles.
#[derive(Debug)]
pub(super) struct KeptFile {
    shared: Arc<Shared>,
    id: FileId,
    kind: FileKind,
    owner: u32,
    work: Mutex<Work>,
    done: watch::Sender<Done>,
    pub(super) bell: Arc<Bell>,
    guard: OnceLock<Guard>,
    /// Notices what is mounted over it where the agent sees it.
    mounts: OnceLock<MountWatch>,
    /// The processes whose `/etc/hosts` it was.
    seen_by: SeenBy,
    /// Restores the names.
    pub(super) keeping: OnceLock<JoinHandle<()>>,
}

/// The work on a file.
#[derive(Debug)]
struct Work {
    /// The file, unless a thread works on it.
    at_rest: Option<HostsFile>,
    /// The wanted block; `None`: without a block.
    names: Option<HostLines>,
    /// How many requests there were.
    asked: u64,
    /// The last one is done, without a problem.
    is_done: bool,
    /// The problem that was logged last.
    trouble: Option<String>,
    /// It has been logged that the file has no watch.
    unwatched: bool,
    /// Its processes see another file in its place, or none: it has no block, whatever is wanted.
    hidden: bool,
    /// What a later agent is to know of it.
    written: Written,
    /// It may hold names, and that is remembered.
    noted: bool,
}

impl Work {
    /// Whether these names are in the file, as far as is known.
    fn has(&self, names: &HostLines) -> bool {
        let is_same = self.names.as_ref().is_some_and(|there| Arc::ptr_eq(there, names) || there == names);
        is_same && self.at_rest.is_some() && self.is_done
    }
}

/// The finished work.
#[derive(Debug, Default)]
struct Done {
    /// The latest finished request.
    asked: u64,
    /// Its result.
    trouble: Option<String>,
}

impl Kept {
    /// Our block has exactly these names from now on. Returns whether the file has changed.
    ///
    /// # Errors
    /// If that fails or takes too long. In the latter case it is done when the file system answers.
    pub(crate) fn put(&self, names: HostLines) -> impl Future<Output = io::Result<()>> + use<> {
        self.put_within(PATIENCE, names)
    }

    /// [`Self::put`] with another time limit.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub(crate) fn put_within(
        &self,
        patience: Duration,
        names: HostLines,
    ) -> impl Future<Output = io::Result<()>> + use<> {
        let is_first = self.0.work().names.is_none();
        let done = self.0.done(patience, self.0.ask(|work| work.names = Some(names)));
        if is_first && !self.0.seen_by.is_empty() {
            // Another file may have taken its place before there was a watch.
            self.0.bell.rung.notify_one();
        }
        done
    }

    /// As [`Self::put`], unless it has them already.
    pub(crate) fn renew(&self, names: HostLines) -> Option<impl Future<Output = io::Result<()>> + use<>> {
        let is_there = self.0.work().has(&names);
        (!is_there).then(|| self.put(names))
    }

    /// There is no block from now on. Returns whether the file has changed.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub(crate) fn clear(&self) -> impl Future<Output = io::Result<()>> + use<> {
        self.0.done(PATIENCE, self.0.ask(|work| work.names = None))
    }

    /// As [`Self::clear`], of names that an earlier agent wrote.
    pub(super) async fn take_back(&self) -> io::Result<()> {
        let asked = self.0.ask(|work| (work.names, work.noted) = (None, true));
        self.0.done(PATIENCE, asked).await
    }

    /// Its identity.
    pub(crate) fn id(&self) -> FileId {
        self.0.id
    }

    /// Its owner when it was opened.
    pub(crate) fn owner(&self) -> u32 {
        self.0.owner
    }

    /// Another file may have replaced it.
    pub(super) fn moved(&self) {
        let _ = self.0.shared.moved.send(self.0.id);
    }

    /// Its problem, if it differs from the last one: a lasting problem is logged once.
    pub(crate) fn news(&self, outcome: io::Result<()>) -> Option<io::Error> {
        let mut work = self.0.work();
        let before = work.trouble.take();
        work.trouble = outcome.as_ref().err().map(ToString::to_string);
        outcome.err().filter(|_| work.trouble != before)
    }

    /// A handle, if there still is one.
    pub(super) fn of(this: &Weak<KeptFile>) -> Option<Self> {
        this.upgrade().map(Self)
    }

    /// It is the `/etc/hosts` of this process as well.
    pub(super) fn also_seen_by(&self, process: Option<i32>) {
        process.into_iter().for_each(|pid| self.0.seen_by.add(pid));
    }

    /// Looks whether its processes still see it where it was. Returns whether that has changed.
    pub(super) async fn see(&self) -> bool {
        // Without a process that could see another one, the names stay.
        let Some(hidden) = self.0.seen_by.is_hidden((self.0.id, self.0.kind)).await else { return false };
        std::mem::replace(&mut self.0.work().hidden, hidden) != hidden
    }

    /// Whether changes by other programs, or mounts over it, aren't noticed although they should be.
    pub(super) fn is_unwatched(&self) -> bool {
        let this = &self.0;
        let mounts_are_watched = match this.seen_by.is_empty() {
            true => this.mounts.get().is_some(),
            false => this.seen_by.is_watched(),
        };
        this.shared.guards.is_some() && !(this.guard.get().is_some() && mounts_are_watched)
    }

    /// Restores the wanted content.
    pub(super) async fn look(&self) -> io::Result<()> {
        // Without a wanted block there is nothing to restore.
        if self.0.work().names.is_none() {
            return Ok(());
        }
        self.0.done(PATIENCE, self.0.ask(|_| ())).await
    }
}

impl KeptFile {
    pub(super) fn new(shared: Arc<Shared>, file: HostsFile, holder: &ServicePath) -> Arc<Self> {
        let written = Written::of(&file, holder);
        let noted = shared.ledger.holds(file.id());
        shared.ledger.note(written.clone());
        // Ahead of the first write, which waits for it.
        if shared.ledger.is_to_be_saved() {
            let noting = Arc::clone(&shared);
            spawn_blocking(move || noting.ledger.save());
        }
        let (id, kind, owner, seen_by) = (file.id(), file.kind(), file.owner(), SeenBy::default());
        file.process().into_iter().for_each(|pid| seen_by.add(pid));
        let work = Work {
            at_rest: Some(file),
            names: None,
            asked: 0,
            is_done: false,
            trouble: None,
            unwatched: false,
            hidden: false,
            written,
            noted,
        };
        let (work, done, bell) = (Mutex::new(work), watch::Sender::default(), Arc::default());
        let (guard, mounts, keeping) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Arc::new(Self { shared, id, kind, owner, work, done, bell, guard, mounts, seen_by, keeping })
    }

    /// Records the wanted content.
    fn ask(self: &Arc<Self>, change: impl FnOnce(&mut Work)) -> u64 {
        let mut work = self.work();
        change(&mut work);
        work.asked += 1;
        if let Some(file) = work.at_rest.take() {
            let this = Arc::clone(self);
            tokio::spawn(self.shared.turns.clone().run(move || this.work_off(file)));
        }
        work.asked
    }

    /// Waits until it is done, without a time limit.
    fn done(&self, patience: Duration, asked: u64) -> impl Future<Output = io::Result<()>> + use<> {
        let mut done = self.done.subscribe();
        async move {
            match timeout(patience, done.wait_for(|done| done.asked >= asked)).await {
                Ok(Ok(done)) => done.trouble.clone().map_or(Ok(()), |trouble| Err(io::Error::other(trouble))),
                _ => Err(io::Error::new(io::ErrorKind::TimedOut, "its file system doesn't answer")),
            }
        }
    }

    /// Does the requested work, including what is requested meanwhile. Blocks.
    fn work_off(&self, mut file: HostsFile) {
        // Watched before the first write, so that every later write of a runtime is noticed.
        self.watch_over(&file);
        loop {
            let (asked, names) = {
                let work = self.work();
                (work.asked, work.names.clone().filter(|_| !work.hidden))
            };
            let outcome = match &names {
                Some(names) => {
                    self.note();
                    file.put(names)
                }
                None => file.clear(),
            };
            let is_done = outcome.is_ok();
            let is_clear = names.is_none() && is_done;
            self.done.send_replace(Done { asked, trouble: outcome.err().map(|e| e.to_string()) });
            if is_clear && std::mem::take(&mut self.work().noted) {
                self.shared.ledger.forget(self.id);
                self.shared.ledger.save();
            }
            let mut work = self.work();
            if work.asked == asked {
                work.is_done = is_done;
                work.at_rest = Some(file);
                return;
            }
        }
    }

    /// Remembers that it may hold names, before it does.
    fn note(&self) {
        let written = {
            let mut work = self.work();
            if std::mem::replace(&mut work.noted, true) {
                return;
            }
            work.written.clone()
        };
        self.shared.ledger.note(written);
        self.shared.ledger.save();
    }

    /// Watches the file for changes by other programs, unless it is watched already.
    fn watch_over(&self, file: &HostsFile) {
        let Some(guards) = &self.shared.guards else { return };
        self.watch_mounts(guards, file.name());
        if self.guard.get().is_some() {
            return;
        }
        match guards.guard(&file.reference(), &self.bell) {
            // Only one thread works on a file at a time.
            Ok(guard) => drop(self.guard.set(guard)),
            Err(Unwatched::All) => {}
            Err(Unwatched::This(error)) => {
                if !std::mem::replace(&mut self.work().unwatched, true) {
                    let hosts = file.name().display();
                    tracing::warn!(%hosts, %error, "if its runtime rewrites this hosts file, the names are restored only later");
                }
            }
        }
    }

    /// Watches what is mounted over it, unless that is watched already.
    fn watch_mounts(&self, guards: &Guards, name: &Path) {
        self.seen_by.watch(&guards.mounts, self.kind, &self.bell);
        if self.seen_by.is_empty()
            && self.mounts.get().is_none()
            && let Ok(watch) = guards.mounts.watch(None, name, &self.bell)
        {
            let _ = self.mounts.set(watch);
        }
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for KeptFile {
    fn drop(&mut self) {
        self.keeping.take().into_iter().for_each(|keeping| keeping.abort());
        self.guard.take();
        let work = self.work.get_mut().unwrap_or_else(PoisonError::into_inner);
        if !work.noted {
            self.shared.ledger.forget(self.id);
        }
        if let Some(file) = work.at_rest.take() {
            file.let_go();
        }
        // The agent has no more writes to it by then, and no watch on it.
        self.shared.kept().remove(&self.id);
        self.shared.released.send_replace(());
    }
}

#[cfg(test)]
impl Kept {
    /// Whether both are the same file.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The bell of its guard.
    pub(super) fn bell(&self) -> Arc<Bell> {
        Arc::clone(&self.0.bell)
    }

    /// How many requests there were.
    pub(super) fn asked(&self) -> u64 {
        self.0.work().asked
    }
}
