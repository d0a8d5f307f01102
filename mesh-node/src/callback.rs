//! How a container runtime calls this program back: by hooks, which the ways in write into what runtimes read.

use std::{
    env, io,
    path::{PathBuf, absolute},
};

use crate::{hint::Hint, state::StateDir};

/// How long a runtime waits for a hook, in seconds: longer than the hooks wait for anything.
pub(crate) const HOOK_TIMEOUT: u64 = 30;

/// The command line of the hooks.
#[derive(Debug, Clone)]
pub(crate) struct Hooks {
    /// This program.
    pub(crate) program: PathBuf,
    /// The agent's state directory.
    pub(crate) state: PathBuf,
}

/// The path of this program is unknown.
#[derive(Debug, thiserror::Error)]
#[error("cannot determine the path of this program: {0}")]
pub(crate) struct UnknownProgram(#[from] io::Error);

impl Hint for UnknownProgram {
    fn hint(&self) -> Option<String> {
        Some("is /proc mounted, and readable by this user?".into())
    }
}

impl Hooks {
    /// Hooks that call this program, for the agent of this state directory.
    ///
    /// # Errors
    /// If the path of this program is unknown.
    pub(crate) fn of(state: &StateDir) -> Result<Self, UnknownProgram> {
        let state = absolute(state.path()).unwrap_or_else(|_| state.path().to_owned());
        Ok(Self { program: program()?, state })
    }
}

/// The path of this program.
///
/// # Errors
/// If it is unknown.
pub(crate) fn program() -> Result<PathBuf, UnknownProgram> {
    Ok(env::current_exe()?)
}
