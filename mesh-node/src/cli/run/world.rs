//! The world that the command sees: a network namespace with lo and mesh0, and a hosts file of its own.

use std::{
    fs,
    io::{self, Write as _},
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use mesh_proto::message::Refusal;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    unistd::{getegid, geteuid},
};

use super::{super::output::note, daemons};
use crate::{
    hosts::Place,
    local::{NamespacePlace, target},
    sys::process::{self, Capability},
};

/// What the agent has to know of it.
#[derive(Debug)]
pub(super) struct World {
    pub(super) place: NamespacePlace,
    pub(super) namespace: OwnedFd,
    pub(super) hosts: Option<(Place, OwnedFd)>,
    pub(super) process: OwnedFd,
}

impl World {
    /// Enters a world: that of `netns`, or a new one.
    pub(super) fn enter(netns: Option<&Path>) -> Result<Self, Refusal> {
        enter(netns)?;
        let pid = nix::unistd::getpid().as_raw();
        let hosts = match own_hosts() {
            Ok(()) => Some(target::hosts(Place::Process(pid))?),
            Err(e) => {
                note(&format!("warning: there is no hosts file to put names in, only variables: {e}"));
                None
            }
        };
        if let Err(e) = daemons::hide() {
            note(&format!(
                "warning: names may be answered by a daemon of the machine, which doesn't know those of the mesh: {e}"
            ));
        }
        // Found again, by a restarted agent, as long as we run: by us.
        let (place, namespace, process) = target::process(pid)?;
        Ok(Self { place, namespace, hosts, process })
    }
}

fn enter(netns: Option<&Path>) -> Result<(), Refusal> {
    let root = geteuid().is_root();
    let refused = |what: &str, e: nix::Error| {
        let hint = if root {
            "in a container that takes CAP_SYS_ADMIN"
        } else {
            "be root, or allow user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, \
             kernel.apparmor_restrict_unprivileged_userns)"
        };
        Refusal::new(format!("{what}: {e}"), hint)
    };
    let mut flags = CloneFlags::CLONE_NEWNS;
    match netns {
        Some(path) => {
            let (_, fd) = target::namespace(path)?;
            setns(fd, CloneFlags::CLONE_NEWNET)
                .map_err(|e| refused(&format!("cannot enter the network namespace {}", path.display()), e))?;
        }
        None => flags |= CloneFlags::CLONE_NEWNET,
    }
    let (uid, gid) = (geteuid(), getegid());
    if !root {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    unshare(flags).map_err(|e| refused("cannot make namespaces", e))?;
    if !root {
        // user_namespaces(7): without privileges one may map oneself only, and has to give up setgroups(2) first.
        let maps =
            [("setgroups", "deny".to_owned()), ("uid_map", format!("0 {uid} 1")), ("gid_map", format!("0 {gid} 1"))];
        for (file, text) in maps {
            fs::write(format!("/proc/self/{file}"), text)
                .map_err(|e| Refusal::bare(format!("cannot set up the user namespace ({file}): {e}")))?;
        }
    }
    // What we mount is ours alone.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .map_err(|e| refused("cannot make the mounts private", e))
}

/// Puts a copy of the machine's hosts file in its place, for this mount namespace.
fn own_hosts() -> io::Result<()> {
    const HOSTS: &str = "/etc/hosts";
    let before = fs::read(HOSTS)?;
    stand_in(&before, Path::new(HOSTS))
}

/// Has a file with this text stand in for another one, for this mount namespace.
pub(super) fn stand_in(text: &[u8], at: &Path) -> io::Result<()> {
    let copy = std::env::temp_dir().join(format!("mesh-node-hosts-{:016x}", getrandom::u64()?));
    let mut file = fs::File::options().write(true).create_new(true).mode(0o644).open(&copy)?;
    let _gone = Removed(copy.clone());
    file.write_all(text)?;
    mount(Some(&copy), at, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    Ok(())
}

/// The mount keeps the file; its name isn't needed.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Takes from the command what it could change its network with. Where that isn't possible (no `CAP_SETPCAP`), the command
/// has no such rights either.
pub(super) fn drop_capabilities() {
    for capability in [Capability::NetAdmin, Capability::SysAdmin] {
        if let Err(error) = process::deny_children(capability) {
            note(&format!("warning: the command keeps {capability:?}: {error}"));
        }
    }
}
