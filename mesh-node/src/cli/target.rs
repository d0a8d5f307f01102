//! What the commands open on the agent's behalf: namespaces, hosts files, processes. The agent checks what it is given.

use std::{
    fs::File,
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt as _},
    path::{Path, absolute},
};

use mesh_proto::message::Refusal;
use nix::fcntl::OFlag;

use crate::{
    attach::AttachError,
    hosts::Place,
    local::NamespacePlace,
    sys::{netns, process},
};

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
    // First hold on to the process: its number can't be given to another one then.
    let pidfd = process::pidfd(pid).map_err(refused)?;
    let namespace = open(Path::new(&format!("/proc/{pid}/ns/net"))).map_err(refused)?;
    Ok((NamespacePlace::Process(pid), namespace, pidfd))
}

/// A hosts file, and how the agent finds it again.
pub(crate) fn hosts(place: Place) -> Result<(Place, OwnedFd), Refusal> {
    let place = match place {
        Place::Path(path) => {
            Place::Path(absolute(&path).map_err(|e| Refusal::bare(format!("{}: {e}", path.display())))?)
        }
        by_process @ Place::Process(_) => by_process,
    };
    place.reach().map(|fd| (place, fd))
}

fn open(path: &Path) -> std::io::Result<OwnedFd> {
    // A FIFO of that name must not hold us up.
    let flags = (OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).bits();
    File::options().read(true).custom_flags(flags).open(path).map(Into::into)
}
