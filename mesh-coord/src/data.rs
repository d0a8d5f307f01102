//! The data directory: who may enter it, which process holds it, and its files with secrets.

use std::{
    env,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use mesh_process::directory;
use nix::{
    fcntl::{Flock, FlockArg},
    unistd::{Uid, geteuid},
};
use zeroize::Zeroizing;

/// The name of the database file.
pub(crate) const DATABASE: &str = "mesh-coord.db";
/// Its name once its records are elsewhere.
pub(crate) const MIGRATED: &str = "mesh-coord.db.migrated";
/// The name of the file with the TLS key.
pub(crate) const TLS_KEY: &str = "tls-key.pem";
/// The name of the file with the key against which machines prove their own.
pub(crate) const ENROL_KEY: &str = "enrol-key";
/// The name of the file with the number of the last audit entry that the webhook has sent.
pub(crate) const WEBHOOK: &str = "webhook";
pub(crate) const SOCKET: &str = "admin.sock";
/// The end of the path of the system coordinator's socket, which systemd puts below /var/lib/private.
pub(crate) const SYSTEM_SOCKET: &str = "/mesh-coord/admin.sock";
pub(crate) const LOCK: &str = "lock";

/// The default data directory of a coordinator: the system's for root, otherwise the user's own.
pub(crate) fn default_directory() -> PathBuf {
    default_for("mesh-coord")
}

/// The same of a relay.
pub(crate) fn default_relay_directory() -> PathBuf {
    default_for("mesh-coord-relay")
}

fn default_for(program: &str) -> PathBuf {
    if geteuid().is_root() {
        return Path::new("/var/lib").join(program);
    }
    let variable = |name: &str| env::var_os(name).map(PathBuf::from);
    directory::user_state(variable("XDG_STATE_HOME"), variable("HOME"), program)
        .unwrap_or_else(|| Path::new(".").join(program))
}

/// The admin socket of a data directory.
///
/// # Errors
/// If its path is longer than the system allows.
pub(crate) fn socket_path(directory: &Path) -> Result<PathBuf> {
    let path = directory.join(SOCKET);
    directory::check_socket(&path).context("choose a shorter --data")?;
    Ok(path)
}

/// A data directory that this process holds. No other coordinator can open it until this is dropped.
#[derive(Debug)]
pub(crate) struct DataDirectory {
    path: PathBuf,
    read_only: bool,
    _lock: Flock<File>,
}

impl DataDirectory {
    /// Creates the directory if it doesn't exist (mode 0700), and holds it.
    ///
    /// A directory on a read-only disk can be held as well, if it was held before.
    ///
    /// # Errors
    /// If it can't be created or written, belongs to another user, or is held by another coordinator.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        socket_path(path)?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("the data directory {} cannot be made (choose another --data)", path.display()))?;
        keep_private(path)?;
        let lock = path.join(LOCK);
        let open =
            |options: &mut OpenOptions| options.custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC).open(&lock);
        let writable = open(OpenOptions::new().create(true).truncate(false).write(true).mode(0o600));
        let read_only = writable.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ReadOnlyFilesystem);
        let file = writable
            .or_else(
                |error| if read_only { open(OpenOptions::new().read(true)).map_err(|_| error) } else { Err(error) },
            )
            .with_context(|| {
                format!("{} cannot be written to (make it writable, or choose another --data)", path.display())
            })?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self { path: path.to_owned(), read_only, _lock: lock }),
            Err((_, nix::Error::EWOULDBLOCK)) => bail!(
                "another coordinator is running with the data directory {}: stop it first, or choose another --data",
                path.display()
            ),
            Err((_, error)) => Err(error).with_context(|| format!("{} cannot be locked", lock.display())),
        }
    }

    /// Whether its disk is read-only.
    pub(crate) const fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// The path of a file in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The path of the admin socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.path.join(SOCKET)
    }

    /// The secret in the file `name`. If the file doesn't exist, `make` makes the secret, which is written completely
    /// or not at all.
    ///
    /// # Errors
    /// If it can't be read, made or written.
    pub(crate) fn secret(
        &self,
        name: &str,
        make: impl FnOnce() -> Result<Zeroizing<String>>,
    ) -> Result<Zeroizing<String>> {
        let path = self.file(name);
        let mut text = Zeroizing::new(String::new());
        match File::open(&path) {
            Ok(mut file) => {
                file.read_to_string(&mut text).with_context(|| format!("{} cannot be read", path.display()))?;
                return Ok(text);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("{} cannot be opened", path.display())),
        }
        let secret = make()?;
        self.write(name, secret.as_bytes()).with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(secret)
    }

    /// Writes a file with mode 0600, completely or not at all.
    ///
    /// # Errors
    /// If the disk fails.
    pub(crate) fn write(&self, name: &str, contents: &[u8]) -> io::Result<()> {
        let new = self.file(&format!("{name}.new"));
        directory::write_new(&new, |file| file.write_all(contents))?;
        directory::put_in_place(&new, &self.file(name))
    }
}

/// Removes other users' access to the directory. A directory with other files is refused unchanged.
fn keep_private(path: &Path) -> Result<()> {
    let shown = path.display();
    let metadata = fs::metadata(path).with_context(|| format!("{shown} cannot be looked at"))?;
    ensure!(metadata.is_dir(), "{shown} is not a directory: choose another --data");
    let (owner, own) = (Uid::from_raw(metadata.uid()), geteuid());
    ensure!(
        owner == own,
        "the data directory {shown} belongs to user {owner}, and this is user {own}: choose another --data"
    );
    if !directory::is_open_to_others(&metadata) {
        return Ok(());
    }
    let empty = fs::read_dir(path).with_context(|| format!("{shown} cannot be read"))?.next().is_none();
    ensure!(
        empty || path.join(LOCK).exists(),
        "{shown} holds other files, and others may enter it: choose an empty directory as --data, or `chmod 700` it"
    );
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
        .with_context(|| format!("{shown} cannot be closed to others"))
}

/// A test's own directory, which is removed when this is dropped.
#[cfg(test)]
pub(crate) mod scratch {
    use std::{
        env, fs,
        path::{Path, PathBuf},
        process,
        sync::atomic::{AtomicU32, Ordering},
    };

    pub(crate) struct Scratch(PathBuf);

    impl Scratch {
        pub(crate) fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = env::temp_dir().join(format!("mesh-coord-test-{}-{n}", process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        pub(crate) fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{scratch::Scratch, *};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_new_directory_is_private_and_held_by_one() {
        let scratch = Scratch::new();
        let path = scratch.path().join("a/b");
        let held = DataDirectory::open(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
        let error = DataDirectory::open(&path).unwrap_err().to_string();
        assert!(error.contains("another coordinator is running") && error.contains("a/b"), "{error}");
        drop(held);
        DataDirectory::open(&path).unwrap();
    }

    #[test]
    fn a_directory_with_other_files_is_not_taken_over() {
        let scratch = Scratch::new();
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(scratch.path().join("thesis.txt"), "").unwrap();
        let error = DataDirectory::open(scratch.path()).unwrap_err().to_string();
        assert!(error.contains("holds other files"), "{error}");
        assert_eq!(mode(scratch.path()), 0o755);
    }

    #[test]
    fn a_secret_is_made_once_and_other_users_cannot_read_it() {
        let scratch = Scratch::new();
        let data = DataDirectory::open(scratch.path()).unwrap();
        let first = data.secret("key", || Ok(Zeroizing::new("one".to_owned()))).unwrap();
        let again = data.secret("key", || bail!("there is one")).unwrap();
        assert_eq!((&**first, &**again, mode(&data.file("key"))), ("one", "one", 0o600));
    }

    #[test]
    fn a_socket_path_that_is_too_long_is_refused() {
        let fits = format!("/{}", "d".repeat(directory::MAX_SOCKET_PATH - "//admin.sock".len()));
        assert_eq!(socket_path(Path::new(&fits)).unwrap().as_os_str().len(), directory::MAX_SOCKET_PATH);
        let error = format!("{:#}", socket_path(Path::new(&(fits + "d"))).unwrap_err());
        assert!(error.contains("is 108 bytes long") && error.contains("shorter --data"), "{error}");
    }
}
