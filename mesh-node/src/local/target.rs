//! Opens what is passed to the agent beside a request: namespaces, hosts files, processes. The agent checks each again.

use std::{
    fs::File,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::OpenOptionsExt as _,
    },
    path::{Path, absolute},
};

use nix::{
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::{NamespacePlace, TargetError};
use crate::{
    hosts::{Place, Reach as _},
    sys::{netns, process},
};

/// A namespace, and how the agent finds it again.
///
/// # Errors
/// If the path can't be opened or leads to something else.
pub(crate) fn namespace(path: &Path) -> Result<(NamespacePlace, OwnedFd), TargetError> {
    let place = absolute(path).map_err(|error| TargetError::Path { path: path.to_owned(), error })?;
    let fd = open(path).map_err(|error| TargetError::Namespace { path: path.to_owned(), error })?;
    // The agent checks too, but doesn't know the path.
    if netns::is_network(&fd).is_ok_and(|is_network| !is_network) {
        return Err(TargetError::NotANamespace { path: path.to_owned() });
    }
    Ok((NamespacePlace::Path(place), fd))
}

/// A process: how the agent finds its namespace again, the namespace, and a pidfd.
///
/// # Errors
/// If the process has ended or can't be opened.
pub(crate) fn process(pid: i32) -> Result<(NamespacePlace, OwnedFd, OwnedFd), TargetError> {
    let refused = |error: std::io::Error| TargetError::Process { pid, error };
    let pidfd = process::pidfd(pid).map_err(refused)?;
    let namespace = open(Path::new(&format!("/proc/{pid}/ns/net"))).map_err(refused)?;
    // A pidfd doesn't reserve the number. That the process still runs shows that /proc/PID was its own when it was opened.
    let mut end = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    if poll(&mut end, PollTimeout::ZERO).map_err(|e| refused(e.into()))? > 0 {
        return Err(refused(std::io::Error::other("it has just ended")));
    }
    Ok((NamespacePlace::Process(pid), namespace, pidfd))
}

/// A hosts file, and how the agent finds it again.
///
/// # Errors
/// If it can't be opened.
pub(crate) fn hosts(place: Place) -> Result<(Place, OwnedFd), TargetError> {
    let place = match place {
        Place::Path(path) => match absolute(&path) {
            Ok(path) => Place::of(path),
            Err(error) => return Err(TargetError::Path { path, error }),
        },
        by_process @ (Place::Process(_) | Place::Runtime(..) | Place::Resolv(_)) => by_process,
    };
    place.reach().map(|fd| (place, fd)).map_err(TargetError::Hosts)
}

/// A resolv.conf, and how the agent finds it again.
///
/// # Errors
/// If it can't be opened.
pub(crate) fn resolv(place: Place) -> Result<(Place, OwnedFd), TargetError> {
    let place = match place {
        Place::Path(path) => Place::Path(absolute(&path).map_err(|error| TargetError::Path { path, error })?),
        by_process => by_process,
    };
    let at = Place::Resolv(Box::new(place.clone()));
    at.reach().map(|fd| (place, fd)).map_err(TargetError::Hosts)
}

fn open(path: &Path) -> std::io::Result<OwnedFd> {
    // A FIFO of that name must not block.
    let flags = (OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).bits();
    File::options().read(true).custom_flags(flags).open(path).map(Into::into)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_that_has_ended_is_not_opened() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = child.id().cast_signed();
        let (place, namespace, _) = process(pid).unwrap();
        assert!(matches!(place, NamespacePlace::Process(of) if of == pid));
        assert!(netns::is_network(&namespace).unwrap());
        drop(child.stdin.take());
        let pidfd = process::pidfd(pid).unwrap();
        poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE).unwrap();
        // A zombie: it has ended and nothing has waited for it.
        assert!(matches!(process(pid), Err(TargetError::Process { pid: of, .. }) if of == pid));
        child.wait().unwrap();
        assert!(process(pid).is_err());
    }
}
