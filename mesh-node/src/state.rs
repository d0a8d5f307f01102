//! The state directory: its place, its owner, and files that are complete at any moment. On a full or read-only disk an agent
//! continues with the state it has.

mod later;
mod lock;
mod socket;

use std::{
    env, fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mesh_process::directory::{self, SocketPathTooLong};
use nix::unistd::{AccessFlags, access};
use serde::{Serialize, de::DeserializeOwned};
use zeroize::{Zeroize as _, Zeroizing};

use self::later::Later;
pub(crate) use self::{lock::Lock, socket::make_room};
use crate::hint::Hint;

/// The state directory of root's agent.
const SYSTEM: &str = "/var/lib/mesh-node";

/// What is wrong with the state directory or a file in it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error("there is no home directory to keep the state in")]
    NoHome,
    /// The path of the agent's socket is too long.
    #[error(transparent)]
    SocketPathTooLong(#[from] SocketPathTooLong),
    #[error("cannot use the state directory {path}: {error}", path = path.display())]
    Unusable { path: PathBuf, error: io::Error },
    #[error("another agent is running with the state directory {path}", path = path.display())]
    Taken { path: PathBuf },
    #[error("cannot read {path}: {error}", path = path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("{path} is damaged, at line {line} column {column}", path = path.display())]
    Damaged {
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
}

impl Hint for StateError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoHome => "name a state directory: --state DIR".into(),
            Self::SocketPathTooLong(_) => {
                "choose a state directory with a shorter path: --state DIR, or $MESH_NODE_STATE".into()
            }
            Self::Unusable { .. } => "choose another one with --state DIR".into(),
            Self::Taken { path } => {
                let path = path.display();
                format!("see it with `mesh-node status --state {path}`; a second agent needs a --state DIR of its own")
            }
            Self::Unreadable { .. } => "is it a file that this user may read?".into(),
            Self::Damaged { path, .. } => format!("restore {} from a backup, or move it away", path.display()),
        })
    }
}

/// A state directory, which may not exist yet.
#[derive(Debug, Clone)]
pub(crate) struct StateDir {
    path: PathBuf,
    /// Whether the runner has left, so that nothing may be written any more. Locked while a file is put into place and while all
    /// are deleted.
    closed: Arc<Mutex<bool>>,
    /// Whether it is an ordinary user's default.
    own: bool,
    /// Writes that are pending or have failed.
    later: Arc<Later>,
}

impl StateDir {
    /// The directory that the operator names, else root's or the user's default.
    ///
    /// # Errors
    /// If there is no home directory, or the path of the socket would be too long.
    pub(crate) fn locate(given: Option<PathBuf>) -> Result<Self, StateError> {
        let own = given.is_none() && !nix::unistd::geteuid().is_root();
        let path = match given {
            Some(path) => path,
            None if nix::unistd::geteuid().is_root() => SYSTEM.into(),
            None => directory::user_state(env::var_os("XDG_STATE_HOME").map(Into::into), env::home_dir(), "mesh-node")
                .ok_or(StateError::NoHome)?,
        };
        let state = Self { path, own, closed: Arc::default(), later: Arc::default() };
        directory::check_socket(&state.socket())?;
        Ok(state)
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is the default of root's agent.
    pub(crate) fn is_system(&self) -> bool {
        self.path == Path::new(SYSTEM)
    }

    /// Whether it is an ordinary user's default.
    pub(crate) const fn is_own(&self) -> bool {
        self.own
    }

    /// The path of the agent's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.path.join("agent.sock")
    }

    /// Makes the directory, for its owner only, and locks it for this process.
    ///
    /// # Errors
    /// If it can't be made or made private, or another agent has locked it.
    pub(crate) fn take(&self) -> Result<Lock, StateError> {
        let failed = |error: io::Error| StateError::Unusable { path: self.path.clone(), error };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.path).map_err(failed)?;
        self.make_private().map_err(failed)?;
        match lock::take(&self.path) {
            Ok(lock) => {
                if let Some(error) = self.unwritable() {
                    tracing::warn!(state = %self.path.display(), "{error}");
                }
                Ok(lock)
            }
            Err(lock::Error::Taken) => Err(StateError::Taken { path: self.path.clone() }),
            Err(lock::Error::Failed(e)) => Err(failed(e)),
        }
    }

    /// The warning that nothing can be written there, if so.
    fn unwritable(&self) -> Option<String> {
        let error = access(&self.path, AccessFlags::W_OK).err()?;
        Some(format!(
            "cannot write to the state directory ({}): the agent continues with the state it has, and a restart loses \
             later changes",
            error.desc()
        ))
    }

    /// The current problems of the directory, in words.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let files = self.later.troubles().into_iter().map(|(name, error)| {
            format!(
                "cannot write {} ({error}): the agent retries, and a restart before it succeeds loses the changes",
                self.path.join(name).display()
            )
        });
        self.unwritable().into_iter().chain(files).collect()
    }

    /// Removes other users' access to the directory, if it is the agent's own.
    fn make_private(&self) -> io::Result<()> {
        let metadata = fs::metadata(&self.path)?;
        if metadata.uid() != nix::unistd::geteuid().as_raw() {
            return Err(io::Error::other("it belongs to another user"));
        }
        if !directory::is_open_to_others(&metadata) {
            return Ok(());
        }
        // `--state /tmp` must not lock other users out of /tmp.
        let known = |name: &std::ffi::OsStr| name == "lock" || name == "identity.json";
        let mut entries = fs::read_dir(&self.path)?.map(|entry| entry.map(|e| e.file_name())).peekable();
        if entries.peek().is_some() && !entries.any(|name| name.is_ok_and(|name| known(&name))) {
            return Err(io::Error::other("it holds other things and is open to other users"));
        }
        match fs::set_permissions(&self.path, fs::Permissions::from_mode(0o700)) {
            // The files in it have private modes themselves.
            Err(e) if e.kind() == io::ErrorKind::ReadOnlyFilesystem => Ok(()),
            other => other,
        }
    }

    /// Reads a JSON file; `None` if there is none.
    ///
    /// # Errors
    /// If it can't be read or is damaged.
    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StateError> {
        let path = self.path.join(name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StateError::Unreadable { path, error }),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|e| {
            // The position only: the message can quote the file, which may hold secrets.
            StateError::Damaged { path, line: e.line(), column: e.column() }
        })
    }

    /// Replaces a JSON file, mode 0600: after a crash at any instant either the old or the new content is there, complete. Blocks as
    /// long as the disk does.
    ///
    /// # Errors
    /// If it can't be written; the old content is then unchanged.
    pub(crate) fn write(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        // Streamed: a view may be large, and the allocator would keep the memory of a copy.
        let written = self.replace(name, |file| {
            let mut writer = io::BufWriter::new(file);
            serde_json::to_writer(&mut writer, value)?;
            writer.flush()?;
            let (_, buffer) = writer.into_parts();
            buffer.unwrap_or_default().zeroize();
            Ok(())
        });
        self.later.note(name, written.as_ref().err());
        written
    }

    /// Whether a file has this content.
    ///
    /// # Errors
    /// If the content can't be written as JSON.
    pub(crate) fn holds(&self, name: &str, value: &impl Serialize) -> io::Result<bool> {
        let new = Zeroizing::new(serde_json::to_vec(value)?);
        Ok(fs::read(self.path.join(name)).map(Zeroizing::new).is_ok_and(|old| old == new))
    }

    /// [`Self::write`], unless the file has the same content already. A failed write is retried.
    ///
    /// # Errors
    /// If it hasn't been written yet.
    pub(crate) fn write_changed(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        match self.holds(name, value)? {
            true => Ok(()),
            false => self.write(name, value).or_else(|_| self.remember(name, value)),
        }
    }

    /// [`Self::write`] that waits only a moment for a slow disk. A failed write is retried until it succeeds or newer content
    /// replaces it.
    ///
    /// # Errors
    /// If it hasn't been written yet.
    pub(crate) fn remember(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        later::write(self, name, Zeroizing::new(serde_json::to_vec(value)?))
    }

    fn replace(&self, name: &str, write: impl FnOnce(&mut fs::File) -> io::Result<()>) -> io::Result<()> {
        let has_left = || io::Error::other("the runner has left the mesh");
        if *self.closed() {
            return Err(has_left());
        }
        let (path, next) = (self.path.join(name), self.path.join(format!("{name}.next")));
        let written = directory::write_new(&next, write);
        // The runner may have left meanwhile.
        let closed = self.closed();
        if *closed {
            wipe(&next)?;
            return Err(has_left());
        }
        written?;
        let placed = directory::put_in_place(&next, &path);
        drop(closed);
        placed
    }

    /// Deletes files and prevents later writes. Small files, which may hold secrets, are overwritten first (effective on file
    /// systems that write in place).
    ///
    /// # Errors
    /// If one can't be deleted.
    pub(crate) fn clear(&self, names: &[&str]) -> io::Result<()> {
        let mut closed = self.closed();
        *closed = true;
        for name in names {
            for path in [self.path.join(name), self.path.join(format!("{name}.next"))] {
                wipe(&path)?;
            }
        }
        directory::sync(&self.path)
    }

    fn closed(&self) -> MutexGuard<'_, bool> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Renames a damaged file, so that it can be examined and is not read again.
    pub(crate) fn put_aside(&self, name: &str) {
        let _ = fs::rename(self.path.join(name), self.path.join(format!("{name}.damaged")));
    }

    /// The time of a file's last write.
    pub(crate) fn written(&self, name: &str) -> Option<std::time::SystemTime> {
        fs::metadata(self.path.join(name)).ok()?.modified().ok()
    }
}

/// Deletes a file if it exists; a small one, which may hold secrets, is overwritten first.
fn wipe(path: &Path) -> io::Result<()> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    if metadata.is_file() && metadata.len() < 1 << 20 {
        let zeros = vec![0; usize::try_from(metadata.len()).unwrap_or(0)];
        let mut file = fs::OpenOptions::new().write(true).open(path)?;
        file.write_all(&zeros)?;
        file.sync_all()?;
    }
    fs::remove_file(path)
}

#[cfg(test)]
pub(crate) mod tests;
