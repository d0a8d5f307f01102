//! A second place for the agent's socket, for a state directory that takes no socket: mounted read-only, or without a free inode.

use std::{
    env, fs, io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use super::StateDir;

/// The directory of root's second places. Each is named after its state directory.
const SYSTEM: &str = "/run/mesh-node";

impl StateDir {
    /// The second place; `None` without a runtime directory or without a state directory.
    pub(crate) fn spare_socket(&self) -> Option<PathBuf> {
        let state = fs::metadata(&self.path).ok()?;
        Some(directory()?.join(format!("{:x}-{:x}.sock", state.dev(), state.ino())))
    }
}

fn directory() -> Option<PathBuf> {
    if nix::unistd::geteuid().is_root() {
        return Some(SYSTEM.into());
    }
    let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)?;
    runtime.is_absolute().then(|| runtime.join("mesh-node"))
}

/// Makes the directory of a second place, for its owner only.
///
/// # Errors
/// If it can't be made, belongs to another user or is open to others.
pub(crate) fn make_room(socket: &Path) -> io::Result<()> {
    let directory = socket.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let metadata = fs::symlink_metadata(directory)?;
    let own = metadata.is_dir() && metadata.uid() == nix::unistd::geteuid().as_raw() && metadata.mode() & 0o022 == 0;
    if own { Ok(()) } else { Err(io::Error::other(format!("{} is open to others", directory.display()))) }
}
