//! Where a hosts file is. What a container's owner has put there is reached inside the container, and never through a symbolic
//! link.

use std::{
    fs::File,
    io,
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use mesh_proto::message::Refusal;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use serde::{Deserialize, Serialize};

use super::{
    HostsFile, Unkept,
    file::{FileId, barred, leased},
};
use crate::sys::borrow::Rights;

/// Where a hosts file was found, to find it again after a restart of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Place {
    /// By a path of the machine's.
    Path(PathBuf),
    /// `/etc/hosts` as this process sees it.
    Process(i32),
}

impl Place {
    /// Opens what is there as a mere reference (`O_PATH`, open(2)), which has no effect on it whatever it is.
    ///
    /// # Errors
    /// If nothing is there, or only a symbolic link.
    pub(crate) fn reach(&self) -> Result<OwnedFd, Refusal> {
        let (found, path) = match self {
            Self::Path(path) => (reach_path(path), path.display().to_string()),
            Self::Process(pid) => (reach_in_process(*pid), format!("/proc/{pid}/root/etc/hosts")),
        };
        found.map_err(|e| match e.raw_os_error() {
            Some(libc::ELOOP) => Refusal::new(
                format!("the hosts file {path} is reached by a symbolic link only, which could lead anywhere"),
                "give the file itself with --hosts FILE, or attach by --netns PATH, without a hosts file",
            ),
            _ => Refusal::new(
                format!("cannot open the hosts file {path}: {e}"),
                "give another one with --hosts FILE, or attach by --netns PATH, without a hosts file",
            ),
        })
    }

    /// Opens the hosts file there. One that a path leads to has been named by an operator or a runtime, and is opened with the
    /// rights of the agent. What a process has as its own has been put there by it, or by what made its mounts: it is looked for
    /// once more, and opened with the rights of that process, whatever the caller has found.
    ///
    /// # Errors
    /// If it is no hosts file, or not the process's to write.
    pub(crate) fn open(&self, found: &OwnedFd) -> Result<HostsFile, Unkept> {
        self.open_reached(found)?.ok_or_else(|| Unkept::Refused(leased(found)))
    }

    /// The same after a restart of the agent, or where the file has been replaced; `None` if another process holds a lease on it.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn open_again(&self) -> Result<Option<HostsFile>, Unkept> {
        self.open_reached(&self.reach().map_err(Unkept::Refused)?)
    }

    /// Whether another file is there by now; `None`: none is, or only what can't be reached.
    pub(crate) fn leads_elsewhere(&self, file: FileId) -> Option<bool> {
        let found = File::from(self.reach().ok()?);
        Some(FileId::of(&found.metadata().ok()?) != file)
    }

    fn open_reached(&self, found: &OwnedFd) -> Result<Option<HostsFile>, Unkept> {
        let Self::Process(pid) = self else { return HostsFile::open_unleased(found, None) };
        let rights = Rights::of(*pid).map_err(|e| {
            barred(
                Path::new(&format!("/proc/{pid}/root/etc/hosts")),
                &format!("whose process it is can't be seen: {e}"),
            )
        })?;
        let found = self.reach().map_err(Unkept::Refused)?;
        HostsFile::open_unleased(&found, Some(&rights))
    }
}

fn reach_path(path: &Path) -> io::Result<OwnedFd> {
    let file = File::options().read(true).custom_flags((OFlag::O_PATH | OFlag::O_NOFOLLOW).bits()).open(path)?;
    match file.metadata()?.is_symlink() {
        true => Err(io::Error::from_raw_os_error(libc::ELOOP)),
        false => Ok(file.into()),
    }
}

fn reach_in_process(pid: i32) -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let directory = (OFlag::O_PATH | OFlag::O_DIRECTORY).bits();
    let root = File::options().read(true).custom_flags(directory).open(format!("/proc/{pid}/root"))?;
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS);
    Ok(openat2(root, "etc/hosts", how)?)
}
