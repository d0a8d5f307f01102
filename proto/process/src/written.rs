//! Changes of the machine's configuration that are made together, and what programs are told of them.

use std::path::Path;

use serde::Serialize;

use crate::{
    edit::{Edit, EditError},
    systemd::{self, SystemdError},
};

/// Why changes aren't made.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A file isn't changed.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// systemd doesn't read them.
    #[error(transparent)]
    Systemd(#[from] SystemdError),
}

impl WriteError {
    /// What to try next, if anything is known to help.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Edit(error) => error.hint(),
            Self::Systemd(error) => Some(error.hint()),
        }
    }
}

/// Makes the changes, tells of each, and has systemd read them.
///
/// # Errors
/// If one of them can't be made. Those before it are made then.
pub fn write(edits: &[Edit], mut tell: impl FnMut(&Path)) -> Result<(), WriteError> {
    for edit in edits {
        edit.apply()?;
        tell(edit.path());
    }
    if !edits.is_empty() && systemd::runs_the_machine() {
        systemd::reload()?;
    }
    Ok(())
}

/// The change of one file, for programs.
#[derive(Debug, Serialize)]
pub struct Change {
    path: String,
    /// The diff, as for people.
    diff: String,
}

impl Change {
    /// Of each file.
    #[must_use]
    pub fn all(edits: &[Edit]) -> Vec<Self> {
        edits.iter().map(|edit| Self { path: edit.path().display().to_string(), diff: edit.diff() }).collect()
    }
}
