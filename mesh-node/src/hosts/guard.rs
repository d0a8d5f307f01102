//! Puts our block back when somebody has rewritten a hosts file without it. Runtimes do so after hooks have run, and at every
//! connection to another network.

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

/// How many times a file is looked at at once. A runtime may write several times before the container's program reads.
const AT_ONCE: u32 = 32;
/// How long we wait then, for a container that fights us, or only keeps us busy. Doubled each time that it has written again.
const SOON: Duration = Duration::from_millis(10);
/// The longest that this becomes; after as long a peace all is forgotten.
const LATE: Duration = Duration::from_secs(60);
/// How long what is written is gathered: whoever does nothing but write is heard of no more often than this.
const BREATH: Duration = Duration::from_millis(1);

/// How often a file that isn't watched over is looked at.
const UNWATCHED: Duration = Duration::from_secs(10);

/// Guards over any number of files.
#[derive(Debug, Clone)]
pub(crate) struct Guards {
    inner: Arc<Mutex<Opened>>,
}

/// What changes of files are heard by.
#[derive(Debug, Default)]
struct Opened {
    inner: Option<Arc<Inner>>,
    /// It is said already that there is none.
    told: bool,
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
    /// Who wants to know of which file.
    bells: Mutex<HashMap<Watched, Arc<Bell>>>,
}

/// What rings when a file has been written to, or moved.
#[derive(Debug, Default)]
pub(super) struct Bell {
    pub(super) rung: Notify,
    /// Another file may stand in its place.
    moved: AtomicBool,
}

/// The watch over one file, until dropped.
#[derive(Debug)]
pub(super) struct Guard {
    inner: Arc<Inner>,
    watched: Watched,
}

/// Why a file isn't watched over. It is looked at every now and then instead, and each time it is tried again.
#[derive(Debug)]
pub(super) enum Unwatched {
    /// No file is: that is in the log.
    All,
    /// This one isn't.
    This(io::Error),
}

impl Guards {
    /// Guards over nothing yet; within a tokio runtime.
    pub(crate) fn new() -> Self {
        let guards = Self { inner: Arc::default() };
        // Before others use up what there is.
        let _ = guards.opened();
        guards
    }

    /// What changes are heard by, tried again where there was none.
    fn opened(&self) -> Option<Arc<Inner>> {
        let mut opened = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if opened.inner.is_none() {
            match Inner::open() {
                Ok(inner) => {
                    if opened.told {
                        tracing::info!("hosts files are watched over again");
                    }
                    *opened = Opened { inner: Some(Arc::new(inner)), told: false };
                }
                Err(error) if !opened.told => {
                    opened.told = true;
                    tracing::warn!(
                        %error,
                        "hosts files can't be watched over (sysctl fs.inotify.max_user_instances may be too low): what a runtime \
                         rewrites is put right {UNWATCHED:?} later, until they can"
                    );
                }
                Err(_) => {}
            }
        }
        opened.inner.clone()
    }

    /// From now on the bell rings when the file there has been written to. It may have one watch at a time. Blocks for as long as
    /// its file system does. Within a tokio runtime.
    ///
    /// # Errors
    /// If the file can't be watched over.
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

/// Looks at a file whenever its bell rings, and every now and then where it can't, for as long as anybody keeps it.
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
            tracing::warn!(hosts = %hosts.display(), %error, "the names could not be put back into a hosts file");
        }
        drop(file);
        // Whether or not they were gone: to look is work as well.
        times = if last.elapsed() > LATE { 1 } else { times + 1 };
        sleep(pause(times)).await;
        last = Instant::now();
    }
}

/// How long to wait after having looked so many times.
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
    async fn whoever_only_keeps_us_busy_gets_no_more_than_whoever_fights_us() {
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
    fn whoever_fights_us_wins_more_and_more_time() {
        assert_eq!([1, AT_ONCE - 1].map(pause), [Duration::ZERO; 2]);
        assert_eq!([AT_ONCE, AT_ONCE + 1, AT_ONCE + 2].map(pause), [SOON, SOON * 2, SOON * 4]);
        assert_eq!([AT_ONCE + 13, u32::MAX].map(pause), [LATE; 2]);
    }

    /// Runs the body of a test as root of a user namespace of its own, whose settings it may change: this test binary starts
    /// itself again for it, through unshare(1).
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

    /// How many inotify instances there may be in this user namespace.
    fn allow_instances(number: u32) {
        fs::write("/proc/sys/user/max_inotify_instances", number.to_string()).unwrap();
    }

    #[test]
    fn where_files_cannot_be_watched_names_are_put_back_later_and_watching_is_tried_again() {
        isolated(|| {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
            runtime.block_on(async {
                // As after all that the machine's other programs have taken.
                allow_instances(0);
                let (_scratch, path, kept) = kept("guard-late").await;
                assert!(kept.is_unwatched());
                // Whatever happens, some tens of looks later it has.
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
