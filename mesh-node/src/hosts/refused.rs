//! Why a file is not kept, in words.

use std::{
    fs,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use mesh_lifecycle::FileKind;
use mesh_proto::message::Refusal;

/// Why a hosts file is not kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unkept {
    /// It is no hosts file, so that the request is refused.
    Refused(Refusal),
    /// Its process could not write it: the instance gets no names there.
    Barred(Refusal),
}

impl Unkept {
    /// The problem.
    pub(crate) fn refusal(self) -> Refusal {
        match self {
            Self::Refused(refusal) | Self::Barred(refusal) => refusal,
        }
    }
}

/// Another process holds a lease on it.
pub(super) fn leased(found: &OwnedFd, kind: FileKind) -> Refusal {
    let name = fs::read_link(reference(found)).unwrap_or_default();
    Refusal::new(
        format!("the {} {} can't be had at present: another process holds a lease on it", kind.name(), name.display()),
        format!("try again in a minute, or attach by --netns PATH, without a {}", kind.name()),
    )
}

pub(super) fn refusal(name: &Path, kind: FileKind, why: &str) -> Refusal {
    Refusal::new(format!("the {} {} is refused: {why}", kind.name(), name.display()), elsewhere(kind))
}

/// What to do without this file.
pub(super) fn elsewhere(kind: FileKind) -> String {
    format!("give another one with {}, or attach by --netns PATH, without a {}", kind.option(), kind.name())
}

/// The file of a process that has no right to write it.
pub(super) fn barred(name: &Path, kind: FileKind, why: &str) -> Unkept {
    let what = match kind {
        FileKind::Hosts => "no names are",
        FileKind::Resolv => "no resolver is",
    };
    Unkept::Barred(Refusal::new(
        format!("{what} kept in the {} {}: {why}", kind.name(), name.display()),
        format!("give a file to keep them in with {}, if it is to be written nevertheless", kind.option()),
    ))
}

/// A path that leads to exactly this file, as long as this process holds it.
pub(super) fn reference(fd: &impl AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}
