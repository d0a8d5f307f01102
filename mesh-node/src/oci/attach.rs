//! What a hook asks the agent for when a container starts and when it has ended.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use mesh_proto::message::Refusal;
use serde::Deserialize;

use super::{caller, spec::Spec};
use crate::{
    agent::IDENTITY,
    attach::{AttachError, Namespace},
    config::Config,
    containers::{ContainerId, Labels, Member},
    hosts::{HostsFile, Place},
    journal,
    local::{self, Client, Request, target},
    state::StateDir,
};

/// How long the agent may take. It waits itself for a coordinator that is just coming, for its view, and for the others.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long an agent that is just starting may take, as after an upgrade, or with the machine.
const START: Duration = Duration::from_secs(5);
/// How long the end of a container may be held up: an agent that is busy or away finds out by itself.
const PARTING: Duration = Duration::from_secs(2);

/// What a runtime tells a hook on standard input: the state of the container (OCI runtime specification, «State»).
#[derive(Debug, Deserialize)]
pub(super) struct State {
    /// The container.
    pub(super) id: ContainerId,
    /// Its first process, unless it has ended.
    #[serde(default)]
    pub(super) pid: i32,
    /// The directory of its `config.json`.
    #[serde(default)]
    pub(super) bundle: PathBuf,
    /// What the runtime was told besides.
    #[serde(default)]
    pub(super) annotations: Labels,
}

/// The variables of the service's instances, without those that the configuration leaves out.
pub(super) fn variables(state: &StateDir, member: &Member) -> Result<BTreeMap<String, String>, Refusal> {
    let foreign = Config::load(state)?.containers.foreign_variables;
    let request = Request::Names { service: member.service.clone() };
    agent(state).ask::<local::Names>(&request, &[]).map(|names| names.chosen(foreign.into()))
}

/// Gives a container that starts its instance.
pub(super) fn attach(state: &StateDir, container: &State, member: &Member) -> Result<(), Refusal> {
    let (_, namespace, process) = target::process(container.pid)?;
    let namespace = Namespace::from_fd(namespace).map_err(|e| Refusal::bare(e.to_string()))?;
    // The agent looks as well, but the hosts file is the machine's too then, and this is what is to be said.
    if namespace.is_host() {
        return Err(Refusal::bare(AttachError::Host.to_string()));
    }
    let mut config = container.bundle.join("config.json");
    if !config.exists() {
        config = caller::config(&container.id.to_string()).unwrap_or(config);
    }
    let (hosts, file) = hosts(&config)?.unzip();
    let fds: Vec<_> = [Some(namespace.as_fd()), file.as_ref().map(OwnedFd::as_fd), Some(process.as_fd())]
        .into_iter()
        .flatten()
        .collect();
    let Member { service, client } = member.clone();
    let request = Request::AttachContainer { id: container.id.clone(), service, client, hosts, namespace: None };
    agent(state).ask::<local::Attach>(&request, &fds).map(drop)
}

/// Tells the agent that a container has ended.
pub(crate) fn detach(state: &StateDir, id: ContainerId) -> Result<(), Refusal> {
    let agent = Client::new(state).within(PARTING);
    agent.ask::<local::DetachContainer>(&Request::DetachContainer { id }, &[]).map(drop)
}

/// The agent, asked by a runtime: given time to start, and no more than that to answer.
pub(crate) fn agent(state: &StateDir) -> Client<'_> {
    // Where no agent has ever been, none is starting.
    let start = if state.written(IDENTITY).is_some() { START } else { Duration::ZERO };
    Client::new(state).within(PATIENCE).patient(start)
}

/// What runtimes, and Kubernetes, call the hosts files that they make.
const RUNTIMES: [&str; 2] = ["hosts", "etc-hosts"];

/// The hosts file that its runtime has made for the container, if it has made one.
fn hosts(config: &Path) -> Result<Option<(Place, OwnedFd)>, Refusal> {
    let spec = Spec::at(config)
        .map_err(|e| Refusal::bare(format!("the container's {} can't be read: {e}", config.display())))?;
    let Some(source) = spec.source_of("/etc/hosts") else { return Ok(None) };
    // Runtimes mount their own so, too, where a container may write nothing; what else it may only read, root doesn't write for it.
    let runtimes = source.file_name().is_some_and(|name| RUNTIMES.contains(&name.to_string_lossy().as_ref()));
    if spec.is_read_only("/etc/hosts") && !runtimes {
        let hosts = source.display();
        journal::warn(&format!(
            "no names are kept in {hosts}: it is mounted over the container's /etc/hosts to be read only"
        ));
        return Ok(None);
    }
    let found = target::hosts(Place::Path(source));
    // The agent looks for itself; here it is known what to do about it.
    let checked = found.and_then(|(place, file)| HostsFile::open(&file).map(|_| (place, file)));
    let hint = "mount nothing over the container's /etc/hosts, or a file of its own";
    checked.map(Some).map_err(|refusal| Refusal::new(refusal.error, hint))
}
