//! The state directory: where it is, who may use it, and files in it that are whole at any moment.

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
use serde::{Serialize, de::DeserializeOwned};
use zeroize::Zeroize as _;

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
}

/// Shows that no other agent works on the directory, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: fs::File,
}

impl StateDir {
    /// The directory given by the operator, else root's or the user's own.
    ///
    /// # Errors
    /// If there is no home to put it in, or its socket's path would be too long.
    pub(crate) fn locate(given: Option<PathBuf>) -> Result<Self, Refusal> {
        let path = match given {
            Some(path) => path,
            None if nix::unistd::geteuid().is_root() => SYSTEM.into(),
            None => user_state(env::var_os("XDG_STATE_HOME").map(Into::into), env::home_dir())?,
        };
        let state = Self { path, closed: Arc::default() };
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
        let lock = self.path.join("lock");
        let file =
            fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(lock).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(fs::TryLockError::WouldBlock) => Err(Refusal::new(
                format!("another agent is running with the state directory {path}"),
                format!("see it with `mesh-node status --state {path}`; a second agent needs a --state DIR of its own"),
            )),
            Err(fs::TryLockError::Error(e)) => Err(failed(e)),
        }
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
        fs::set_permissions(&self.path, fs::Permissions::from_mode(0o700))
    }

    /// Reads a file of JSON; `None` if there is none.
    ///
    /// # Errors
    /// If it can't be read, or doesn't hold what it should.
    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Refusal> {
        let path = self.path.join(name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => zeroize::Zeroizing::new(bytes),
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
    /// the other, whole.
    ///
    /// # Errors
    /// If it can't be written; the one before is then untouched.
    pub(crate) fn write(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        let has_left = || io::Error::other("the runner has left the mesh");
        if *self.closed() {
            return Err(has_left());
        }
        let (path, next) = (self.path.join(name), self.path.join(format!("{name}.next")));
        let written = write_whole(&next, value);
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

/// Writes a file of JSON, mode 0600, and waits until it is on the disk.
fn write_whole(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let file = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    // Never whole in memory: a view may be large, and what is freed of it would stay ours.
    let mut writer = io::BufWriter::new(file);
    serde_json::to_writer(&mut writer, value)?;
    writer.flush()?;
    let (file, buffer) = writer.into_parts();
    buffer.unwrap_or_default().zeroize();
    file.sync_all()
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
pub(crate) mod tests {
    use super::*;

    /// A directory of its own for a test, removed at its end.
    pub(crate) struct Scratch(pub(crate) PathBuf);

    impl Scratch {
        pub(crate) fn new(name: &str) -> Self {
            let path = env::temp_dir().join(format!("mesh-node-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn files_are_private_and_read_back_and_leave_nothing_beside() {
        let scratch = Scratch::new("state");
        let state = StateDir::locate(Some(scratch.0.join("a/b"))).unwrap();
        let _lock = state.take().unwrap();
        assert_eq!(state.read::<Vec<u8>>("x.json"), Ok(None));
        state.write("x.json", &[1, 2]).unwrap();
        state.write("x.json", &[3]).unwrap();
        assert_eq!(state.read::<Vec<u8>>("x.json"), Ok(Some(vec![3])));
        assert_eq!((mode(state.path()), mode(&state.path().join("x.json"))), (0o700, 0o600));
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 2, "the lock and the file");
        state.clear(&["x.json", "nothing.json"]).unwrap();
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 1);
        assert!(state.write("x.json", &[4]).is_err(), "whoever is late writes nothing");
    }

    /// Leaves while it is written.
    struct Leaves<'a>(&'a StateDir);

    impl Serialize for Leaves<'_> {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            self.0.clear(&["x.json"]).unwrap();
            serializer.serialize_unit()
        }
    }

    #[test]
    fn what_is_being_written_when_the_runner_leaves_is_not_put_back() {
        let scratch = Scratch::new("leaves");
        let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
        state.write("x.json", &1).unwrap();
        state.write("x.json", &Leaves(&state)).unwrap_err();
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
        // Another file, of which nothing was there yet.
        let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
        state.write("y.json", &Leaves(&state)).unwrap_err();
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_damaged_file_is_named_and_not_quoted() {
        let scratch = Scratch::new("damaged");
        let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
        fs::write(scratch.0.join("x.json"), "{\"private_key\": sesame}").unwrap();
        let error = state.read::<Vec<u8>>("x.json").unwrap_err().to_string();
        assert!(error.contains("x.json is damaged") && !error.contains("sesame"), "{error}");
    }

    #[test]
    fn one_agent_at_a_time() {
        let scratch = Scratch::new("lock");
        let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
        let lock = state.take().unwrap();
        let error = state.take().unwrap_err();
        assert!(error.error.contains("another agent is running"), "{error}");
        drop(lock);
        state.take().unwrap();
    }

    #[test]
    fn a_directory_that_others_use_is_not_taken_from_them() {
        let scratch = Scratch::new("shared");
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&scratch.0, open.clone()).unwrap();
        let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
        fs::write(scratch.0.join("thesis.tex"), "").unwrap();
        assert!(state.take().unwrap_err().error.contains("holds other things"));
        assert_eq!(mode(&scratch.0), 0o755);
        fs::remove_file(scratch.0.join("thesis.tex")).unwrap();
        drop(state.take().unwrap());
        assert_eq!(mode(&scratch.0), 0o700, "an empty one is made private");
        state.write("identity.json", &1).unwrap();
        fs::set_permissions(&scratch.0, open).unwrap();
        state.take().unwrap();
        assert_eq!(mode(&scratch.0), 0o700, "our own is made private again");
    }

    #[test]
    fn the_path_of_the_socket_has_a_limit() {
        let fits = format!("/{}", "x".repeat(MAX_SOCKET_PATH - "//agent.sock".len()));
        StateDir::locate(Some(fits.clone().into())).unwrap();
        let error = StateDir::locate(Some(format!("{fits}x").into())).unwrap_err();
        assert!(error.error.contains("108 octets") && error.hint.unwrap().contains("--state"), "{}", error.error);
    }

    #[test]
    fn a_users_state_is_where_xdg_has_it() {
        let at = |xdg: Option<&str>, home: Option<&str>| user_state(xdg.map(Into::into), home.map(Into::into));
        assert_eq!(at(Some("/s"), Some("/h")), Ok("/s/mesh-node".into()));
        assert_eq!(at(None, Some("/h")), Ok("/h/.local/state/mesh-node".into()));
        assert_eq!(at(Some("relative"), Some("/h")), Ok("/h/.local/state/mesh-node".into()));
        assert!(at(None, None).is_err());
    }
}
