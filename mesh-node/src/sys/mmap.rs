//! Maps a file into memory. Its content outlives this process at any instant.
#![allow(unsafe_code, reason = "mapping memory, and looking at what is mapped")]

use std::{
    ffi::c_void,
    fs::{self, File},
    io,
    num::NonZeroUsize,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    ptr::NonNull,
    slice,
};

use nix::{
    fcntl::posix_fallocate,
    sys::mman::{MapFlags, ProtFlags, mmap, munmap},
};

/// A mapped and shared file of the agent.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<c_void>,
    length: NonZeroUsize,
    _file: File,
}

// SAFETY: this value alone uses the memory, on one thread at a time; the lock of the state directory keeps other
// processes from mapping the file.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps a file, which is created if it doesn't exist. It gets `length` bytes, with all of their blocks allocated,
    /// so that a full disk is an error here and not a signal later.
    ///
    /// # Errors
    /// If it can't be created or mapped, or isn't a regular file of the agent.
    pub(crate) fn open(path: &Path, length: NonZeroUsize) -> io::Result<Self> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let bytes = i64::try_from(length.get()).map_err(io::Error::other)?;
        posix_fallocate(&file, 0, bytes)?;
        file.set_len(length.get() as u64)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice, of a file that has this length and isn't
        // truncated: only the agent uses its directory.
        let start = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, &file, 0)? };
        Ok(Self { start, length, _file: file })
    }

    /// The content.
    pub(crate) const fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: that many bytes are mapped, readable and writable, until this value is dropped; all byte values are
        // valid, and `&mut self` makes the access unique.
        unsafe { slice::from_raw_parts_mut(self.start.cast().as_ptr(), self.length.get()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the arguments are those of the mapping, and no reference outlives this value. It can't fail for them.
        let _ = unsafe { munmap(self.start, self.length.get()) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;
    use crate::state::tests::Scratch;

    #[test]
    fn what_is_written_is_in_the_file_and_there_for_the_next() {
        let scratch = Scratch::new("mapping");
        let (path, length) = (scratch.0.join("pins"), NonZeroUsize::new(10_000).unwrap());
        let mut first = Mapping::open(&path, length).unwrap();
        assert!(first.bytes().iter().all(|byte| *byte == 0) && first.bytes().len() == 10_000);
        first.bytes()[7000] = 7;
        assert_eq!(fs::read(&path).unwrap()[7000], 7, "as after a kill");
        drop(first);
        assert_eq!(Mapping::open(&path, length).unwrap().bytes()[7000], 7);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let link = scratch.0.join("link");
        symlink(&path, &link).unwrap();
        assert!(Mapping::open(&link, length).is_err() && Mapping::open(&scratch.0, length).is_err());
    }
}
