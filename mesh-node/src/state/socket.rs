//! A second place for the agent's socket: where the state directory takes none (mounted read-only, no inode left).

use std::{
    env, fs, io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use super::StateDir;

/// Where root's agents have it; below is a name for each state directory.
const SYSTEM: &str = "/run/mesh-node";

impl StateDir {
    /// The second place; `None` if there is no directory for such things, or no state directory.
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
/// If it can't be made, or is another user's or open to others.
pub(crate) fn make_room(socket: &Path) -> io::Result<()> {
    let directory = socket.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let metadata = fs::symlink_metadata(directory)?;
    let own = metadata.is_dir() && metadata.uid() == nix::unistd::geteuid().as_raw() && metadata.mode() & 0o022 == 0;
    if own { Ok(()) } else { Err(io::Error::other(format!("{} is open to others", directory.display()))) }
}
