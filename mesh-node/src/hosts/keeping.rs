//! Restores our block when another program has rewritten a hosts file without it. Runtimes rewrite it after hooks have
//! run, and at every connection to another network.

use std::{
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

use super::{
    bell::Bell,
    guard::UNWATCHED,
    kept::{Kept, KeptFile},
};

/// How many times in a row a file is checked at once. A runtime may write several times before the container's program
/// reads.
const AT_ONCE: u32 = 32;
/// The pause after that, for a container that keeps rewriting the file. It doubles each time.
const SOON: Duration = Duration::from_millis(10);
/// The longest pause. After as long without a write the count starts again.
const LATE: Duration = Duration::from_secs(60);

/// Checks a file whenever its bell rings, and regularly while it has no watch, as long as it is kept.
pub(super) async fn keep(file: Weak<KeptFile>, hosts: PathBuf, bell: Arc<Bell>) {
    let (mut times, mut last) = (0, Instant::now());
    loop {
        if Kept::of(&file).is_some_and(|file| file.is_unwatched()) {
            if timeout(UNWATCHED, bell.rung.notified()).await.is_err() {
                bell.ring_for_move();
            }
        } else {
            bell.rung.notified().await;
        }
        let Some(file) = Kept::of(&file) else { return };
        let moved = bell.take_moved();
        if file.see().await | moved {
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
    use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

    use mesh_lifecycle::FileKind;

    use super::*;
    use crate::{
        attach::lab::PATIENCE,
        hosts::{Files, Guards, HostsFile, Place, Reach as _},
        state::tests::Scratch,
    };

    async fn kept(name: &str) -> (Scratch, PathBuf, Kept) {
        let scratch = Scratch::new(name);
        let path = scratch.0.join("hosts");
        fs::write(&path, "127.0.0.1 localhost\n").unwrap();
        let file = HostsFile::open(&Place::Path(path.clone()).reach().unwrap(), FileKind::Hosts).unwrap();
        let kept = Files::new(Some(Guards::new())).keep(file, &"shop/app".parse().unwrap()).unwrap();
        kept.put([([100, 112, 0, 2].into(), "db.warp".to_owned())].into()).await.unwrap();
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
