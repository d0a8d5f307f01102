//! Why there is no report.

use std::{io, path::PathBuf};

use crate::hint::Hint;

#[derive(Debug, thiserror::Error)]
pub(super) enum BugreportError {
    #[error("cannot make the archive: {0}")]
    Pack(io::Error),
    #[error("cannot write {file}: {error}", file = file.display())]
    Write { file: PathBuf, error: io::Error },
}

impl Hint for BugreportError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Pack(_) => "report this, with the output of `mesh-node status`",
            Self::Write { .. } => "name another place with --output FILE",
        };
        Some(hint.into())
    }
}
