//! Which file is which.

use std::{fs, os::unix::fs::MetadataExt as _};

use serde::{Deserialize, Serialize};

/// The identity of the file: no other file has it while this one is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct FileId {
    pub(super) device: u64,
    inode: u64,
}

impl FileId {
    pub(super) fn of(metadata: &fs::Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}
