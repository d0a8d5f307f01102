//! The command's world: a network namespace with lo and mesh0, and its own hosts file.

use std::{fs, io, os::fd::OwnedFd, path::Path};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    unistd::{getegid, geteuid},
};

use super::{super::output::note, RunError, daemons, stand_in::stand_in};
use crate::{
    hosts::Place,
    local::{NamespacePlace, target},
    sys::process::{self, Capability},
};

/// What the agent needs for an instance in it.
#[derive(Debug)]
pub(super) struct World {
    pub(super) place: NamespacePlace,
    pub(super) namespace: OwnedFd,
    pub(super) hosts: Option<(Place, OwnedFd)>,
    pub(super) process: OwnedFd,
}

impl World {
    /// Enters the network namespace `netns` or a new one, with new mounts.
    pub(super) fn enter(netns: Option<&Path>) -> Result<Self, RunError> {
        enter(netns)?;
        let pid = nix::unistd::getpid().as_raw();
        let hosts = match own_hosts() {
            Ok(()) => Some(target::hosts(Place::Process(pid))?),
            Err(e) => {
                note(&format!(
                    "warning: the command gets variables but no host names, because it has no hosts file: {e}"
                ));
                None
            }
        };
        if let Err(e) = daemons::hide() {
            note(&format!(
                "warning: a name service of the machine may answer first, and it doesn't know the mesh's names: {e}"
            ));
        }
        // A restarted agent finds the namespace through this process, which runs as long as the command.
        let (place, namespace, process) = target::process(pid)?;
        Ok(Self { place, namespace, hosts, process })
    }
}

fn enter(netns: Option<&Path>) -> Result<(), RunError> {
    let root = geteuid().is_root();
    let mut flags = CloneFlags::CLONE_NEWNS;
    match netns {
        Some(path) => {
            let (_, fd) = target::namespace(path)?;
            setns(fd, CloneFlags::CLONE_NEWNET).map_err(|error| RunError::Enter { path: path.to_owned(), error })?;
        }
        None => flags |= CloneFlags::CLONE_NEWNET,
    }
    let (uid, gid) = (geteuid(), getegid());
    if !root {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    unshare(flags).map_err(RunError::Namespaces)?;
    if !root {
        // user_namespaces(7): an unprivileged process may map only itself, after it has given up setgroups(2).
        let maps =
            [("setgroups", "deny".to_owned()), ("uid_map", format!("0 {uid} 1")), ("gid_map", format!("0 {gid} 1"))];
        for (file, text) in maps {
            fs::write(format!("/proc/self/{file}"), text).map_err(|error| RunError::UserNamespace { file, error })?;
        }
    }
    // Later mounts stay in this namespace.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .map_err(RunError::Mounts)
}

/// Mounts a copy of the machine's hosts file over it, in this mount namespace.
fn own_hosts() -> io::Result<()> {
    const HOSTS: &str = "/etc/hosts";
    let before = fs::read(HOSTS)?;
    stand_in(&before, Path::new(HOSTS))
}

/// Drops the capabilities with which the command could change its network. Without `CAP_SETPCAP` this fails, and the command has
/// none of them either.
pub(super) fn drop_capabilities() {
    for capability in [Capability::NetAdmin, Capability::SysAdmin] {
        if let Err(error) = process::deny_children(capability) {
            note(&format!("warning: the command keeps {capability:?}: {error}"));
        }
    }
}
