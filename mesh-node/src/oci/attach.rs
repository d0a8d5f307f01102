//! A hook's requests to the agent, when a container starts and when it has ended.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
    time::Duration,
};

use mesh_lifecycle::FileKind;
use serde::Deserialize;

use super::{OciError, caller, spec::Spec};
use crate::{
    agent::IDENTITY,
    attach::{AttachError, Namespace},
    config::Config,
    containers::{Labels, Member},
    hosts::{HostsFile, Place},
    journal,
    local::{self, Client, ClientError, ContainerId, Request, target},
    state::StateDir,
};

/// How long the agent may take. It waits for a coordinator that is just connecting, for its view, and for other runners.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long an agent may take to start, after an upgrade or with the machine.
const START: Duration = Duration::from_secs(5);
/// How long the end of a container may be delayed: an agent that is busy or away notices the end by itself.
const PARTING: Duration = Duration::from_secs(2);

/// The state of a container, which a runtime writes to a hook's standard input (OCI runtime specification, "State").
#[derive(Debug, Deserialize)]
pub(super) struct State {
    /// The container.
    pub(super) id: ContainerId,
    /// Its first process; 0 if it has ended.
    #[serde(default)]
    pub(super) pid: i32,
    /// The directory of its `config.json`.
    #[serde(default)]
    pub(super) bundle: PathBuf,
    /// Its annotations.
    #[serde(default)]
    pub(super) annotations: Labels,
}

/// The variables of the service's instances that the configuration allows.
pub(super) fn variables(state: &StateDir, member: &Member) -> Result<BTreeMap<String, String>, OciError> {
    let foreign = Config::load(state)?.containers.foreign_variables;
    let request = Request::Names { service: member.service.clone() };
    let names: local::Names = agent(state).ask(&request, &[])?;
    Ok(names.chosen(foreign.into()))
}

/// Attaches the instance of a container that starts.
pub(super) fn attach(state: &StateDir, container: &State, member: &Member) -> Result<(), OciError> {
    let (_, namespace, process) = target::process(container.pid)?;
    let namespace = Namespace::from_fd(namespace)?;
    // The agent checks too, but first it would complain about the hosts file, which is the machine's as well.
    if namespace.is_host() {
        return Err(AttachError::Host.into());
    }
    let mut config = container.bundle.join("config.json");
    if !config.exists() {
        config = caller::config(&container.id.to_string()).unwrap_or(config);
    }
    let spec = Spec::at(&config).map_err(|error| OciError::ReadConfig { path: config, error })?;
    let (hosts, file) = kept(&spec, FileKind::Hosts)?.unzip();
    let wants_dns = member.dns.unwrap_or_else(|| Config::load(state).is_ok_and(|config| config.containers.dns));
    let (resolv, resolv_file) = if wants_dns { kept(&spec, FileKind::Resolv)?.unzip() } else { (None, None) };
    let [file, resolv_file] = [&file, &resolv_file].map(|file| file.as_ref().map(OwnedFd::as_fd));
    let fds: Vec<_> =
        [Some(namespace.as_fd()), file, resolv_file, Some(process.as_fd())].into_iter().flatten().collect();
    let (id, Member { service, client, release, .. }) = (container.id.clone(), member.clone());
    let request = Request::AttachContainer { id, service, client, release, hosts, resolv, namespace: None };
    let _: local::Attach = agent(state).ask(&request, &fds)?;
    Ok(())
}

/// Reports the end of a container to the agent.
pub(crate) fn detach(state: &StateDir, id: ContainerId) -> Result<(), ClientError> {
    let agent = Client::new(state).within(PARTING);
    agent.ask::<local::DetachContainer>(&Request::DetachContainer { id }, &[]).map(drop)
}

/// The agent as a runtime asks it: with time to start, and a limit for its answer.
pub(crate) fn agent(state: &StateDir) -> Client<'_> {
    // Without an identity no agent can be starting.
    let start = if state.written(IDENTITY).is_some() { START } else { Duration::ZERO };
    Client::new(state).within(PATIENCE).patient(start)
}

/// The names of the files that runtimes and Kubernetes make.
const RUNTIMES: [&str; 3] = ["hosts", "etc-hosts", "resolv.conf"];

/// The hosts file or resolv.conf that the runtime made for the container, if any.
fn kept(spec: &Spec, kind: FileKind) -> Result<Option<(Place, OwnedFd)>, OciError> {
    let Some(source) = spec.source_of(kind.path()) else { return Ok(None) };
    // Runtimes mount their own file read-only in a read-only container. Another read-only file is the operator's: it stays unchanged.
    let runtimes = source.file_name().is_some_and(|name| RUNTIMES.contains(&name.to_string_lossy().as_ref()));
    if spec.is_read_only(kind.path()) && !runtimes {
        let hosts = source.display();
        journal::warn(&format!(
            "nothing is written to {hosts}: it is mounted read-only over the container's {}",
            kind.path()
        ));
        return Ok(None);
    }
    let found = match kind {
        FileKind::Hosts => target::hosts(Place::Path(source)),
        FileKind::Resolv => target::resolv(Place::Path(source)),
    };
    let (place, file) = found.map_err(|e| OciError::Hosts(Box::new(e)))?;
    // The agent checks too; here the hint can name the mount.
    HostsFile::open(&file, kind).map_err(|e| OciError::Hosts(Box::new(e)))?;
    Ok(Some((place, file)))
}
