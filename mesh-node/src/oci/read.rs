//! Reads files of limited length.

use std::{fs::File, io::Read as _, path::Path};

/// The largest file of a runtime that is read, in bytes.
pub(super) const MAX: u64 = 16 << 20;

/// Reads at most `most` bytes of a file.
pub(super) fn read_up_to(path: &Path, most: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(most).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}
