//! The database file: who it belongs to, its tables, and its head.

use std::{
    fs::OpenOptions,
    os::unix::{ffi::OsStrExt as _, fs::OpenOptionsExt as _},
    path::Path,
};

use mesh_link::percent_encoded;
use mesh_model::RunningSeconds;
use mesh_proto::{Epoch, Revision};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, TransactionBehavior};

use super::{fault::Fault, from_io, is_on_read_only_disk};
use crate::store::{Head, StoreError};

/// The version of what is in the tables, kept in `user_version`.
const FORMAT: i64 = 1;
/// The version once there is a relay, or a token for one: programs before 0.3 can't read those records, and are told so.
/// Until then they can be gone back to.
pub(super) const FORMAT_WITH_RELAYS: i64 = 2;
/// "mesh" in ASCII, which marks the database for us and for file(1).
const APPLICATION: i64 = 0x6d65_7368;
/// The size to which the log is cut after a longer commit, in bytes.
pub(super) const LOG_LIMIT: i64 = 8 << 20;

const SCHEMA: &str = "
    CREATE TABLE record (key TEXT PRIMARY KEY, version INTEGER NOT NULL, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE head (one INTEGER PRIMARY KEY CHECK (one = 1), revision INTEGER NOT NULL) STRICT;
    INSERT INTO head VALUES (1, 0);
";
/// Records that programs before 0.3 neither read nor write: they can't read these.
const ASIDE: &str = "
    CREATE TABLE IF NOT EXISTS aside (key TEXT PRIMARY KEY, version INTEGER NOT NULL, value TEXT NOT NULL)
    STRICT, WITHOUT ROWID;
";
/// What they neither read nor write beside the revision.
const HEAD: &str = "
    ALTER TABLE head ADD COLUMN epoch TEXT;
    ALTER TABLE head ADD COLUMN nonce INTEGER;
    ALTER TABLE head ADD COLUMN running INTEGER NOT NULL DEFAULT 0;
";

/// The access that the connection has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Write,
    /// Reading only, because the disk was read-only.
    Read,
}

/// Opens the database for reading and writing, or for reading if the disk is read-only.
pub(super) fn connect_as_may_be(path: &Path) -> Result<(Connection, Access), Fault> {
    let connection = match connect(path) {
        Err(error) if is_on_read_only_disk(path) => {
            return Ok((connect_to_read(path).map_err(|_| error)?, Access::Read));
        }
        connected => connected?,
    };
    // SQLite falls back to reading by itself.
    let access = if connection.is_readonly(rusqlite::MAIN_DB)? { Access::Read } else { Access::Write };
    Ok((connection, access))
}

/// Opens the database for reading and writing, and creates it if it doesn't exist.
fn connect(path: &Path) -> Result<Connection, Fault> {
    // We create it, not SQLite, to set its mode. SQLite uses the same mode for its other files.
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(from_io(&error).into()),
        _ => {}
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if mode != "wal" {
        return Err(StoreError::Failed(format!("its disk allows the journal mode `{mode}` only, and not WAL")).into());
    }
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "trusted_schema", "off")?;
    let _: i64 = connection.pragma_update_and_check(None, "journal_size_limit", LOG_LIMIT, |row| row.get(0))?;
    check(&connection)?;
    prepare(&mut connection)?;
    Ok(connection)
}

/// Opens the database on a read-only disk. If its log is merged, SQLite is told that the file doesn't change, because
/// otherwise it would create files. If not, the files of the last process are there.
fn connect_to_read(path: &Path) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let connection = if std::fs::metadata(log).is_ok_and(|log| log.len() > 0) {
        Connection::open_with_flags(path, flags)?
    } else {
        let uri = format!("file:{}?immutable=1", percent_encoded(path.as_os_str().as_bytes(), b"/"));
        Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)?
    };
    connection.pragma_update(None, "trusted_schema", "off")?;
    check(&connection)?;
    match identify(&connection)? {
        Identity::Ours => Ok(connection),
        Identity::Empty => Err(StoreError::ReadOnly.into()),
    }
}

fn check(connection: &Connection) -> Result<(), Fault> {
    let check: String = connection.pragma_query_value(None, "integrity_check", |row| row.get(0))?;
    if check == "ok" { Ok(()) } else { Err(StoreError::Damaged(check).into()) }
}

/// The owner of a database.
enum Identity {
    Ours,
    /// None yet.
    Empty,
}

fn identify(connection: &Connection) -> Result<Identity, Fault> {
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (application, format) = (number("application_id")?, number("user_version")?);
    let anything: Option<i64> = connection.query_row("SELECT 1 FROM sqlite_schema", [], |row| row.get(0)).optional()?;
    match (anything, application, format) {
        (None, ..) => Ok(Identity::Empty),
        (_, APPLICATION, FORMAT | FORMAT_WITH_RELAYS) => Ok(Identity::Ours),
        (_, APPLICATION, found) => Err(StoreError::Newer { found, known: FORMAT_WITH_RELAYS }.into()),
        _ => Err(StoreError::Failed("the file is some other program's database".to_owned()).into()),
    }
}

/// Creates the tables in an empty database, and adds to those of an earlier version what it doesn't know. Refuses a
/// database of another program or of a later version.
fn prepare(connection: &mut Connection) -> Result<(), Fault> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if let Identity::Empty = identify(&transaction)? {
        transaction.execute_batch(SCHEMA)?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", FORMAT)?;
    }
    if !has_whole_head(&transaction)? {
        transaction.execute_batch(HEAD)?;
    }
    transaction.execute_batch(ASIDE)?;
    Ok(transaction.commit()?)
}

/// Whether there is a table for records that programs before 0.3 can't read. A program of this version has added it.
pub(super) fn has_aside(connection: &Connection) -> Result<bool, Fault> {
    Ok(connection.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'aside'")?.exists([])?)
}

/// Whether the head has more than its revision, which a program of this version has added.
pub(super) fn has_whole_head(connection: &Connection) -> Result<bool, Fault> {
    Ok(connection.prepare("SELECT 1 FROM pragma_table_info('head') WHERE name = 'running'")?.exists([])?)
}

pub(super) fn head(connection: &Connection) -> Result<Head, Fault> {
    let revision = revision(connection)?;
    if !has_whole_head(connection)? {
        return Ok(Head { revision, epoch: None, running: RunningSeconds(0) });
    }
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, Option<String>>(0)?, row.get::<_, i64>(1)?));
    let (epoch, running) = connection.query_row("SELECT epoch, running FROM head", [], read)?;
    let epoch = epoch.map(|text| text.parse::<Epoch>()).transpose();
    let epoch = epoch.map_err(|error| StoreError::Damaged(error.to_string()))?;
    Ok(Head { revision, epoch, running: RunningSeconds(u64::try_from(running).unwrap_or(0)) })
}

pub(super) fn revision(connection: &Connection) -> Result<Revision, Fault> {
    let revision: i64 = connection.query_row("SELECT revision FROM head", [], |row| row.get(0))?;
    let damaged = |_| StoreError::Damaged(format!("its revision is {revision}")).into();
    u64::try_from(revision).map(Revision).map_err(damaged)
}
