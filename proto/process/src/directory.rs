//! A program's private directory: its place, and files in it that are always complete.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

/// The longest path of a Unix socket, in bytes: `sun_path` without the final NUL (unix(7)).
pub const MAX_SOCKET_PATH: usize = 107;

/// The path of a socket is longer than the system accepts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the path of the socket, {path}, is {length} bytes long, and the system accepts {MAX_SOCKET_PATH}", path = path.display())]
pub struct SocketPathTooLong {
    /// The path.
    pub path: PathBuf,
    /// Its length in bytes.
    pub length: usize,
}

/// Checks that a Unix socket can have this path.
///
/// # Errors
/// If it is too long.
pub fn check_socket(path: &Path) -> Result<(), SocketPathTooLong> {
    match path.as_os_str().as_bytes().len() {
        0..=MAX_SOCKET_PATH => Ok(()),
        length => Err(SocketPathTooLong { path: path.to_owned(), length }),
    }
}

/// A user's state directory for `program`: in `$XDG_STATE_HOME`, by default `~/.local/state` (XDG Base Directory
/// Specification 0.8). `None` without a home directory.
#[must_use]
pub fn user_state(xdg: Option<PathBuf>, home: Option<PathBuf>, program: &str) -> Option<PathBuf> {
    xdg.filter(|path| path.is_absolute())
        .or_else(|| home.filter(|home| home.is_absolute()).map(|home| home.join(".local/state")))
        .map(|base| base.join(program))
}

/// Whether users other than the owner can enter a directory.
#[must_use]
pub fn is_open_to_others(metadata: &fs::Metadata) -> bool {
    metadata.mode() & 0o077 != 0
}

/// Writes a new file of mode 0600 and waits until it is on disk. An older file with this name, as left by a crash, is
/// removed first. An incomplete file is removed again, so that it doesn't fill the disk.
///
/// # Errors
/// If it can't be written.
pub fn write_new(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    let written = write(&mut file).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written
}

/// Renames a file of [`write_new`] to its final name in the same directory, and waits until that is on disk. After a
/// crash, either the old or the new content is there completely.
///
/// # Errors
/// If it can't be renamed.
pub fn put_in_place(new: &Path, path: &Path) -> io::Result<()> {
    fs::rename(new, path)?;
    sync(path.parent().unwrap_or(Path::new("/")))
}

/// Waits until the entries of a directory are on disk.
///
/// # Errors
/// If the disk fails.
pub fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::{env, io::Write as _, process};

    use super::*;

    #[test]
    fn a_file_is_private_and_replaced_completely_or_not_at_all() {
        let directory = env::temp_dir().join(format!("mesh-process-directory-{}", process::id()));
        fs::create_dir(&directory).unwrap();
        let (new, path) = (directory.join("x.new"), directory.join("x"));
        fs::write(&new, "left by a crash").unwrap();
        write_new(&new, |file| file.write_all(b"one")).unwrap();
        put_in_place(&new, &path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        write_new(&new, |_| Err(io::ErrorKind::StorageFull.into())).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "nothing is left beside it");
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_users_state_is_where_xdg_says() {
        let at = |xdg: Option<&str>, home: Option<&str>| user_state(xdg.map(Into::into), home.map(Into::into), "p");
        assert_eq!(at(Some("/s"), Some("/h")), Some("/s/p".into()));
        assert_eq!(at(None, Some("/h")), Some("/h/.local/state/p".into()));
        assert_eq!(at(Some("relative"), Some("/h")), Some("/h/.local/state/p".into()));
        assert_eq!(at(None, None), None);
    }

    #[test]
    fn a_socket_path_has_a_limit() {
        let fits = format!("/{}", "x".repeat(MAX_SOCKET_PATH - 1));
        check_socket(Path::new(&fits)).unwrap();
        let error = check_socket(Path::new(&(fits + "x"))).unwrap_err();
        assert!(error.to_string().contains("108 bytes"), "{error}");
    }
}
