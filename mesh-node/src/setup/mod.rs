//! `mesh-node setup`: writes and removes the few files that make container runtimes and systemd call this program. Other programs'
//! files are never overwritten.

mod cdi;
mod cni;
mod docker;
mod error;
mod json;
mod line;
mod podman;
mod systemd;
mod up;

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use mesh_process::{edit::Edit, systemd::is_plain};
use mesh_proto::ServicePath;

pub(crate) use error::SetupError;
pub(crate) use systemd::AGENT;
pub(crate) use up::{bring_up, take_down};

use crate::{callback, config::Config, state::StateDir};

/// What can be set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Runtime {
    /// mesh-runc as Docker's default runtime: /etc/docker/daemon.json
    Docker,
    /// A hook for podman: /etc/containers/oci/hooks.d and /etc/containers/containers.conf.d
    Podman,
    /// Devices mesh.warp/service=D.S for the services of --service: the agent's configuration
    Cdi,
    /// A plugin at the end of a network's list in /etc/cni/net.d
    Cni,
    /// Units: the agent's, and mesh-attach@.service, in /etc/systemd/system
    Systemd,
}

/// What to set up or to remove.
#[derive(Debug)]
pub(crate) struct Wish {
    /// The runtime.
    pub(crate) runtime: Runtime,
    /// Whether to remove the setup.
    pub(crate) undo: bool,
    /// CDI: the services with devices. CNI: the service of the whole network.
    pub(crate) services: Vec<ServicePath>,
    /// CNI: the network, if there are several.
    pub(crate) network: Option<String>,
}

/// The changes, and what remains to be done by hand.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The changes, in this order.
    pub(crate) edits: Vec<Edit>,
    /// What stays unchanged against expectation, and why.
    pub(crate) notes: Vec<String>,
    /// The operator's next steps.
    pub(crate) then: &'static str,
}

/// The command line by which a runtime calls this program.
#[derive(Debug)]
struct Caller {
    program: PathBuf,
    /// The agent's state directory, if it isn't the default one.
    state: Option<PathBuf>,
}

impl Wish {
    /// Checks that the options fit the runtime.
    ///
    /// # Errors
    /// If they don't.
    pub(crate) fn check(&self) -> Result<(), SetupError> {
        let Self { runtime, undo, services, network } = self;
        let takes_services = *runtime == Runtime::Cdi || (*runtime == Runtime::Cni && services.len() < 2);
        if !services.is_empty() && (*undo || !takes_services) {
            return Err(SetupError::Services);
        }
        if network.is_some() && *runtime != Runtime::Cni {
            return Err(SetupError::Network);
        }
        Ok(())
    }
}

/// The changes that make a runtime call the agent of this state directory, or that remove them.
///
/// # Errors
/// If another program's file prevents them, or a file can't be read.
pub(crate) fn plan(wish: &Wish, state: &StateDir) -> Result<Plan, SetupError> {
    let Wish { runtime, undo, services, network } = wish;
    let configuration = Config::path(state);
    let behind = Config::runc(state);
    let caller = Caller::of(state)?;
    match (runtime, undo) {
        (Runtime::Docker, false) => docker::set_up(&caller),
        (Runtime::Docker, true) => docker::undo(behind?.as_deref()),
        (Runtime::Podman, false) => podman::set_up(&caller),
        (Runtime::Podman, true) => podman::undo(),
        (Runtime::Cdi, false) => cdi::set_up(&configuration, services),
        (Runtime::Cdi, true) => cdi::undo(&configuration),
        (Runtime::Cni, false) => cni::set_up(&caller, network.as_deref(), services.first()),
        (Runtime::Cni, true) => cni::undo(&caller, network.as_deref()),
        (Runtime::Systemd, false) => systemd::set_up(&caller),
        (Runtime::Systemd, true) => systemd::undo(),
    }
}

/// Refuses a file at a path of mesh's that another program has written.
fn own(path: impl Into<PathBuf>, before: Option<&str>, ours: impl Fn(&str) -> bool) -> Result<(), SetupError> {
    match before {
        Some(text) if !ours(text) => Err(SetupError::Foreign { path: path.into() }),
        _ => Ok(()),
    }
}

/// Removes a file if mesh has written it.
fn gone(ours: fn(&str) -> bool) -> impl Fn(Option<&str>) -> Result<Option<String>, SetupError> {
    move |before| Ok(before.filter(|text| !ours(text)).map(str::to_owned))
}

/// A path that needs no quotes, neither in a unit nor in a script.
fn plain(path: &Path) -> Result<String, SetupError> {
    let path = path.display().to_string();
    match is_plain(&path) {
        true => Ok(path),
        false => Err(SetupError::OddPath(path)),
    }
}

impl Caller {
    /// This program, with this state directory.
    fn of(state: &StateDir) -> Result<Self, SetupError> {
        let program = callback::program()?;
        let state = match state.is_system() {
            true => None,
            false => Some(std::path::absolute(state.path()).map_err(SetupError::StatePath)?),
        };
        Ok(Self { program, state })
    }

    /// `--state DIR`, if it is needed.
    fn state_option(&self) -> impl Iterator<Item = String> {
        let option = self.state.iter().map(|state| state.display().to_string());
        option.flat_map(|state| ["--state".to_owned(), state])
    }
}
