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

/// Where a hosts file was found, to find it again after a restart of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
