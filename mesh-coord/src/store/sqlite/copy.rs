//! A copy of the database, made while the coordinator runs.

use std::{fs::OpenOptions, os::unix::fs::OpenOptionsExt as _, path::Path};

use rusqlite::{Connection, OpenFlags};

use super::{
    fault::Fault,
    file::{has_whole_head, revision},
};
use crate::store::StoreError;

/// Copies the database to a new file (mode 0600), as of one commit and without its epoch, and without keeping its writer
/// waiting. Returns the revision of that commit.
///
/// # Errors
/// If it can't be read, or the new file can't be written.
pub(crate) fn copy_of(database: &Path, to: &Path) -> Result<u64, StoreError> {
    Ok(copy(database, to)?)
}

fn copy(database: &Path, to: &Path) -> Result<u64, Fault> {
    // SQLite writes into an empty file, and wouldn't make a private one.
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to);
    made.map_err(|error| StoreError::Failed(format!("{} cannot be made: {error}", to.display())))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(database, flags)?;
    let path = to.to_str().ok_or_else(|| StoreError::Failed(format!("{} is no text", to.display())))?;
    connection.execute("VACUUM INTO ?1", [path])?;
    let copy = Connection::open_with_flags(to, flags)?;
    // What comes of the copy is another history.
    if has_whole_head(&copy)? {
        copy.execute("UPDATE head SET epoch = NULL", [])?;
    }
    Ok(revision(&copy)?.0)
}
