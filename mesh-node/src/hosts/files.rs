//! The hosts files that this runner keeps. Each has the names of one service, and at most one thread works on it.
//!
//! A file system may not answer for a while, or ever, and no caller may wait for that. So the wanted content is
//! recorded at once, and one thread works on the file until it has the latest wanted content.
//! and one thread is at it until it holds what was noted last.

use std::{
    collections::{HashMap, hash_map::Entry},
    io,
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::Duration,
};

use mesh_proto::ServicePath;
use tokio::{
    sync::{mpsc, watch},
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};

use super::{
    HostsFile,
    file::FileId,
    guard::{Bell, Guard, Guards, Unwatched, keep},
};

/// How long a caller waits for a file.
const PATIENCE: Duration = Duration::from_secs(2);

/// The kept hosts files.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    inner: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    guards: Option<Guards>,
    /// The service that each file is kept for.
    kept: Mutex<HashMap<FileId, (ServicePath, Weak<KeptFile>)>>,
    /// Notified when a file isn't kept any more.
    released: watch::Sender<()>,
    /// Notified when another file may have replaced one.
    moved: mpsc::UnboundedSender<FileId>,
}

/// The hosts file is kept for another service.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) file: HostsFile,
    pub(crate) by: ServicePath,
    /// The handle of the other holder, if it still has one.
    pub(crate) there: Option<Kept>,
}

/// A kept hosts file. It is kept until the last handle is dropped and no thread works on it.
#[derive(Debug, Clone)]
pub(crate) struct Kept(Arc<KeptFile>);

/// Shared by all handles.
#[derive(Debug)]
pub(super) struct KeptFile {
    files: Files,
    id: FileId,
    owner: u32,
    work: Mutex<Work>,
    done: watch::Sender<Done>,
    bell: Arc<Bell>,
    guard: OnceLock<Guard>,
    keeping: JoinHandle<()>,
}

/// The work on a file.
#[derive(Debug)]
struct Work {
    /// The file, unless a thread works on it.
    at_rest: Option<HostsFile>,
    /// The wanted block; `None`: without a block.
    names: Option<Vec<(Ipv4Addr, String)>>,
    /// How many requests there were.
    asked: u64,
    /// The problem that was logged last.
    trouble: Option<String>,
    /// It has been logged that the file has no watch.
    unwatched: bool,
}

/// The finished work.
#[derive(Debug, Default)]
struct Done {
    /// The latest finished request.
    asked: u64,
    /// Its result.
    trouble: Option<String>,
}

impl Files {
    /// Without files. Rewritten files are restored if there are guards. For tests in which no file is replaced.
    #[cfg(test)]
    pub(crate) fn new(guards: Option<Guards>) -> Self {
        Self::watched(guards).0
    }

    /// Without files, and with the events of replaced files. Rewritten files are restored if there are guards.
    pub(crate) fn watched(guards: Option<Guards>) -> (Self, mpsc::UnboundedReceiver<FileId>) {
        let (kept, released) = (Mutex::default(), watch::Sender::default());
        let (moved, moves) = mpsc::unbounded_channel();
        (Self { inner: Arc::new(Shared { guards, kept, released, moved }) }, moves)
    }

    /// Keeps a file for a service. A second call returns the same handle. Within a tokio runtime.
    ///
    /// # Errors
    /// If it is kept for another service.
    pub(crate) fn keep(&self, file: HostsFile, holder: &ServicePath) -> Result<Kept, Box<Taken>> {
        let (by, there) = match self.kept().entry(file.id()) {
            Entry::Occupied(there) => (there.get().0.clone(), there.get().1.upgrade().map(Kept)),
            Entry::Vacant(free) => {
                let kept = Kept(KeptFile::new(self.clone(), file));
                free.insert((holder.clone(), Arc::downgrade(&kept.0)));
                return Ok(kept);
            }
        };
        match there {
            Some(there) if by == *holder => {
                file.let_go();
                Ok(there)
            }
            there => Err(Box::new(Taken { file, by, there })),
        }
    }

    /// Changes when a file isn't kept any more.
    pub(crate) fn released(&self) -> watch::Receiver<()> {
        self.inner.released.subscribe()
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<FileId, (ServicePath, Weak<KeptFile>)>> {
        self.inner.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Our block has exactly these names from now on. Returns whether the file has changed.
    ///
    /// # Errors
    /// If that fails or takes too long. In the latter case it is done when the file system answers.
    pub(crate) fn put(&self, names: Vec<(Ipv4Addr, String)>) -> impl Future<Output = io::Result<()>> + use<> {
        self.put_within(PATIENCE, names)
    }

    /// [`Self::put`] with another time limit.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub(crate) fn put_within(
        &self,
        patience: Duration,
        names: Vec<(Ipv4Addr, String)>,
    ) -> impl Future<Output = io::Result<()>> + use<> {
        self.0.done(patience, self.0.ask(|work| work.names = Some(names)))
    }

    /// There is no block from now on. Returns whether the file has changed.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub(crate) fn clear(&self) -> impl Future<Output = io::Result<()>> + use<> {
        self.0.done(PATIENCE, self.0.ask(|work| work.names = None))
    }

    /// Whether both are the same file.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
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
        let _ = self.0.files.inner.moved.send(self.0.id);
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

    /// Whether changes by other programs aren't noticed although they should be.
    pub(super) fn is_unwatched(&self) -> bool {
        self.0.files.inner.guards.is_some() && self.0.guard.get().is_none()
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
    fn new(files: Files, file: HostsFile) -> Arc<Self> {
        Arc::new_cyclic(|this: &Weak<Self>| {
            let (id, owner, bell) = (file.id(), file.owner(), Arc::<Bell>::default());
            let keeping = tokio::spawn(keep(this.clone(), file.name().to_owned(), Arc::clone(&bell)));
            let work = Work { at_rest: Some(file), names: None, asked: 0, trouble: None, unwatched: false };
            let (work, done) = (Mutex::new(work), watch::Sender::default());
            Self { files, id, owner, work, done, bell, guard: OnceLock::new(), keeping }
        })
    }

    /// Records the wanted content.
    fn ask(self: &Arc<Self>, change: impl FnOnce(&mut Work)) -> u64 {
        let mut work = self.work();
        change(&mut work);
        work.asked += 1;
        if let Some(file) = work.at_rest.take() {
            let this = Arc::clone(self);
            spawn_blocking(move || this.work_off(file));
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
                (work.asked, work.names.clone())
            };
            let outcome = match names {
                Some(names) => file.put(&names),
                None => file.clear(),
            };
            self.done.send_replace(Done { asked, trouble: outcome.err().map(|e| e.to_string()) });
            let mut work = self.work();
            if work.asked == asked {
                work.at_rest = Some(file);
                return;
            }
        }
    }

    /// Watches the file for changes by other programs, unless it is watched already.
    fn watch_over(&self, file: &HostsFile) {
        let Some(guards) = self.files.inner.guards.as_ref().filter(|_| self.guard.get().is_none()) else { return };
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

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for KeptFile {
    fn drop(&mut self) {
        self.keeping.abort();
        self.guard.take();
        if let Some(file) = self.work.get_mut().unwrap_or_else(PoisonError::into_inner).at_rest.take() {
            file.let_go();
        }
        // The agent has no more writes to it by then, and no watch on it.
        self.files.kept().remove(&self.id);
        self.files.inner.released.send_replace(());
    }
}

#[cfg(test)]
impl Kept {
    /// The bell of its guard.
    pub(super) fn bell(&self) -> Arc<Bell> {
        Arc::clone(&self.0.bell)
    }

    /// How many requests there were.
    pub(super) fn asked(&self) -> u64 {
        self.0.work().asked
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;
    use crate::{attach::lab::PATIENCE, hosts::Place, state::tests::Scratch};

    fn holders() -> [ServicePath; 2] {
        ["shop/db", "billing/api"].map(|service| service.parse().unwrap())
    }

    fn open(scratch: &Scratch) -> (PathBuf, HostsFile) {
        let path = scratch.0.join("hosts");
        if !path.exists() {
            fs::write(&path, "").unwrap();
        }
        let file = HostsFile::open(&Place::Path(path.clone()).reach().unwrap()).unwrap();
        (path, file)
    }

    fn names(name: &str) -> Vec<(Ipv4Addr, String)> {
        vec![([100, 112, 0, 2].into(), name.to_owned())]
    }

    #[tokio::test]
    async fn a_file_has_one_holder_until_it_is_released() {
        let (scratch, files) = (Scratch::new("holders"), Files::new(None));
        let [db, api] = holders();
        let first = files.keep(open(&scratch).1, &db).unwrap();
        let again = files.keep(open(&scratch).1, &db).unwrap();
        assert!(first.is(&again));
        drop(first);
        let taken = files.keep(open(&scratch).1, &api).unwrap_err();
        assert!(taken.by == db && taken.there.is_some_and(|there| there.is(&again)));
        let mut released = files.released();
        drop(again);
        released.changed().await.unwrap();
        files.keep(taken.file, &api).unwrap();
    }

    #[tokio::test]
    async fn while_a_file_system_does_not_answer_one_thread_waits_and_the_latest_names_win() {
        let (scratch, files) = (Scratch::new("stalled"), Files::new(None));
        let (path, file) = open(&scratch);
        let stalled = Arc::clone(&file.stalled).lock_owned().await;
        let kept = files.keep(file, &holders()[0]).unwrap();
        for name in ["a.warp", "b.warp", "c.warp"] {
            drop(kept.put(names(name)));
        }
        let last = kept.put(names("d.warp"));
        assert_eq!(Arc::strong_count(&kept.0), 2, "the thread's and ours");
        assert_eq!(last.await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(kept);
        assert!(files.keep(open(&scratch).1, &holders()[1]).is_err(), "a thread still works on it");
        let mut released = files.released();
        drop(stalled);
        timeout(PATIENCE, released.changed()).await.unwrap().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, "# mesh-node begin\n100.112.0.2 d.warp\n# mesh-node end\n");
    }

    #[tokio::test]
    async fn a_lasting_problem_is_logged_once() {
        let (scratch, files) = (Scratch::new("troubles"), Files::new(None));
        let (path, file) = open(&scratch);
        let kept = files.keep(file, &holders()[0]).unwrap();
        kept.put(names("db.warp")).await.unwrap();
        let mut logged = vec![];
        for length in [2 << 20, 3 << 20, 0, 2 << 20] {
            fs::File::options().write(true).open(&path).unwrap().set_len(length).unwrap();
            logged.push(kept.news(kept.look().await).is_some());
        }
        assert_eq!(logged, [true, false, false, true]);
    }
}
