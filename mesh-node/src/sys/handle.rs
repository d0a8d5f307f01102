//! Files by their handles, which outlast descriptors and names: name_to_handle_at(2).
#![allow(unsafe_code, reason = "name_to_handle_at(2) and open_by_handle_at(2) have no safe wrapper in nix")]

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd},
};

use nix::libc;
use serde::{Deserialize, Serialize};

/// The most bytes that a handle has (`MAX_HANDLE_SZ`, linux/fcntl.h).
const MOST: usize = 128;

/// The handle of a file. The file system never gives it to another file: it holds the inode's generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Handle {
    kind: i32,
    bytes: Vec<u8>,
}

/// `struct file_handle`, with room for the longest one.
#[repr(C)]
struct Raw {
    size: u32,
    kind: i32,
    bytes: [u8; MOST],
}

impl Handle {
    /// The handle of an open file.
    ///
    /// # Errors
    /// If its file system has none.
    pub(crate) fn of(file: impl AsFd) -> io::Result<Self> {
        let mut raw = Raw { size: MOST as u32, kind: 0, bytes: [0; MOST] };
        let mut mount = 0;
        // SAFETY: the path is empty and ends with a NUL; the other pointers are to live values, of which the first has
        // the room that it declares.
        let result = unsafe {
            libc::syscall(
                libc::SYS_name_to_handle_at,
                file.as_fd().as_raw_fd(),
                c"".as_ptr(),
                &raw mut raw,
                &raw mut mount,
                libc::AT_EMPTY_PATH,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        let bytes = raw.bytes.get(..raw.size as usize).unwrap_or_default().to_vec();
        Ok(Self { kind: raw.kind, bytes })
    }

    /// Opens the file as a mere reference (`O_PATH`), through a mount of its file system on which `mount` is open.
    ///
    /// # Errors
    /// `ESTALE` if the file is deleted; also if this process may not (`CAP_DAC_READ_SEARCH`).
    pub(crate) fn open(&self, mount: &File) -> io::Result<OwnedFd> {
        let mut raw = Raw { size: 0, kind: self.kind, bytes: [0; MOST] };
        let room = raw.bytes.get_mut(..self.bytes.len()).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        room.copy_from_slice(&self.bytes);
        raw.size = room.len() as u32;
        let flags = libc::O_PATH | libc::O_CLOEXEC | libc::O_NOFOLLOW;
        // SAFETY: the handle is a live value with as many bytes as it declares.
        let fd = unsafe { libc::syscall(libc::SYS_open_by_handle_at, mount.as_raw_fd(), &raw mut raw, flags) };
        let fd = i32::try_from(fd).map_err(io::Error::other)?;
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just returned this descriptor, which no other code knows.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}
