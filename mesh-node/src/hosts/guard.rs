//! Restores our block when another program has rewritten a hosts file without it. Runtimes rewrite it after hooks have
//! run, and at every connection to another network.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{Kept, files::KeptFile};
use crate::sys::inotify::{Watched, Writes, Written};

/// How many times in a row a file is checked at once. A runtime may write several times before the container's program
/// reads.
const AT_ONCE: u32 = 32;
/// The pause after that, for a container that keeps rewriting the file. It doubles each time.
const SOON: Duration = Duration::from_millis(10);
/// The longest pause. After as long without a write the count starts again.
const LATE: Duration = Duration::from_secs(60);
/// How long events are collected: a container that always writes causes no more events than this.
const BREATH: Duration = Duration::from_millis(1);

/// How often a file without a watch is checked.
const UNWATCHED: Duration = Duration::from_secs(10);

/// Guards of any number of files.
#[derive(Debug, Clone)]
pub(crate) struct Guards {
    inner: Arc<Mutex<Opened>>,
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

/// Rings when a file was written or moved.
#[derive(Debug, Default)]
pub(super) struct Bell {
    pub(super) rung: Notify,
    /// Another file may have replaced it.
    moved: AtomicBool,
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
        let guards = Self { inner: Arc::default() };
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

impl Bell {
    fn ring_for_move(&self) {
        self.moved.store(true, Ordering::Relaxed);
        self.rung.notify_one();
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

/// Checks a file whenever its bell rings, and regularly while it has no watch, as long as it is kept.
pub(super) async fn keep(file: Weak<KeptFile>, hosts: PathBuf, bell: Arc<Bell>) {
    let (mut times, mut last) = (0, Instant::now());
    loop {
        if Kept::of(&file).is_some_and(|file| file.is_unwatched()) {
            let _ = timeout(UNWATCHED, bell.rung.notified()).await;
        } else {
            bell.rung.notified().await;
        }
        let Some(file) = Kept::of(&file) else { return };
        if bell.moved.swap(false, Ordering::Relaxed) {
            file.moved();
        }
        if let Some(error) = file.news(file.look().await) {
            tracing::warn!(hosts = %hosts.display(), %error, "the names could not be restored in a hosts file");
        }
        drop(file);
        // Counted even if the names were still there: a check is work as well.
        times = if last.elapsed() > LATE { 1 } else { times + 1 };
        sleep(pause(times)).await;
        last = Instant::now();
    }
}

/// The pause after this many checks.
fn pause(times: u32) -> Duration {
    match times.checked_sub(AT_ONCE) {
        None => Duration::ZERO,
        Some(more) => (SOON * 2_u32.saturating_pow(more.min(16))).min(LATE),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt as _};

    use super::*;
    use crate::{
        attach::lab::PATIENCE,
        hosts::{Files, HostsFile, Place},
        state::tests::Scratch,
    };

    async fn kept(name: &str) -> (Scratch, PathBuf, Kept) {
        let scratch = Scratch::new(name);
        let path = scratch.0.join("hosts");
        fs::write(&path, "127.0.0.1 localhost\n").unwrap();
        let file = HostsFile::open(&Place::Path(path.clone()).reach().unwrap()).unwrap();
        let kept = Files::new(Some(Guards::new())).keep(file, &"shop/app".parse().unwrap()).unwrap();
        kept.put(vec![([100, 112, 0, 2].into(), "db.warp".to_owned())]).await.unwrap();
        (scratch, path, kept)
    }

    async fn until(path: &Path, text: &str) {
        let so = async {
            while fs::read_to_string(path).unwrap() != text {
                tokio::task::yield_now().await;
            }
        };
        if timeout(PATIENCE, so).await.is_err() {
            panic!("it became, and stayed:\n{}", fs::read_to_string(path).unwrap());
        }
    }

    const BLOCK: &str = "# mesh-node begin\n100.112.0.2 db.warp\n# mesh-node end\n";

    #[tokio::test]
    async fn what_a_runtime_writes_stays_and_so_do_our_names() {
        let (_scratch, path, _kept) = kept("guard").await;
        let inode = fs::metadata(&path).unwrap().ino();
        for theirs in ["127.0.0.1 localhost\n172.17.0.2 web\n", "", "::1 localhost\n"] {
            fs::write(&path, theirs).unwrap();
            until(&path, &format!("{theirs}{BLOCK}")).await;
        }
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    }

    #[tokio::test(start_paused = true)]
    async fn frequent_writes_get_no_more_checks_than_removed_names() {
        let (_scratch, _path, kept) = kept("guard-busy").await;
        let (bell, begun, before) = (kept.bell(), Instant::now(), kept.asked());
        for n in 1..=u64::from(AT_ONCE) + 9 {
            bell.rung.notify_one();
            while kept.asked() < before + n {
                sleep(Duration::from_millis(1)).await;
            }
        }
        assert!(begun.elapsed() >= SOON * ((1 << 9) - 1), "it was there each time, and still: {:?}", begun.elapsed());
    }

    #[test]
    fn the_pauses_grow_while_a_container_keeps_rewriting_the_file() {
        assert_eq!([1, AT_ONCE - 1].map(pause), [Duration::ZERO; 2]);
        assert_eq!([AT_ONCE, AT_ONCE + 1, AT_ONCE + 2].map(pause), [SOON, SOON * 2, SOON * 4]);
        assert_eq!([AT_ONCE + 13, u32::MAX].map(pause), [LATE; 2]);
    }

    /// Runs the body of a test as root of its own user namespace, whose settings the test may change: this test binary
    /// starts itself again through unshare(1).
    fn isolated<F: FnOnce()>(test: F) {
        const INSIDE: &str = "MESH_NODE_INSIDE";
        if std::env::var_os(INSIDE).is_some() {
            return test();
        }
        let path = std::any::type_name::<F>().trim_end_matches("::{{closure}}");
        let name = path.split_once("::").map_or(path, |(_, name)| name);
        let mut command = std::process::Command::new("unshare");
        command
            .args(["--user", "--map-root-user", "--fork", "--kill-child", "--"])
            .arg(std::env::current_exe().unwrap());
        command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(INSIDE, "1");
        let output = command.stdin(std::process::Stdio::null()).output().expect("unshare(1): install util-linux");
        let said = String::from_utf8_lossy(&output.stdout);
        let ran = output.status.success() && said.contains("1 passed");
        assert!(ran, "{name}\n{said}\n{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Sets how many inotify instances this user namespace may have.
    fn allow_instances(number: u32) {
        fs::write("/proc/sys/user/max_inotify_instances", number.to_string()).unwrap();
    }

    #[test]
    fn where_files_cannot_be_watched_names_are_put_back_later_and_watching_is_tried_again() {
        isolated(|| {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
            runtime.block_on(async {
                // As if other programs had used up all of them.
                allow_instances(0);
                let (_scratch, path, kept) = kept("guard-late").await;
                assert!(kept.is_unwatched());
                // At the latest some tens of checks later it has one.
                let so = |what: &'static str, condition: &'static dyn Fn(&Path, &Kept) -> bool| {
                    let (path, kept) = (path.clone(), kept.clone());
                    async move {
                        let begun = Instant::now();
                        while !condition(&path, &kept) {
                            assert!(
                                begun.elapsed() < UNWATCHED * 100,
                                "{what}: {}",
                                fs::read_to_string(&path).unwrap()
                            );
                            sleep(Duration::from_millis(100)).await;
                        }
                    }
                };
                let theirs = "127.0.0.1 localhost\n172.17.0.2 web\n";
                fs::write(&path, theirs).unwrap();
                so("looked at", &|path, _| fs::read_to_string(path).unwrap().ends_with(BLOCK)).await;
                assert!(fs::read_to_string(&path).unwrap().starts_with(theirs) && kept.is_unwatched());

                allow_instances(128);
                so("watched over", &|_, kept| !kept.is_unwatched()).await;
                let asked = kept.asked();
                sleep(UNWATCHED * 10).await;
                assert_eq!(kept.asked(), asked, "what is watched over isn't looked at for nothing");
                fs::write(&path, "").unwrap();
                so("heard of", &|path, _| fs::read_to_string(path).unwrap() == BLOCK).await;
            });
        });
    }

    #[tokio::test]
    async fn what_is_cleared_is_not_put_back() {
        let (_scratch, path, kept) = kept("guard-cleared").await;
        kept.clear().await.unwrap();
        fs::write(&path, "").unwrap();
        kept.look().await.unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
    }
}
