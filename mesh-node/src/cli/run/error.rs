//! Why `mesh-node run` does not run a command.

use std::{io, path::PathBuf};

use crate::{exec::TooLarge, hint::Hint, local::TargetError};

/// Why a command does not run.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    #[error("there is no command")]
    NoCommand,
    #[error("cannot catch signals: {0}")]
    Signals(io::Error),
    #[error("cannot run {program}: {error}", program = program.display())]
    Start { program: PathBuf, error: io::Error },
    /// Arguments and environment are too large.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    #[error("the command cannot be started: one of its arguments is longer than the kernel accepts (E2BIG)")]
    LongArgument,
    #[error("cannot wait for the command: {0}")]
    Wait(io::Error),
    /// The namespace or hosts file can't be opened.
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error("cannot enter the network namespace {path}: {error}", path = path.display())]
    Enter { path: PathBuf, error: nix::Error },
    #[error("cannot make namespaces: {0}")]
    Namespaces(nix::Error),
    #[error("cannot make the mounts private: {0}")]
    Mounts(nix::Error),
    #[error("cannot set up the user namespace ({file}): {error}")]
    UserNamespace { file: &'static str, error: io::Error },
}

/// What this user lacks to make namespaces.
const PRIVILEGE: &str = "be root, or allow user namespaces (sysctl user.max_user_namespaces, \
    kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)";

impl Hint for RunError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoCommand => "mesh-node run DEPLOYMENT/SERVICE -- COMMAND",
            Self::Signals(_) | Self::Wait(_) => "has this user too many processes or open files (ulimit -a)?",
            Self::Start { .. } => "is it installed, and executable for this user?",
            Self::TooLarge(_) | Self::LongArgument => {
                "leave out the variables of other deployments' services with --no-foreign-variables: their host names go on to \
                 lead there, except for those that a warning says are left out"
            }
            Self::Target(error) => return error.hint(),
            Self::Enter { .. } | Self::Namespaces(_) | Self::Mounts(_) if nix::unistd::geteuid().is_root() => {
                "in a container this needs CAP_SYS_ADMIN"
            }
            Self::Enter { .. } | Self::Namespaces(_) | Self::Mounts(_) | Self::UserNamespace { .. } => PRIVILEGE,
        };
        Some(hint.into())
    }
}
