//! tcp(7).
#![allow(unsafe_code, reason = "TCP_NOTSENT_LOWAT has no safe wrapper")]

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _},
};

/// Lets at most this many bytes wait in a connection that aren't sent yet: beyond that it takes nothing.
///
/// # Errors
/// The error of setsockopt(2).
pub(crate) fn limit_unsent(fd: impl AsFd, bytes: u32) -> io::Result<()> {
    let size = libc::socklen_t::try_from(size_of::<u32>()).map_err(io::Error::other)?;
    // SAFETY: the option is an int, of which `size` bytes are read.
    let result = unsafe {
        libc::setsockopt(
            fd.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NOTSENT_LOWAT,
            (&raw const bytes).cast(),
            size,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
