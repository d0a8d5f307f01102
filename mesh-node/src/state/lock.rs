//! One agent at a time on a state directory, also where nothing can be written.

use std::{fs, io, os::unix::fs::OpenOptionsExt as _, path::Path};

/// Shows that no other agent works on the directory, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Lock {
    /// The lock file, which agents of earlier versions take; `None` where there is none and none can be made.
    _file: Option<fs::File>,
    _directory: fs::File,
}

pub(super) enum Error {
    Taken,
    Failed(io::Error),
}

/// Takes the directory itself, which needs no writing (flock(2)), and the lock file in it. One of them is enough: NFS locks
/// no directory, and where nothing can be written there may be no file.
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
