//! What can go wrong in any command.

use std::{io, path::PathBuf};

use crate::hint::Hint;

/// An error of the command line itself.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
    #[error("cannot write the answer as JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the program cannot start: {0}")]
    Runtime(io::Error),
    #[error("cannot write the manual pages to {directory}: {error}", directory = directory.display())]
    Manual { directory: PathBuf, error: io::Error },
    #[error("this machine has not joined a mesh: {state} holds no identity", state = state.display())]
    NotJoined { state: PathBuf },
    #[error("interrupted before it was done")]
    Interrupted,
}

impl Hint for CliError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Output(_) => "is the disk full?",
            Self::Json(_) => "leave --json out, and report this",
            Self::Runtime(_) => "has this user too many open files or processes (ulimit -a)?",
            Self::Manual { .. } => "name an existing directory",
            Self::NotJoined { .. } => "name the runner's state directory with --state DIR, if it is another one",
            Self::Interrupted => "run it again",
        };
        Some(hint.into())
    }
}

/// What an option expects, for the error of an argument that doesn't fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Expected {
    #[error(
        "expected the number of a process, such as 4711; a container's first one: docker inspect -f '{{{{.State.Pid}}}}' NAME"
    )]
    Pid,
    #[error("expected the number of a UDP port, from 0 to 65535, such as 51820")]
    Port,
    #[error("expected the number of a TCP port, from 1 to 65535, such as 5432")]
    TcpPort,
    #[error("expected a duration, such as 500ms, 30s or 5m")]
    Duration,
    #[error("expected yes or no")]
    YesOrNo,
}
