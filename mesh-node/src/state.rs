//! The state directory: where it is, who may use it, and files in it that are whole at any moment. Where nothing can be
//! written (a full disk, one mounted read-only), an agent goes on with what is there.

mod later;
mod lock;
mod socket;

use std::{
    env, fs,
    io::{self, Write as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mesh_proto::message::Refusal;
use nix::unistd::{AccessFlags, access};
use serde::{Serialize, de::DeserializeOwned};
use zeroize::{Zeroize as _, Zeroizing};

use self::later::Later;
pub(crate) use self::{lock::Lock, socket::make_room};

/// Where the agent of root keeps its state.
const SYSTEM: &str = "/var/lib/mesh-node";
/// The longest path of a Unix socket, in octets: `sun_path` without the final NUL (unix(7)).
const MAX_SOCKET_PATH: usize = 107;

/// A state directory, which may not exist yet.
#[derive(Debug, Clone)]
pub(crate) struct StateDir {
    path: PathBuf,
    /// Whether nothing is written any more: the runner has left. Locked while a file is put in its place, and while all are
    /// deleted.
    closed: Arc<Mutex<bool>>,
    /// Whether it is an ordinary user's, and nothing else was said.
    own: bool,
    /// What is to be written yet, and what couldn't be.
    later: Arc<Later>,
}

impl StateDir {
    /// The directory given by the operator, else root's or the user's own.
    ///
    /// # Errors
    /// If there is no home to put it in, or its socket's path would be too long.
    pub(crate) fn locate(given: Option<PathBuf>) -> Result<Self, Refusal> {
        let own = given.is_none() && !nix::unistd::geteuid().is_root();
        let path = match given {
            Some(path) => path,
            None if nix::unistd::geteuid().is_root() => SYSTEM.into(),
            None => user_state(env::var_os("XDG_STATE_HOME").map(Into::into), env::home_dir())?,
        };
        let state = Self { path, own, closed: Arc::default(), later: Arc::default() };
        let (socket, length) = (state.socket(), state.socket().as_os_str().as_bytes().len());
        if length > MAX_SOCKET_PATH {
            return Err(Refusal::new(
                format!(
                    "the path of the agent's socket, {}, is {length} octets long, and the system takes {MAX_SOCKET_PATH}",
                    socket.display()
                ),
                "choose a state directory with a shorter path: --state DIR, or $MESH_NODE_STATE",
            ));
        }
        Ok(state)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is that of root's agent.
    pub(crate) fn is_system(&self) -> bool {
        self.path == Path::new(SYSTEM)
    }

    /// Whether it is an ordinary user's own, since nothing else was said.
    pub(crate) const fn is_own(&self) -> bool {
        self.own
    }

    /// Where the agent's socket is.
    pub(crate) fn socket(&self) -> PathBuf {
        self.path.join("agent.sock")
    }

    /// Makes the directory, for its owner only, and takes it for this process.
    ///
    /// # Errors
    /// If it can't be made or isn't private, or another agent works on it.
    pub(crate) fn take(&self) -> Result<Lock, Refusal> {
        let path = self.path.display();
        let failed = |e: io::Error| {
            Refusal::new(format!("cannot use the state directory {path}: {e}"), "choose another one with --state DIR")
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.path).map_err(failed)?;
        self.make_private().map_err(failed)?;
        match lock::take(&self.path) {
            Ok(lock) => {
                if let Some(error) = self.unwritable() {
                    tracing::warn!(state = %path, "{error}");
                }
                Ok(lock)
            }
            Err(lock::Error::Taken) => Err(Refusal::new(
                format!("another agent is running with the state directory {path}"),
                format!("see it with `mesh-node status --state {path}`; a second agent needs a --state DIR of its own"),
            )),
            Err(lock::Error::Failed(e)) => Err(failed(e)),
        }
    }

    /// Says that nothing can be written there, if so.
    fn unwritable(&self) -> Option<String> {
        let error = access(&self.path, AccessFlags::W_OK).err()?;
        Some(format!(
            "the state directory can't be written to ({}): the agent works with what is there, and a restart loses what \
             changes from now on",
            error.desc()
        ))
    }

    /// What is wrong with the directory now, for people to read.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let files = self.later.troubles().into_iter().map(|(name, error)| {
            format!(
                "{} can't be written ({error}): it is tried again and again, and a restart before that loses the changes",
                self.path.join(name).display()
            )
        });
        self.unwritable().into_iter().chain(files).collect()
    }

    /// Takes others' rights to the directory away, if it is ours to do so.
    fn make_private(&self) -> io::Result<()> {
        let metadata = fs::metadata(&self.path)?;
        if metadata.uid() != nix::unistd::geteuid().as_raw() {
            return Err(io::Error::other("it belongs to another user"));
        }
        if metadata.mode() & 0o077 == 0 {
            return Ok(());
        }
        // `--state /tmp` must not lock everybody out of /tmp.
        let known = |name: &std::ffi::OsStr| name == "lock" || name == "identity.json";
        let mut entries = fs::read_dir(&self.path)?.map(|entry| entry.map(|e| e.file_name())).peekable();
        if entries.peek().is_some() && !entries.any(|name| name.is_ok_and(|name| known(&name))) {
            return Err(io::Error::other("it holds other things and is open to other users"));
        }
        match fs::set_permissions(&self.path, fs::Permissions::from_mode(0o700)) {
            // The files in it are private by themselves.
            Err(e) if e.kind() == io::ErrorKind::ReadOnlyFilesystem => Ok(()),
            other => other,
        }
    }

    /// Reads a file of JSON; `None` if there is none.
    ///
    /// # Errors
    /// If it can't be read, or doesn't hold what it should.
    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Refusal> {
        let path = self.path.join(name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Refusal::bare(format!("cannot read {}: {e}", path.display()))),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|e| {
            // The category and place only: the message can quote the file, which may hold secrets.
            let (line, column) = (e.line(), e.column());
            Refusal::bare(format!("{} is damaged, at line {line} column {column}", path.display()))
        })
    }

    /// Writes a file of JSON, mode 0600, in the place of the one before: after a crash at any instant there is the one or
    /// the other, whole. Blocks for as long as the disk does.
    ///
    /// # Errors
    /// If it can't be written; the one before is then untouched.
    pub(crate) fn write(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        // Never whole in memory: a view may be large, and what is freed of it would stay ours.
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

    /// [`Self::write`], unless the file holds just that already. What fails is tried again.
    ///
    /// # Errors
    /// If it isn't written yet.
    pub(crate) fn write_changed(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        let new = Zeroizing::new(serde_json::to_vec(value)?);
        match fs::read(self.path.join(name)).map(Zeroizing::new) {
            Ok(old) if old == new => Ok(()),
            _ => self.write(name, value).or_else(|_| self.remember(name, value)),
        }
    }

    /// [`Self::write`] for what goes on without: waits a moment only for a slow disk, and what fails is tried again until it
    /// succeeds or there is something newer.
    ///
    /// # Errors
    /// If it isn't written yet.
    pub(crate) fn remember(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        later::write(self, name, Zeroizing::new(serde_json::to_vec(value)?))
    }

    fn replace(&self, name: &str, write: impl FnOnce(&mut fs::File) -> io::Result<()>) -> io::Result<()> {
        let has_left = || io::Error::other("the runner has left the mesh");
        if *self.closed() {
            return Err(has_left());
        }
        let (path, next) = (self.path.join(name), self.path.join(format!("{name}.next")));
        let written = write_whole(&next, write);
        // It may have left meanwhile.
        let closed = self.closed();
        if *closed {
            wipe(&next)?;
            return Err(has_left());
        }
        written?;
        fs::rename(&next, &path)?;
        drop(closed);
        fs::File::open(&self.path)?.sync_all()
    }

    /// Deletes files, those with secrets overwritten first (as far as the file system writes in place), and keeps anybody
    /// from writing any again.
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
        fs::File::open(&self.path)?.sync_all()
    }

    fn closed(&self) -> MutexGuard<'_, bool> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a damaged file aside, so that it can be looked at and doesn't stand in the way.
    pub(crate) fn put_aside(&self, name: &str) {
        let _ = fs::rename(self.path.join(name), self.path.join(format!("{name}.damaged")));
    }

    /// When a file was last written.
    pub(crate) fn written(&self, name: &str) -> Option<std::time::SystemTime> {
        fs::metadata(self.path.join(name)).ok()?.modified().ok()
    }
}

/// Writes a file of mode 0600, and waits until it is on the disk. A piece of one is not left to fill the disk.
fn write_whole(path: &Path, write: impl FnOnce(&mut fs::File) -> io::Result<()>) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    let written = write(&mut file).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written
}

/// Deletes a file, if it is there, overwritten first unless it is large: secrets are not.
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

/// `$XDG_STATE_HOME/mesh-node`, by default `~/.local/state/mesh-node` (XDG Base Directory Specification 0.8).
fn user_state(xdg: Option<PathBuf>, home: Option<PathBuf>) -> Result<PathBuf, Refusal> {
    xdg.filter(|path| path.is_absolute())
        .or_else(|| home.filter(|home| home.is_absolute()).map(|home| home.join(".local/state")))
        .map(|base| base.join("mesh-node"))
        .ok_or_else(|| Refusal::new("there is no home directory to keep the state in", "say where: --state DIR"))
}

#[cfg(test)]
pub(crate) mod tests;
