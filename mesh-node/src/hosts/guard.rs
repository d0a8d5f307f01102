//! Puts our block back when somebody has rewritten a hosts file without it. Runtimes do so after hooks have run, and at every
//! connection to another network.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::Notify,
    task::{JoinHandle, spawn_blocking},
    time::{Instant, sleep},
};

use super::HostsFile;
use crate::sys::inotify::{Watched, Writes, Written};

/// How many times our block is put back at once. A runtime may write several times before the container's program reads.
const AT_ONCE: u32 = 32;
/// How long we wait then, for a container that fights us. Doubled each time that it was gone again.
const SOON: Duration = Duration::from_millis(10);
/// The longest that this becomes; after as long a peace all is forgotten.
const LATE: Duration = Duration::from_secs(60);

/// Guards over any number of files.
#[derive(Debug, Clone)]
pub(crate) struct Guards {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    post: Arc<Post>,
    ringing: JoinHandle<()>,
}

/// Where what is written is heard of, and passed on.
#[derive(Debug)]
struct Post {
    writes: Writes,
    /// Who wants to know of which file: more than one, if it is guarded once more before the first guard leaves.
    bells: Mutex<HashMap<Watched, Vec<Arc<Notify>>>>,
}

/// The guard over one file, until dropped.
#[derive(Debug)]
pub(crate) struct Guard {
    guards: Guards,
    watched: Watched,
    bell: Arc<Notify>,
    keeping: JoinHandle<()>,
}

impl Guards {
    /// Guards over nothing yet; within a tokio runtime.
    ///
    /// # Errors
    /// If files can't be watched over.
    pub(crate) fn new() -> io::Result<Self> {
        let post = Arc::new(Post { writes: Writes::new()?, bells: Mutex::default() });
        let ringing = tokio::spawn(ring(Arc::clone(&post)));
        Ok(Self { inner: Arc::new(Inner { post, ringing }) })
    }

    /// From now on what was last put into the file is put back when it is gone.
    ///
    /// # Errors
    /// If the file can't be watched over.
    pub(crate) fn guard(&self, file: &Arc<HostsFile>) -> io::Result<Guard> {
        let (post, bell) = (&self.inner.post, Arc::new(Notify::new()));
        let mut bells = post.bells();
        let watched = post.writes.watch(&file.reference())?;
        bells.entry(watched).or_default().push(Arc::clone(&bell));
        drop(bells);
        // What was written before the watch began: looked at once.
        bell.notify_one();
        let keeping = tokio::spawn(keep(Arc::downgrade(file), Arc::clone(&bell)));
        Ok(Guard { guards: self.clone(), watched, bell, keeping })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.ringing.abort();
    }
}

impl Post {
    fn bells(&self) -> MutexGuard<'_, HashMap<Watched, Vec<Arc<Notify>>>> {
        self.bells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.keeping.abort();
        let post = &self.guards.inner.post;
        let mut bells = post.bells();
        if let Some(others) = bells.get_mut(&self.watched) {
            others.retain(|bell| !Arc::ptr_eq(bell, &self.bell));
            if others.is_empty() {
                bells.remove(&self.watched);
                post.writes.unwatch(self.watched);
            }
        }
    }
}

/// Tells the guards of what is written.
async fn ring(post: Arc<Post>) {
    loop {
        let written = match post.writes.next().await {
            Ok(written) => written,
            Err(error) => {
                tracing::warn!(%error, "hosts files that a runtime rewrites are not put right any more");
                return;
            }
        };
        let bells = post.bells();
        for written in written {
            match written {
                Written::One(watched) => bells.get(&watched).into_iter().flatten().for_each(|bell| bell.notify_one()),
                Written::Any => bells.values().flatten().for_each(|bell| bell.notify_one()),
            }
        }
    }
}

async fn keep(file: Weak<HostsFile>, bell: Arc<Notify>) {
    let (mut times, mut last) = (0, Instant::now());
    loop {
        bell.notified().await;
        let Some(file) = file.upgrade() else { return };
        let restored = spawn_blocking(move || file.restore()).await.unwrap_or_else(|e| Err(e.into()));
        match restored {
            Ok(false) => {}
            Ok(true) => {
                times = if last.elapsed() > LATE { 1 } else { times + 1 };
                last = Instant::now();
                sleep(pause(times)).await;
            }
            Err(error) => tracing::warn!(%error, "the names could not be put back into a hosts file"),
        }
    }
}

/// How long to wait after having put the block back so many times.
fn pause(times: u32) -> Duration {
    match times.checked_sub(AT_ONCE) {
        None => Duration::ZERO,
        Some(more) => (SOON * 2_u32.saturating_pow(more.min(16))).min(LATE),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

    use super::*;
    use crate::{attach::lab::PATIENCE, hosts::Place, state::tests::Scratch};

    fn guarded(name: &str) -> (Scratch, std::path::PathBuf, Arc<HostsFile>, Guards) {
        let scratch = Scratch::new(name);
        let path = scratch.0.join("hosts");
        fs::write(&path, "127.0.0.1 localhost\n").unwrap();
        let file = Arc::new(HostsFile::open(&Place::Path(path.clone()).reach().unwrap()).unwrap());
        file.put(&[([100, 112, 0, 2].into(), "db.warp".to_owned())]).unwrap();
        (scratch, path, file, Guards::new().unwrap())
    }

    async fn until(path: &Path, text: &str) {
        let so = async {
            while fs::read_to_string(path).unwrap() != text {
                tokio::task::yield_now().await;
            }
        };
        if tokio::time::timeout(PATIENCE, so).await.is_err() {
            panic!("it became, and stayed:\n{}", fs::read_to_string(path).unwrap());
        }
    }

    const BLOCK: &str = "# mesh-node begin\n100.112.0.2 db.warp\n# mesh-node end\n";

    #[tokio::test]
    async fn what_a_runtime_writes_stays_and_so_do_our_names() {
        let (_scratch, path, file, guards) = guarded("guard");
        let _guard = guards.guard(&file).unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        for theirs in ["127.0.0.1 localhost\n172.17.0.2 web\n", "", "::1 localhost\n"] {
            fs::write(&path, theirs).unwrap();
            until(&path, &format!("{theirs}{BLOCK}")).await;
        }
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    }

    #[tokio::test]
    async fn what_was_rewritten_before_the_guard_came_is_put_right() {
        let (_scratch, path, file, guards) = guarded("guard-late");
        fs::write(&path, "").unwrap();
        let _guard = guards.guard(&file).unwrap();
        until(&path, BLOCK).await;
    }

    #[tokio::test]
    async fn a_file_that_is_guarded_once_more_stays_guarded_when_the_first_leaves() {
        let (_scratch, path, file, guards) = guarded("guard-twice");
        let first = guards.guard(&file).unwrap();
        let second = guards.guard(&file).unwrap();
        drop(first);
        fs::write(&path, "").unwrap();
        until(&path, BLOCK).await;
        drop(second);
        assert!(guards.inner.post.bells().is_empty());
    }

    #[test]
    fn whoever_fights_us_wins_more_and_more_time() {
        assert_eq!([1, AT_ONCE - 1].map(pause), [Duration::ZERO; 2]);
        assert_eq!([AT_ONCE, AT_ONCE + 1, AT_ONCE + 2].map(pause), [SOON, SOON * 2, SOON * 4]);
        assert_eq!([AT_ONCE + 13, u32::MAX].map(pause), [LATE; 2]);
    }

    #[tokio::test]
    async fn what_is_cleared_is_not_put_back() {
        let (_scratch, path, file, guards) = guarded("guard-cleared");
        let _guard = guards.guard(&file).unwrap();
        file.clear().unwrap();
        fs::write(&path, "").unwrap();
        assert!(!file.restore().unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
    }
}
