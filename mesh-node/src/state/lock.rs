//! One agent at a time per state directory, even where nothing can be written.

use std::{fs, io, os::unix::fs::OpenOptionsExt as _, path::Path};

/// Keeps other agents off the directory until dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    /// The lock file, which agents of earlier versions lock; `None` if there is none and none can be made.
    _file: Option<fs::File>,
    _directory: fs::File,
}

/// Why the directory isn't locked.
pub(super) enum Error {
    /// Another process has locked it.
    Taken,
    /// It can't be locked.
    Failed(io::Error),
}

/// Locks the directory itself, which needs no writing (flock(2)), and the lock file in it. One of the two is enough: NFS locks no
/// directory, and a read-only directory may have no lock file.
pub(super) fn take(directory: &Path) -> Result<Lock, Error> {
    let path = directory.join("lock");
    let file = fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.or_else(|_| fs::File::open(&path)).ok();
    let directory = fs::File::open(directory).map_err(Error::Failed)?;
    let (mut locked, mut failed) = (false, None);
    for lock in file.iter().chain([&directory]) {
        match lock.try_lock() {
            Ok(()) => locked = true,
            Err(fs::TryLockError::WouldBlock) => return Err(Error::Taken),
            Err(fs::TryLockError::Error(e)) => failed = Some(e),
        }
    }
    match failed {
        Some(error) if !locked => Err(Error::Failed(error)),
        _ => Ok(Lock { _file: file, _directory: directory }),
    }
}
