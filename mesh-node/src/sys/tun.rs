//! TUN devices (linux/if_tun.h, drivers/net/tun.c), single queue, with `virtio_net_hdr` before every packet.
#![allow(unsafe_code, reason = "the TUN interface is made of ioctls")]

use std::{
    fs::OpenOptions,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        raw::{c_int, c_ulong},
        unix::fs::OpenOptionsExt,
    },
};

/// The device that creates TUN devices.
pub(crate) const DEVICE: &str = "/dev/net/tun";

/// The values for `TUNSETOFFLOAD`, best first. The kernel refuses a set with an unknown bit.
const OFFLOADS: [u32; 3] =
    [libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6, libc::TUN_F_CSUM | libc::TUN_F_TSO4, 0];

/// The length of `struct virtio_net_hdr` in bytes, without mergeable buffers. A persistent device may have another.
const VNET_HEADER: c_int = 10;

/// A queue of a TUN device. Closing it deletes the device, unless that is persistent.
#[derive(Debug)]
pub(crate) struct Tun(OwnedFd);

impl Tun {
    /// Makes the device `name` in the calling thread's namespace, or attaches to the persistent one of that name. The
    /// queue is non-blocking.
    ///
    /// # Errors
    /// `NotFound` without [`DEVICE`]; `EBUSY` if another process holds the device's queue; `EPERM` without
    /// `CAP_NET_ADMIN`; `EINVAL` if a device of that name is of another kind.
    pub(crate) fn open(name: &str) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(DEVICE)?;
        // SAFETY: an `ifreq` of zeros is a valid one, with an empty name.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        // The last byte stays zero.
        if name.len() >= request.ifr_name.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
        // SAFETY: TUNSETIFF reads and writes one `ifreq`, which outlives the call.
        check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
        // SAFETY: TUNSETVNETHDRSZ reads one int, which outlives the call.
        check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETVNETHDRSZ, &VNET_HEADER) })?;
        Ok(Self(file.into()))
    }

    /// Sets the owner of the device, so that a process without `CAP_NET_ADMIN` can't attach to it.
    ///
    /// # Errors
    /// `EINVAL` if this user namespace has no such user.
    pub(crate) fn set_owner(&self, uid: u32) -> io::Result<()> {
        self.ioctl(libc::TUNSETOWNER, c_ulong::from(uid))
    }

    /// Sets whether the device outlives its queue.
    ///
    /// # Errors
    /// `EBADFD` if the device is gone.
    pub(crate) fn set_persistent(&self, persistent: bool) -> io::Result<()> {
        self.ioctl(libc::TUNSETPERSIST, persistent.into())
    }

    /// The queue.
    pub(crate) fn into_queue(self) -> OwnedFd {
        self.0
    }

    fn ioctl(&self, request: libc::Ioctl, argument: c_ulong) -> io::Result<()> {
        // SAFETY: these requests take a number, not a pointer.
        check(unsafe { libc::ioctl(self.0.as_raw_fd(), request, argument) })
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Enables or disables TCP super-packets and partial checksums on a queue. Returns whether they are enabled; an old
/// kernel may enable fewer than requested.
///
/// # Errors
/// `EBADFD` if the device is gone.
pub(crate) fn set_offloads(queue: impl AsFd, on: bool) -> io::Result<bool> {
    let mut refused = None;
    for &offloads in if on { &OFFLOADS[..] } else { &[0] } {
        // SAFETY: TUNSETOFFLOAD takes a number, not a pointer.
        let result = unsafe { libc::ioctl(queue.as_fd().as_raw_fd(), libc::TUNSETOFFLOAD, c_ulong::from(offloads)) };
        match check(result) {
            Ok(()) => return Ok(offloads != 0),
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.unwrap_or_else(|| io::ErrorKind::Unsupported.into()))
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
