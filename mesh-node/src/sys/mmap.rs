//! A file mapped into memory, whose content outlives this process at any instant.
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

/// A file of our own, mapped and shared.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<c_void>,
    length: NonZeroUsize,
    _file: File,
}

// SAFETY: the memory belongs to this value alone, whichever thread that is on; other processes that map the file are kept
// out by the lock of the state directory.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps a file, which is made if it isn't there and is given `length` octets, all of which have their place on disk:
    /// a full disk is found here, not by a signal later.
    ///
    /// # Errors
    /// If it can't be made or mapped, or is no file of our own.
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
        let octets = i64::try_from(length.get()).map_err(io::Error::other)?;
        posix_fallocate(&file, 0, octets)?;
        file.set_len(length.get() as u64)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice, of a file that has this length and that nobody
        // shortens: it stands in a directory which is ours alone.
        let start = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, &file, 0)? };
        Ok(Self { start, length, _file: file })
    }

    /// The content.
    pub(crate) const fn octets(&mut self) -> &mut [u8] {
        // SAFETY: that many octets are mapped there, readable and writable, until this value is dropped; any of them has
        // a value; and `&mut self` is the only way to them.
        unsafe { slice::from_raw_parts_mut(self.start.cast().as_ptr(), self.length.get()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it is what was mapped, and no reference to it outlives this value. It can't fail for such.
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
        assert!(first.octets().iter().all(|octet| *octet == 0) && first.octets().len() == 10_000);
        first.octets()[7000] = 7;
        assert_eq!(fs::read(&path).unwrap()[7000], 7, "as whoever comes after a kill finds it");
        drop(first);
        assert_eq!(Mapping::open(&path, length).unwrap().octets()[7000], 7);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let link = scratch.0.join("link");
        symlink(&path, &link).unwrap();
        assert!(Mapping::open(&link, length).is_err() && Mapping::open(&scratch.0, length).is_err());
    }
}
