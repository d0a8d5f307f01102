//! Files that stand in the place of others in the command's mount namespace.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use nix::mount::{MsFlags, mount};

/// Mounts a file with this text over another one, in this mount namespace.
pub(super) fn stand_in(text: &[u8], at: &Path) -> io::Result<()> {
    let copy = std::env::temp_dir().join(format!("mesh-node-hosts-{:016x}", getrandom::u64()?));
    let mut file = fs::File::options().write(true).create_new(true).mode(0o644).open(&copy)?;
    let _gone = Removed(copy.clone());
    file.write_all(text)?;
    mount(Some(&copy), at, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    Ok(())
}

/// Removes the name of a mounted file: the mount keeps the file.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
