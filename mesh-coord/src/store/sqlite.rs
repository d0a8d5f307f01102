//! The store in one SQLite file. SQLite blocks, so it has its own thread. Each commit is a transaction that is on the
//! disk (WAL, synchronous=FULL) before it is confirmed.

mod copy;
mod fault;
mod file;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
};

use mesh_model::{
    Change, Record,
    record::{Key, Purpose},
};
use mesh_proto::Revision;
use nix::sys::statvfs::{FsFlags, statvfs};
use rusqlite::{Connection, TransactionBehavior, params};
use tokio::sync::{mpsc, oneshot};

pub(crate) use self::copy::copy_of;
use self::{
    fault::Fault,
    file::{Access, FORMAT_WITH_RELAYS, connect_as_may_be, has_aside, head, revision},
};
use super::{Commit, Draft, Loaded, Store, StoreError, Watch, feed::Feed, record};

/// How many requests may wait for the thread.
const QUEUE: usize = 64;

/// An open database file.
#[derive(Debug)]
pub(crate) struct SqliteStore {
    requests: Option<mpsc::Sender<Request>>,
    feed: Arc<Feed>,
    thread: Option<JoinHandle<()>>,
}

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

enum Request {
    Load(Answer<Loaded>),
    Commit(Revision, Draft, Answer<Revision>),
}

impl SqliteStore {
    /// Opens the database at `path`, creates it if it doesn't exist (mode 0600), and checks that it is intact. The
    /// caller ensures that no other process opens it.
    ///
    /// On a read-only disk, a database that was used before is opened for reading. Then commits fail until the disk
    /// is writable.
    ///
    /// # Errors
    /// If it can't be read and written, is damaged, belongs to another program, or to a later version of this one.
    pub(crate) async fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, |_| Ok(())).await
    }

    async fn open_with(
        path: &Path,
        configure: impl FnOnce(&Connection) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<Self, StoreError> {
        let (requests, queue) = mpsc::channel(QUEUE);
        let (opened, answer) = oneshot::channel();
        let path = path.to_owned();
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || {
                let opened_database = Database::open(path.clone()).and_then(|database| {
                    configure(&database.connection)?;
                    Ok(database)
                });
                let database = opened_database.map_err(|error| explained(error.into(), &path));
                match database {
                    Ok(database) => {
                        if opened.send(Ok(Arc::clone(&database.feed))).is_ok() {
                            database.serve(queue);
                        }
                    }
                    Err(error) => drop(opened.send(Err(error))),
                }
            })
            .map_err(|error| StoreError::Failed(error.to_string()))?;
        let feed = answer.await.unwrap_or_else(|_| Err(gone()))?;
        Ok(Self { requests: Some(requests), feed, thread: Some(thread) })
    }

    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request + Send) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let requests = self.requests.as_ref().ok_or_else(gone)?;
        requests.send(request(answer)).await.map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }
}

impl Store for SqliteStore {
    async fn load(&self) -> Result<Loaded, StoreError> {
        self.ask(Request::Load).await
    }

    async fn commit(&self, expected: Revision, draft: Draft) -> Result<Revision, StoreError> {
        let (answer, answered) = oneshot::channel();
        let requests = self.requests.as_ref().ok_or_else(gone)?;
        requests.send(Request::Commit(expected, draft, answer)).await.map_err(|_| gone())?;
        answered.await.unwrap_or(Err(StoreError::Unknown))
    }

    async fn watch(&self, from: Revision) -> Result<Watch, StoreError> {
        self.feed.watch(from)
    }

    async fn sync(&self) -> Result<Revision, StoreError> {
        Ok(self.feed.latest())
    }
}

/// Closes the file before the lock on the directory is released.
impl Drop for SqliteStore {
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was already reported.
            let _ = thread.join();
        }
    }
}

fn gone() -> StoreError {
    StoreError::Failed("its thread has ended".to_owned())
}

/// The thread's state.
struct Database {
    path: PathBuf,
    connection: Connection,
    access: Access,
    feed: Arc<Feed>,
}

impl Database {
    fn open(path: PathBuf) -> Result<Self, Fault> {
        let (connection, access) = connect_as_may_be(&path)?;
        let feed = Arc::new(Feed::new(revision(&connection)?));
        Ok(Self { path, connection, access, feed })
    }

    fn serve(mut self, mut queue: mpsc::Receiver<Request>) {
        while let Some(request) = queue.blocking_recv() {
            // The caller may be gone.
            match request {
                Request::Load(answer) => {
                    let loaded = self.load();
                    drop(answer.send(loaded.map_err(|error| explained(error.into(), &self.path))));
                }
                Request::Commit(expected, draft, answer) => {
                    let committed = self.commit(expected, draft);
                    drop(answer.send(committed.map_err(|error| explained(error.into(), &self.path))));
                }
            }
        }
    }

    fn load(&mut self) -> Result<Loaded, Fault> {
        let transaction = self.connection.transaction()?;
        let head = head(&transaction)?;
        let all = match has_aside(&transaction)? {
            true => "SELECT key, value FROM record UNION ALL SELECT key, value FROM aside",
            false => "SELECT key, value FROM record",
        };
        let mut statement = transaction.prepare(all)?;
        let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
        let mut records = Vec::new();
        for row in rows {
            let (key, value) = row?;
            records.push(record(&key, &value)?);
        }
        Ok(Loaded { head, records })
    }

    /// Opens the database again, because the disk may be writable now. The old connection is closed first: SQLite
    /// shares its knowledge of a file among a process's connections, including that it is read-only.
    fn try_to_write(&mut self) -> Result<(), Fault> {
        self.connection = Connection::open_in_memory()?;
        (self.connection, self.access) = connect_as_may_be(&self.path)?;
        if self.access == Access::Read { Err(StoreError::ReadOnly.into()) } else { Ok(()) }
    }

    fn commit(&mut self, expected: Revision, draft: Draft) -> Result<Revision, Fault> {
        let Draft { changes, epoch, running, nonce, .. } = draft;
        if self.access == Access::Read {
            self.try_to_write()?;
        }
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let actual = revision(&transaction)?;
        if actual != expected {
            let known = self.feed.latest();
            if actual < known {
                let what =
                    format!("it was put back from revision {known} to {actual} while in use: restart mesh-coord");
                return Err(StoreError::Failed(what).into());
            }
            // Another process has committed, and only the number of commits is known.
            if actual > known {
                self.feed.restart(actual);
            }
            return Err(StoreError::Stale { expected, actual }.into());
        }
        let next = expected.next();
        let version = i64::try_from(next.0).map_err(|_| StoreError::Failed("no revision is left".to_owned()))?;
        {
            let mut put = transaction.prepare_cached("INSERT OR REPLACE INTO record VALUES (?1, ?2, ?3)")?;
            let mut delete = transaction.prepare_cached("DELETE FROM record WHERE key = ?1")?;
            let mut put_aside = transaction.prepare_cached("INSERT OR REPLACE INTO aside VALUES (?1, ?2, ?3)")?;
            let mut delete_aside = transaction.prepare_cached("DELETE FROM aside WHERE key = ?1")?;
            for change in &changes {
                let (put, delete) = match change.key() {
                    Key::Calls(_) => (&mut put_aside, &mut delete_aside),
                    _ => (&mut put, &mut delete),
                };
                let key = change.key().to_string();
                match change {
                    Change::Put(record) => {
                        let value =
                            serde_json::to_string(record).map_err(|error| StoreError::Failed(error.to_string()))?;
                        put.execute(params![key, version, value])?;
                    }
                    Change::Delete(_) => {
                        delete.execute([key])?;
                    }
                }
            }
            let mut head =
                transaction.prepare_cached("UPDATE head SET revision = ?1, epoch = ?2, nonce = ?3, running = ?4")?;
            let seconds = i64::try_from(running.0).unwrap_or(i64::MAX);
            head.execute(params![version, epoch.to_string(), nonce.0.cast_signed(), seconds])?;
            if changes.iter().any(is_of_relays) {
                transaction.pragma_update(None, "user_version", FORMAT_WITH_RELAYS)?;
            }
        }
        transaction.commit()?;
        self.feed.push(Commit { revision: next, nonce, epoch, running, changes: changes.into() });
        Ok(next)
    }
}

/// Whether programs before 0.3 can't read what is written.
fn is_of_relays(change: &Change) -> bool {
    match change {
        Change::Put(Record::Relay(_)) => true,
        Change::Put(Record::Token(token)) => matches!(token.purpose, Purpose::Relay { .. }),
        Change::Put(_) | Change::Delete(_) => false,
    }
}

fn is_on_read_only_disk(path: &Path) -> bool {
    path.parent().and_then(|parent| statvfs(parent).ok()).is_some_and(|disk| disk.flags().contains(FsFlags::ST_RDONLY))
}

/// Asks the disk for the cause of an error that SQLite doesn't explain.
fn explained(error: StoreError, path: &Path) -> StoreError {
    let StoreError::Failed(what) = error else { return error };
    match path.parent().map(statvfs) {
        Some(Ok(disk)) if disk.flags().contains(FsFlags::ST_RDONLY) => StoreError::ReadOnly,
        Some(Ok(disk)) if disk.blocks_available() == 0 || (disk.files() > 0 && disk.files_available() == 0) => {
            StoreError::Full
        }
        _ => StoreError::Failed(what),
    }
}

fn from_io(error: &std::io::Error) -> StoreError {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => StoreError::Full,
        std::io::ErrorKind::ReadOnlyFilesystem | std::io::ErrorKind::PermissionDenied => StoreError::ReadOnly,
        _ => StoreError::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod disk_tests;
#[cfg(test)]
mod tests;
