//! Opens what is passed to the agent beside a request: namespaces, hosts files, processes. The agent checks each again.

use std::{
    fs::File,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::OpenOptionsExt as _,
    },
    path::{Path, absolute},
};

use mesh_proto::message::Refusal;
use nix::{
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::NamespacePlace;
use crate::{
    attach::AttachError,
    hosts::Place,
    sys::{netns, process},
};

/// The number of a process, as it was typed.
pub(crate) fn parse_pid(text: &str) -> Result<i32, String> {
    text.parse().ok().filter(|pid| *pid > 0).ok_or_else(|| {
        "expected the number of a process, such as 4711; a container's first one: docker inspect -f '{{.State.Pid}}' NAME".to_owned()
    })
}

/// A namespace, and how the agent finds it again.
pub(crate) fn namespace(path: &Path) -> Result<(NamespacePlace, OwnedFd), Refusal> {
    let place = absolute(path).map_err(|e| Refusal::bare(format!("{}: {e}", path.display())))?;
    let fd = open(path).map_err(|e| {
        Refusal::new(
            format!("cannot open the network namespace {}: {e}", path.display()),
            "is it there? `ip netns list` names those under /run/netns; a process has one at /proc/PID/ns/net",
        )
    })?;
    // The agent looks as well, but knows no path.
    if netns::is_network(&fd).is_ok_and(|is_network| !is_network) {
        return Err(Refusal::bare(AttachError::NotANamespace { what: path.display().to_string() }.to_string()));
    }
    Ok((NamespacePlace::Path(place), fd))
}

/// A process: its namespace, and what shows its end.
pub(crate) fn process(pid: i32) -> Result<(NamespacePlace, OwnedFd, OwnedFd), Refusal> {
    let refused = |e: std::io::Error| {
        Refusal::new(format!("cannot open process {pid}: {e}"), "is it running, and yours to look at?")
    };
    let pidfd = process::pidfd(pid).map_err(refused)?;
    let namespace = open(Path::new(&format!("/proc/{pid}/ns/net"))).map_err(refused)?;
    // To hold on to a process doesn't keep its number from being given to another one when it ends. That it still runs shows
    // that the number was its own all the while.
    let mut end = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    if poll(&mut end, PollTimeout::ZERO).map_err(|e| refused(e.into()))? > 0 {
        return Err(refused(std::io::Error::other("it has just ended")));
    }
    Ok((NamespacePlace::Process(pid), namespace, pidfd))
}

/// A hosts file, and how the agent finds it again.
pub(crate) fn hosts(place: Place) -> Result<(Place, OwnedFd), Refusal> {
    let place = match place {
        Place::Path(path) => Place::of(absolute(&path).map_err(|e| Refusal::bare(format!("{}: {e}", path.display())))?),
        by_process @ (Place::Process(_) | Place::Runtime(..)) => by_process,
    };
    place.reach().map(|fd| (place, fd))
}

fn open(path: &Path) -> std::io::Result<OwnedFd> {
    // A FIFO of that name must not hold us up.
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
        // It has ended, and until it is waited for its number stays.
        assert!(process(pid).unwrap_err().error.contains(&format!("cannot open process {pid}")));
        child.wait().unwrap();
        assert!(process(pid).is_err());
    }
}
