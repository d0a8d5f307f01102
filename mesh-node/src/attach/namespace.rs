//! Handles to network namespaces.

use std::{
    fs::{self, OpenOptions},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use mesh_lifecycle::NamespaceId;

use super::{AttachError, error::At};
use crate::sys::netns;

/// An open network namespace. It keeps the namespace alive.
#[derive(Debug)]
pub(crate) struct Namespace {
    fd: OwnedFd,
    id: NamespaceId,
}

impl Namespace {
    /// Opens a namespace by its path, such as `/run/netns/NAME` or `/proc/PID/ns/net`.
    ///
    /// # Errors
    /// If it can't be opened, or is something else.
    pub(crate) fn open(path: &Path) -> Result<Self, AttachError> {
        // Non-blocking: opening a FIFO would block for ever.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
        let file = file.map_err(|source| AttachError::Open { path: path.to_owned(), source })?;
        Self::checked(file.into(), || path.display().to_string())
    }

    /// Uses a descriptor that another program opened.
    ///
    /// # Errors
    /// If it isn't that of a network namespace.
    pub(crate) fn from_fd(fd: OwnedFd) -> Result<Self, AttachError> {
        Self::checked(fd, || "the descriptor".to_owned())
    }

    /// The namespace of a process.
    ///
    /// # Errors
    /// If there is no such process, or it can't be inspected (that takes `CAP_SYS_PTRACE`, or the same user).
    pub(crate) fn of_pid(pid: u32) -> Result<Self, AttachError> {
        Self::open(Path::new(&format!("/proc/{pid}/ns/net")))
    }

    /// The agent's own namespace.
    ///
    /// # Errors
    /// Without `/proc`.
    pub(crate) fn host() -> Result<Self, AttachError> {
        Self::open(Path::new("/proc/self/ns/net"))
    }

    /// Finds a namespace that has a process or a name. `None` if it is gone or not visible.
    pub(crate) fn find(id: NamespaceId) -> Option<Self> {
        let named = entries("/run/netns").chain(entries("/run/docker/netns"));
        let mut paths = of_processes().chain(named);
        paths.find_map(|path| {
            let metadata = fs::metadata(&path).ok()?;
            // Checked again once it is open: a process can end, and another can get its number.
            (identity(&metadata) == id).then(|| Self::open(&path).ok())?.filter(|found| found.id == id)
        })
    }

    /// Whether a visible process is in that namespace.
    pub(crate) fn is_inhabited(id: NamespaceId) -> bool {
        of_processes().any(|path| fs::metadata(path).is_ok_and(|metadata| identity(&metadata) == id))
    }

    /// Its identity.
    pub(crate) const fn id(&self) -> NamespaceId {
        self.id
    }

    /// Whether it is the agent's own namespace, that of the machine's first process, or the kernel's first one.
    pub(crate) fn is_host(&self) -> bool {
        // `NET_NS_INIT_INO` of linux/nsfs.h, since 6.18. Before, no namespace had this number.
        const INITIAL: u64 = 0xefff_fff9;
        self.id.ino == INITIAL
            || ["/proc/self/ns/net", "/proc/1/ns/net"]
                .iter()
                .any(|path| fs::metadata(path).is_ok_and(|metadata| identity(&metadata) == self.id))
    }

    fn checked(fd: OwnedFd, what: impl Fn() -> String) -> Result<Self, AttachError> {
        match netns::is_network(&fd) {
            Ok(true) => {}
            Ok(false) => return Err(AttachError::NotANamespace { what: what() }),
            Err(source) => return Err(AttachError::Open { path: PathBuf::from(what()), source }),
        }
        let file = fs::File::from(fd);
        let metadata = file.metadata().map_err(|source| AttachError::Open { path: PathBuf::from(what()), source })?;
        Ok(Self { id: identity(&metadata), fd: file.into() })
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The staging namespace of the agent, where TUN devices are made before they are moved: a queue keeps the namespace
/// alive in which it was opened, which must not be an instance's.
#[derive(Debug)]
pub(crate) struct Staging {
    fd: OwnedFd,
}

impl Staging {
    /// Makes an empty namespace, which lives as long as this value and the queues that were opened in it.
    ///
    /// # Errors
    /// Without the right to make network namespaces.
    pub(crate) fn new() -> Result<Self, AttachError> {
        Ok(Self { fd: netns::make().at("making a network namespace for TUN devices")? })
    }
}

impl AsFd for Staging {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Runs `work` in a namespace, in a thread of its own.
pub(super) fn within<T: Send>(
    namespace: impl AsFd,
    work: impl FnOnce() -> Result<T, AttachError> + Send,
) -> Result<T, AttachError> {
    netns::within(namespace, work).at("entering the network namespace")?
}

/// The namespaces of all processes.
fn of_processes() -> impl Iterator<Item = PathBuf> {
    entries("/proc")
        .filter(|path| path.file_name().is_some_and(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit)))
        .map(|path| path.join("ns/net"))
}

fn entries(directory: &str) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn identity(metadata: &fs::Metadata) -> NamespaceId {
    NamespaceId { dev: metadata.dev(), ino: metadata.ino() }
}

/// The name of an interface, for an error.
pub(super) fn interface(index: u32) -> String {
    nix::net::if_::if_indextoname(index)
        .map_or_else(|_| format!("interface {index}"), |name| name.to_string_lossy().into_owned())
}
