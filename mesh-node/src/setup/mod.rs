//! `mesh-node setup`: the few files that make a container runtime call us, and taking them out again. What somebody else
//! has written is never overwritten.

mod docker;
mod edit;
mod podman;

use std::path::PathBuf;

use clap::ValueEnum;
use mesh_proto::message::Refusal;

pub(crate) use edit::Edit;

use crate::state::StateDir;

/// What is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Runtime {
    /// mesh-runc as Docker's default runtime: /etc/docker/daemon.json
    Docker,
    /// A hook for podman: /etc/containers/oci/hooks.d and /etc/containers/containers.conf.d
    Podman,
}

/// What is to be done, and what remains to be done by hand.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The files, in this order.
    pub(crate) edits: Vec<Edit>,
    /// What only the operator can do.
    pub(crate) then: &'static str,
}

/// How a runtime calls us.
#[derive(Debug)]
struct Ourselves {
    program: PathBuf,
    /// The agent's state directory, where it isn't the usual one.
    state: Option<PathBuf>,
}

/// What there is to do for a runtime to call the agent of this state directory; or, undone, no longer to.
///
/// # Errors
/// If something of somebody else's is in the way, or can't be read.
pub(crate) fn plan(runtime: Runtime, undo: bool, state: &StateDir) -> Result<Plan, Refusal> {
    let program = std::env::current_exe().map_err(|e| Refusal::bare(format!("this program can't be found: {e}")))?;
    let state = match state.is_system() {
        true => None,
        false => Some(std::path::absolute(state.path()).map_err(|e| Refusal::bare(e.to_string()))?),
    };
    let ourselves = Ourselves { program, state };
    match (runtime, undo) {
        (Runtime::Docker, false) => docker::set_up(&ourselves),
        (Runtime::Docker, true) => docker::undo(),
        (Runtime::Podman, false) => podman::set_up(&ourselves),
        (Runtime::Podman, true) => podman::undo(),
    }
}

impl Ourselves {
    /// `--state DIR`, where it is needed.
    fn state_option(&self) -> impl Iterator<Item = String> {
        let option = self.state.iter().map(|state| state.display().to_string());
        option.flat_map(|state| ["--state".to_owned(), state])
    }
}
