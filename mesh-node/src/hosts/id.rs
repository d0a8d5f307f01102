//! Which file is which.

use std::{fs, os::unix::fs::MetadataExt as _};

use mesh_lifecycle::FileId;

/// The identity of a file.
pub(super) fn identity(metadata: &fs::Metadata) -> FileId {
    FileId { dev: metadata.dev(), ino: metadata.ino() }
}
