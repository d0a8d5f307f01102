//! Full and read-only disks: each test mounts a small one in its own mount namespace.

use std::{
    any::type_name,
    env,
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::mount::{MsFlags, mount};

use super::{file::LOG_LIMIT, *};
use crate::{
    data::DataDirectory,
    data::scratch::Scratch,
    store::conformance::{draft, put},
};

/// Set in the process inside the namespace.
const INSIDE: &str = "MESH_COORD_INSIDE";

/// Runs a test's body in its own mount namespace, in which it is root. The test binary starts itself again for it, by
/// unshare(1).
fn isolated<F: FnOnce(Disk)>(test: F) {
    if env::var_os(INSIDE).is_some() {
        return test(Disk::new());
    }
    let path = type_name::<F>().trim_end_matches("::{{closure}}");
    let name = path.split_once("::").map_or(path, |(_, name)| name);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--kill-child", "--fork"]);
    if !nix::unistd::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.arg("--").arg(env::current_exe().unwrap()).args(["--exact", name, "--nocapture", "--test-threads=1"]);
    let output = command.env(INSIDE, "1").stdin(Stdio::null()).output().expect("unshare(1): install util-linux");
    let said = String::from_utf8_lossy(&output.stdout);
    let ran = output.status.success() && said.contains("1 passed");
    assert!(ran, "{name}\n{said}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// A disk of 2 MiB.
struct Disk(Scratch);

impl Disk {
    fn new() -> Self {
        let scratch = Scratch::new();
        mount(Some("disk"), scratch.path(), Some("tmpfs"), MsFlags::empty(), Some("size=2m,mode=700")).unwrap();
        Self(scratch)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn database(&self) -> PathBuf {
        self.path().join("db")
    }

    /// Fills it to the last byte.
    fn fill(&self) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.path().join("filler")).unwrap();
        while file.write(&[0; 4096]).is_ok_and(|n| n > 0) {}
    }

    fn make_room(&self) {
        fs::remove_file(self.path().join("filler")).unwrap();
    }

    fn make_read_only(&self) {
        self.remount(MsFlags::MS_RDONLY);
    }

    fn make_writable(&self) {
        self.remount(MsFlags::empty());
    }

    fn remount(&self, flags: MsFlags) {
        mount(None::<&str>, self.path(), None::<&str>, MsFlags::MS_REMOUNT | flags, None::<&str>).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(self.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}

fn runs<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

async fn revision_of(store: &SqliteStore) -> (Revision, usize) {
    let Loaded { head, records } = store.load().await.unwrap();
    (head.revision, records.len())
}

#[test]
fn a_disk_that_fills_up_costs_nothing_that_was_confirmed_and_all_goes_on_when_there_is_room() {
    isolated(|disk| {
        runs(async {
            let store = SqliteStore::open(&disk.database()).await.unwrap();
            store.commit(Revision(0), draft(vec![put(1)])).await.unwrap();
            let mut confirmed = 1;
            for time in 0..3 {
                disk.fill();
                // The existing files may have room for a few more commits.
                let error = loop {
                    match store.commit(Revision(confirmed), draft(vec![put(confirmed + 1)])).await {
                        Ok(revision) => confirmed = revision.0,
                        Err(error) => break error,
                    }
                };
                assert_eq!(error, StoreError::Full, "{time}");
                for _ in 0..100 {
                    assert_eq!(store.commit(Revision(confirmed), draft(vec![put(9999)])).await, Err(StoreError::Full));
                }
                assert_eq!(revision_of(&store).await, (Revision(confirmed), usize::try_from(confirmed).unwrap()));
                disk.make_room();
                assert_eq!(
                    store.commit(Revision(confirmed), draft(vec![put(confirmed + 1)])).await,
                    Ok(Revision(confirmed + 1)),
                    "{time}"
                );
                confirmed += 1;
            }
            // A copy of the files in the middle of a commit, as after a power cut.
            disk.fill();
            while let Ok(revision) = store.commit(Revision(confirmed), draft(vec![put(confirmed + 1)])).await {
                confirmed = revision.0;
            }
            let copy = Scratch::new();
            for side in ["", "-wal"] {
                fs::copy(format!("{}{side}", disk.database().display()), copy.path().join(format!("db{side}")))
                    .unwrap();
            }
            let copied = SqliteStore::open(&copy.path().join("db")).await.unwrap();
            assert_eq!(revision_of(&copied).await.0, Revision(confirmed));
            drop(store);
            disk.make_room();
            let store = SqliteStore::open(&disk.database()).await.unwrap();
            assert_eq!(revision_of(&store).await, (Revision(confirmed), usize::try_from(confirmed).unwrap()));
        });
    });
}

#[test]
fn a_start_on_a_full_disk_says_so_and_harms_nothing() {
    isolated(|disk| {
        runs(async {
            let store = SqliteStore::open(&disk.database()).await.unwrap();
            store.commit(Revision(0), draft(vec![put(1)])).await.unwrap();
            drop(store);
            disk.fill();
            assert_eq!(SqliteStore::open(&disk.database()).await.err(), Some(StoreError::Full));
            assert_eq!(SqliteStore::open(&disk.path().join("new")).await.err(), Some(StoreError::Full));
            disk.make_room();
            let store = SqliteStore::open(&disk.database()).await.unwrap();
            assert_eq!(revision_of(&store).await, (Revision(1), 1));
            assert_eq!(store.commit(Revision(1), draft(vec![put(2)])).await, Ok(Revision(2)));
            // The files of a failed start are no obstacle.
            let store = SqliteStore::open(&disk.path().join("new")).await.unwrap();
            assert_eq!(store.commit(Revision(0), draft(vec![put(1)])).await, Ok(Revision(1)));
        });
    });
}

/// Opens the store on a read-only disk: confirmed records can be read, and changed once the disk is writable.
async fn reads_only(disk: &Disk, confirmed: u64) {
    disk.make_read_only();
    let store = SqliteStore::open(&disk.database()).await.unwrap();
    for _ in 0..2 {
        assert_eq!(revision_of(&store).await, (Revision(confirmed), usize::try_from(confirmed).unwrap()));
        let change = vec![put(confirmed + 1)];
        assert_eq!(store.commit(Revision(confirmed), draft(change)).await, Err(StoreError::ReadOnly));
    }
    let mut watch = store.watch(Revision(confirmed)).await.unwrap();
    disk.make_writable();
    assert_eq!(store.commit(Revision(confirmed), draft(vec![put(confirmed + 1)])).await, Ok(Revision(confirmed + 1)));
    assert_eq!(watch.next().await.unwrap().revision, Revision(confirmed + 1));
    assert_eq!(revision_of(&store).await.0, Revision(confirmed + 1));
}

#[test]
fn a_start_on_a_read_only_disk_serves_readers_whatever_the_last_end_was() {
    isolated(|disk| {
        runs(async {
            let store = SqliteStore::open(&disk.database()).await.unwrap();
            store.commit(Revision(0), draft(vec![put(1)])).await.unwrap();
            drop(store);
            reads_only(&disk, 1).await;
            // The process was killed, so its log and the related files exist.
            let store = SqliteStore::open(&disk.database()).await.unwrap();
            store.commit(Revision(2), draft(vec![put(3)])).await.unwrap();
            let other = Disk::new();
            for side in ["", "-wal", "-shm"] {
                let name = format!("db{side}");
                fs::copy(disk.path().join(&name), other.path().join(&name)).unwrap();
            }
            drop(store);
            reads_only(&other, 3).await;
        });
    });
}

#[test]
fn a_first_start_on_a_read_only_disk_says_so() {
    isolated(|disk| {
        runs(async {
            disk.make_read_only();
            let error = SqliteStore::open(&disk.database()).await.unwrap_err();
            assert_eq!(error, StoreError::ReadOnly);
            assert!(error.hint().contains("make --data writable"));
            let error = format!("{:#}", DataDirectory::open(disk.path()).unwrap_err());
            assert!(error.contains("Read-only file system") && error.contains("--data"), "{error}");
            // A store that was never set up can't be served.
            disk.make_writable();
            drop(DataDirectory::open(disk.path()).unwrap());
            fs::write(disk.database(), "").unwrap();
            disk.make_read_only();
            assert_eq!(SqliteStore::open(&disk.database()).await.unwrap_err(), StoreError::ReadOnly);
            assert!(DataDirectory::open(disk.path()).unwrap().is_read_only());
        });
    });
}

/// SQLite's log grows by what a commit writes, and is cut once it is merged into the database.
#[test]
fn the_log_stays_small() {
    let scratch = Scratch::new();
    runs(async {
        let path = scratch.path().join("db");
        let store = SqliteStore::open(&path).await.unwrap();
        for n in 0..40 {
            store.commit(Revision(n), draft((0..1000).map(put).collect())).await.unwrap();
        }
        for n in 40..60 {
            store.commit(Revision(n), draft(vec![put(1)])).await.unwrap();
        }
        let length = fs::metadata(scratch.path().join("db-wal")).unwrap().len();
        assert!(length <= u64::try_from(LOG_LIMIT).unwrap(), "{length}");
    });
}
