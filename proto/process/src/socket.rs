//! Unix sockets for root and one user.

use std::{
    fs, io,
    os::unix::{fs::PermissionsExt as _, net::UnixListener},
    path::Path,
};

use nix::unistd::geteuid;

/// Binds a socket of mode 0600. An existing socket is replaced, because the caller's lock shows that its program has
/// ended.
///
/// # Errors
/// If it can't be replaced or bound.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Whether a process of this user may be trusted at the other end of a socket (`SO_PEERCRED`, unix(7)): root, or this
/// process's user.
#[must_use]
pub fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_the_own_user_are_trusted() {
        let own = geteuid().as_raw();
        assert!(is_trusted(0) && is_trusted(own) && !is_trusted(own + 1));
    }
}
