//! `mesh-node setup`: the few files that make container runtimes and systemd call us, and taking them out again. What somebody
//! else has written is never overwritten.

mod cdi;
mod cni;
mod docker;
mod edit;
mod json;
mod podman;
mod systemd;

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use mesh_proto::{ServicePath, message::Refusal};

pub(crate) use edit::Edit;

use crate::{config::Config, state::StateDir};

/// What is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Runtime {
    /// mesh-runc as Docker's default runtime: /etc/docker/daemon.json
    Docker,
    /// A hook for podman: /etc/containers/oci/hooks.d and /etc/containers/containers.conf.d
    Podman,
    /// Devices mesh.warp/service=D.S for the services that --service names: the agent's configuration
    Cdi,
    /// A plugin at the end of a network's list in /etc/cni/net.d
    Cni,
    /// Units: the agent's, and mesh-attach@.service, in /etc/systemd/system
    Systemd,
}

/// What is to be set up, or no longer to be.
#[derive(Debug)]
pub(crate) struct Wish {
    /// What it is.
    pub(crate) runtime: Runtime,
    /// Whether to take it out.
    pub(crate) undo: bool,
    /// By CDI: what becomes a device. By CNI: what everything in the network is.
    pub(crate) services: Vec<ServicePath>,
    /// By CNI: the network, where there is more than one.
    pub(crate) network: Option<String>,
}

/// What is to be done, and what remains to be done by hand.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The files, in this order.
    pub(crate) edits: Vec<Edit>,
    /// What is left as it is though one might expect otherwise, and why.
    pub(crate) notes: Vec<String>,
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

impl Wish {
    /// Whether what goes together goes together.
    ///
    /// # Errors
    /// If not.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        let Self { runtime, undo, services, network } = self;
        let takes_services = *runtime == Runtime::Cdi || (*runtime == Runtime::Cni && services.len() < 2);
        if !services.is_empty() && (*undo || !takes_services) {
            let hint = "--service goes with `cdi`, any number of times, and once with `cni`";
            return Err(Refusal::new("there is nothing to do with these services", hint));
        }
        if network.is_some() && *runtime != Runtime::Cni {
            return Err(Refusal::new("there is nothing to do with a network", "--network goes with `cni`"));
        }
        Ok(())
    }
}

/// What there is to do for a runtime to call the agent of this state directory; or, undone, no longer to.
///
/// # Errors
/// If something of somebody else's is in the way, or can't be read.
pub(crate) fn plan(wish: &Wish, state: &StateDir) -> Result<Plan, Refusal> {
    let Wish { runtime, undo, services, network } = wish;
    let configuration = Config::path(state);
    let behind = Config::runc(state);
    let program = std::env::current_exe().map_err(|e| Refusal::bare(format!("this program can't be found: {e}")))?;
    let state = match state.is_system() {
        true => None,
        false => Some(std::path::absolute(state.path()).map_err(|e| Refusal::bare(e.to_string()))?),
    };
    let ourselves = Ourselves { program, state };
    match (runtime, undo) {
        (Runtime::Docker, false) => docker::set_up(&ourselves),
        (Runtime::Docker, true) => docker::undo(behind?.as_deref()),
        (Runtime::Podman, false) => podman::set_up(&ourselves),
        (Runtime::Podman, true) => podman::undo(),
        (Runtime::Cdi, false) => cdi::set_up(&configuration, services),
        (Runtime::Cdi, true) => cdi::undo(&configuration),
        (Runtime::Cni, false) => cni::set_up(&ourselves, network.as_deref(), services.first()),
        (Runtime::Cni, true) => cni::undo(&ourselves, network.as_deref()),
        (Runtime::Systemd, false) => systemd::set_up(&ourselves),
        (Runtime::Systemd, true) => systemd::undo(),
    }
}

/// Refuses what is at a path of ours and isn't from us.
fn own(path: &str, before: Option<&str>, ours: impl Fn(&str) -> bool) -> Result<(), Refusal> {
    match before {
        Some(text) if !ours(text) => {
            Err(Refusal::new(format!("{path} is there already, and not from us"), "rename it, or take it out"))
        }
        _ => Ok(()),
    }
}

/// What is left of a file that is to go if it is from us.
fn gone(ours: fn(&str) -> bool) -> impl Fn(Option<&str>) -> Result<Option<String>, Refusal> {
    move |before| Ok(before.filter(|text| !ours(text)).map(str::to_owned))
}

/// A path that is itself wherever it is written: in a unit, or in a script.
fn plain(path: &Path) -> Result<String, Refusal> {
    let path = path.display().to_string();
    let odd = |c: char| !(c.is_ascii_alphanumeric() || "/._-+".contains(c));
    match path.contains(odd) {
        true => Err(Refusal::new(
            format!("{path} has characters in it that mean something where it has to be written"),
            "put it somewhere else",
        )),
        false => Ok(path),
    }
}

impl Ourselves {
    /// `--state DIR`, where it is needed.
    fn state_option(&self) -> impl Iterator<Item = String> {
        let option = self.state.iter().map(|state| state.display().to_string());
        option.flat_map(|state| ["--state".to_owned(), state])
    }
}
