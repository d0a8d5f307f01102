//! Network namespaces (network_namespaces(7), ioctl_nsfs(2)): recognizes their descriptors, makes one, and works in
//! one.
#![allow(unsafe_code, reason = "NS_GET_NSTYPE and the number of a message's namespace have no safe wrapper")]

use std::{
    fs::File,
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    panic, thread,
};

use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::statfs::{NSFS_MAGIC, fstatfs},
};
use rtnetlink::sys::Socket;
use tokio::io::{Interest, unix::AsyncFd};

/// Whether a descriptor is that of a network namespace.
///
/// # Errors
/// The error of fstatfs(2) or ioctl(2).
pub(crate) fn is_network(fd: impl AsFd) -> io::Result<bool> {
    // Other file systems and devices may use the ioctl's number for something else.
    if fstatfs(&fd)?.filesystem_type() != NSFS_MAGIC {
        return Ok(false);
    }
    // SAFETY: NS_GET_NSTYPE takes no argument, and the descriptor is one of nsfs.
    let kind = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), nix::request_code_none!(0xb7, 0x3)) };
    if kind < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(kind == libc::CLONE_NEWNET)
}

/// Runs `work` in a namespace, in a thread of its own: no other thread enters it. The descriptors that the thread opens
/// stay in the namespace.
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

/// A netlink socket for tokio.
#[derive(Debug)]
pub(crate) struct Ear(AsyncFd<Socket>);

impl Ear {
    /// Within a tokio runtime.
    ///
    /// # Errors
    /// If the socket can't be waited for.
    pub(crate) fn new(socket: Socket) -> io::Result<Self> {
        // SAFETY: the `AsyncFd` owns the socket, which owns the descriptor and never gives it away.
        let registered = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
        registered.map(Self).map_err(|e| e.into_parts().1)
    }

    /// Waits for the next message, and returns the number of its namespace; `None`: the socket's own.
    ///
    /// # Errors
    /// The error of recvmsg(2); `ENOBUFS`: messages were lost.
    pub(crate) async fn sender(&self) -> io::Result<Option<i32>> {
        loop {
            let mut ready = self.0.readable().await?;
            if let Ok(result) = ready.try_io(|socket| sender(socket.get_ref())) {
                return result;
            }
        }
    }
}

/// Takes one message from a netlink socket that listens to all namespaces, and returns the number of its namespace;
/// `None`: the socket's own. The content isn't read.
///
/// # Errors
/// The error of recvmsg(2); `ENOBUFS`: messages were lost.
#[allow(clippy::unnecessary_cast, reason = "with musl, cmsg_len is a socklen_t")]
fn sender(socket: &impl AsRawFd) -> io::Result<Option<i32>> {
    // Aligned for a `cmsghdr`, and with room for more than one with an int.
    let (mut control, mut byte) = (MaybeUninit::<[u64; 8]>::zeroed(), 0_u8);
    let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // SAFETY: all zeroes is a valid `msghdr`.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    (header.msg_iov, header.msg_iovlen) = (&raw mut part, 1);
    (header.msg_control, header.msg_controllen) = (control.as_mut_ptr().cast(), size_of_val(&control) as _);
    // SAFETY: the header describes the buffers above, which outlive the call. A longer message is truncated.
    let received =
        unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_TRUNC | libc::MSG_CMSG_CLOEXEC) };
    if received < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has filled in the header; each `cmsghdr` is within `control`, which is aligned for it, and
    // only data of the type int is read as one.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(&raw const header);
        while !next.is_null() {
            let found = &*next;
            let holds_int = found.cmsg_len as usize >= libc::CMSG_LEN(size_of::<i32>() as u32) as usize;
            if holds_int && (found.cmsg_level, found.cmsg_type) == (libc::SOL_NETLINK, libc::NETLINK_LISTEN_ALL_NSID) {
                return Ok(Some(libc::CMSG_DATA(next).cast::<i32>().read_unaligned()));
            }
            next = libc::CMSG_NXTHDR(&raw const header, next);
        }
    }
    Ok(None)
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
