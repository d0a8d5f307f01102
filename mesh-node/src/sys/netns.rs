//! Network namespaces (network_namespaces(7), ioctl_nsfs(2)): what a descriptor is, making one, and working in one.
#![allow(unsafe_code, reason = "NS_GET_NSTYPE has no safe wrapper")]

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    panic, thread,
};

use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::statfs::{NSFS_MAGIC, fstatfs},
};

/// Whether the descriptor is that of a network namespace.
///
/// # Errors
/// What fstatfs(2) and ioctl(2) say.
pub(crate) fn is_network(fd: impl AsFd) -> io::Result<bool> {
    // Other file systems and devices may give the ioctl's number another meaning.
    if fstatfs(&fd)?.filesystem_type() != NSFS_MAGIC {
        return Ok(false);
    }
    // SAFETY: NS_GET_NSTYPE takes no argument, and nsfs gives it this meaning.
    let kind = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), nix::request_code_none!(0xb7, 0x3)) };
    if kind < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(kind == libc::CLONE_NEWNET)
}

/// Runs `work` in a namespace, in a thread of its own, which is the only thing that ever enters it. What the thread
/// opens there stays there.
///
/// # Errors
/// If the thread can't be started or may not enter: setns(2).
pub(crate) fn within<T: Send>(namespace: impl AsFd, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let namespace = namespace.as_fd();
    in_thread(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        Ok(work())
    })
}

/// Makes an empty namespace.
///
/// # Errors
/// Without `CAP_SYS_ADMIN`, or if there are too many: unshare(2).
pub(crate) fn make() -> io::Result<OwnedFd> {
    in_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        Ok(File::open("/proc/thread-self/ns/net")?.into())
    })
}

fn in_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("netns".into()).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|panicked| panic::resume_unwind(panicked))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_network_namespaces_are_network_namespaces() {
        assert!(is_network(File::open("/proc/self/ns/net").unwrap()).unwrap());
        for other in ["/proc/self/ns/mnt", "/dev/null", "/proc/self/status", "/"] {
            assert!(!is_network(File::open(other).unwrap()).unwrap(), "{other}");
        }
    }

    #[test]
    fn work_in_a_namespace_leaves_the_caller_where_it_was() {
        let links = || nix::net::if_::if_nameindex().unwrap().iter().count();
        let before = links();
        let namespace = make().expect("network namespaces can't be made here: run the tests as root");
        assert_eq!(within(&namespace, links).unwrap(), 1, "more than lo in a new namespace");
        assert_eq!(links(), before);
    }
}
