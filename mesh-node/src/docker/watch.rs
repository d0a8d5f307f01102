//! Follows what Docker starts.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use mesh_proto::message::Refusal;
use serde::Deserialize;
use tokio::{sync::Semaphore, task::spawn_blocking, time::sleep};

use super::{
    api::{self, Api, ApiError},
    image::{self, Configured, Manifest},
};
use crate::{
    attach::Namespace,
    cli::target,
    config::Config,
    containers::{ContainerId, Containers, IMAGES_OWN, Life, Member, Start, leave_out_the_images, member},
    hosts::{HostsFile, Place},
    state::StateDir,
};

/// How soon we look again for a Docker that is not there, or has gone.
const AGAIN: Duration = Duration::from_secs(2);

/// How long Docker may take to know that a process has ended, in seconds.
const NOTICED: usize = 10;

/// How many containers are looked at at a time.
const AT_ONCE: usize = 16;

/// Of how many different errors it is known that they have been said; more than these are not said.
const REMEMBERED: usize = 16;

/// Which events are asked for.
const STARTS: &str = r#"{"type":{"container":true},"event":{"start":true}}"#;

/// Of a list of containers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
}

/// Of an event.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Event {
    #[serde(default)]
    actor: Actor,
}

#[derive(Debug, Default, Deserialize)]
struct Actor {
    #[serde(rename = "ID", default)]
    id: String,
}

/// Of what is known of a container.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    id: ContainerId,
    state: State,
    config: Configured,
    /// The image's digest.
    image: String,
    #[serde(default)]
    image_manifest_descriptor: Option<Manifest>,
    #[serde(default)]
    hosts_path: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    /// The first process; 0 if it doesn't run.
    pid: i32,
}

/// What has gone wrong since it last went well.
#[derive(Debug, Default)]
struct Troubles(BTreeSet<String>);

impl Troubles {
    /// Whether this is a new one.
    fn is_new(&mut self, error: &ApiError) -> bool {
        self.0.len() < REMEMBERED && self.0.insert(error.to_string())
    }
}

/// Attaches what Docker starts, for as long as the agent runs; by way of this socket.
pub(crate) async fn watch(socket: PathBuf, containers: Containers, state: StateDir) {
    let docker = Arc::new(Docker { socket, containers, state, places: Semaphore::new(AT_ONCE) });
    let mut troubles = Troubles::default();
    loop {
        let socket = docker.socket.display();
        match docker.follow(&mut troubles).await {
            Ok(()) => tracing::info!(%socket, "Docker has ended; what it starts is attached when it is back"),
            // There need not be one.
            Err(error @ ApiError::Absent) => tracing::debug!(%socket, %error, "no Docker"),
            Err(error) if troubles.is_new(&error) => {
                tracing::warn!(%socket, %error, "what Docker starts can't be followed; it is tried again and again")
            }
            Err(error) => tracing::debug!(%socket, %error, "what Docker starts can't be followed"),
        }
        sleep(AGAIN).await;
    }
}

#[derive(Debug)]
struct Docker {
    socket: PathBuf,
    containers: Containers,
    state: StateDir,
    places: Semaphore,
}

impl Docker {
    /// Follows one run of Docker.
    async fn follow(self: &Arc<Self>, troubles: &mut Troubles) -> Result<(), ApiError> {
        let api = Api::find(&self.socket).await?;
        // First the events, then the list: what starts between the two is in both, and not in neither.
        let mut events = api.follow(&format!("/events?filters={}", api::escape(STARTS))).await?;
        let running: Vec<Listed> = api.get("/containers/json").await?;
        tracing::info!(socket = %self.socket.display(), running = running.len(), "following what Docker starts");
        *troubles = Troubles::default();
        for container in running {
            tokio::spawn(Arc::clone(self).consider(api.clone(), container.id));
        }
        while let Some(event) = events.next::<Event>().await? {
            tokio::spawn(Arc::clone(self).consider(api.clone(), event.actor.id));
        }
        Ok(())
    }

    /// Attaches a container that runs, if it is one of ours.
    async fn consider(self: Arc<Self>, api: Api, id: String) {
        // What comes from elsewhere leads to no other place of the API.
        let Ok(id) = id.parse::<ContainerId>() else { return };
        let Ok(place) = self.places.acquire().await else { return };
        let attached = self.try_attach(&api, &id).await;
        drop(place);
        if let Err(Refusal { error, hint }) = attached
            && runs(&api, &id).await
        {
            tracing::warn!(container = %id, error, hint, "it runs without the mesh");
        }
    }

    async fn try_attach(&self, api: &Api, id: &ContainerId) -> Result<(), Refusal> {
        match inspect(api, id).await? {
            Some(container) => self.attach(api, container).await,
            None => Ok(()),
        }
    }

    async fn attach(&self, api: &Api, container: Container) -> Result<(), Refusal> {
        let Some(member) = self.member(api, &container).await? else { return Ok(()) };
        let service = member.service.clone();
        let attached = self.attach_member(api, container, member).await;
        attached.map_err(|refusal| Refusal { error: format!("{service}: {}", refusal.error), ..refusal })
    }

    /// What it belongs to, if it is ours.
    async fn member(&self, api: &Api, container: &Container) -> Result<Option<Member>, Refusal> {
        // What is wrong with the configuration was said when the agent started.
        let sources = Config::load(&self.state).map(|config| config.containers.sources).unwrap_or_default();
        let mut labels = container.config.labels.clone().unwrap_or_default();
        // Most containers ask for nothing, whoever gave them their labels.
        if member(&labels, &sources) == Ok(None) {
            return Ok(None);
        }
        let of_image =
            image::labels(api, &container.image, container.image_manifest_descriptor.as_ref()).await.map_err(|e| {
                let image = &container.image;
                let what = format!("its image {image} can't be asked for, so nobody knows who gave its labels: {e}");
                Refusal::new(what, "is the image still there? Then start the container again")
            })?;
        leave_out_the_images(&mut labels, &of_image);
        let member = member(&labels, &sources);
        if member == Ok(None) {
            tracing::warn!(container = %container.id, "{IMAGES_OWN}");
        }
        member
    }

    async fn attach_member(&self, api: &Api, container: Container, member: Member) -> Result<(), Refusal> {
        let Container { id, state: State { pid }, hosts_path, .. } = container;
        if pid <= 0 {
            return Ok(());
        }
        let opened = spawn_blocking(move || open(pid, hosts_path)).await;
        let opened = opened.map_err(|e| Refusal::bare(e.to_string()))?;
        // Its number may have been given to another process before we held on to that; or it has ended, which is no error.
        if inspect(api, &id).await?.is_none_or(|now| now.state.pid != pid) {
            return Ok(());
        }
        let (namespace, hosts, process) = opened?;
        let Member { service, client } = member;
        let start = Start { id, service, client, namespace: Arc::new(namespace), hosts, life: Life::Process(process) };
        self.containers.attach(start).await.map(drop)
    }
}

/// What is known of a container; `None`: it is gone.
async fn inspect(api: &Api, id: &ContainerId) -> Result<Option<Container>, Refusal> {
    match api.get(&format!("/containers/{id}/json")).await {
        Ok(container) => Ok(Some(container)),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => {
            Err(Refusal::new(format!("Docker doesn't say what it is: {e}"), "restart the agent, or the container"))
        }
    }
}

/// Whether a container that has not been attached is one to speak of: one that has ended perhaps had the mesh, by its runtime,
/// for as long as it ran.
async fn runs(api: &Api, id: &ContainerId) -> bool {
    let process = async || inspect(api, id).await.map(|container| container.map_or(0, |container| container.state.pid));
    let Ok(pid) = process().await else { return true };
    if pid > 0 && has_ended(pid) {
        // An agent in a container of its own may be unable to see anybody's processes, but Docker knows soon.
        for _ in 0..NOTICED {
            sleep(Duration::from_secs(1)).await;
            if process().await != Ok(pid) {
                return false;
            }
        }
    }
    pid > 0
}

/// Whether there is no process of this number (any more): one that nobody has waited for yet has no namespaces either.
fn has_ended(pid: i32) -> bool {
    let namespace = std::fs::read_link(format!("/proc/{pid}/ns/net"));
    namespace.is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
}

type Opened = (Namespace, Option<(Place, HostsFile)>, std::os::fd::OwnedFd);

fn open(pid: i32, hosts: PathBuf) -> Result<Opened, Refusal> {
    let (_, namespace, process) = target::process(pid)?;
    let namespace = Namespace::from_fd(namespace).map_err(|e| Refusal::bare(e.to_string()))?;
    let hosts = match hosts == Path::new("") {
        true => None,
        false => {
            let (place, found) = target::hosts(Place::Path(hosts))?;
            Some((place, HostsFile::open(&found)?))
        }
    };
    Ok((namespace, hosts, process))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_said_once_and_not_without_end() {
        let mut troubles = Troubles::default();
        let denied = || ApiError::Io(std::io::ErrorKind::PermissionDenied.into());
        assert!(troubles.is_new(&denied()) && !troubles.is_new(&denied()));
        assert!(troubles.is_new(&ApiError::Stranger(1000)) && !troubles.is_new(&denied()));
        assert_eq!((0..1000).filter(|user| troubles.is_new(&ApiError::Stranger(*user))).count(), REMEMBERED - 2);
    }

    #[test]
    fn what_has_ended_is_told_from_what_runs() {
        assert!(!has_ended(nix::unistd::getpid().as_raw()));
        let mut child = std::process::Command::new("true").stdout(std::process::Stdio::piped()).spawn().unwrap();
        let pid = child.id().cast_signed();
        // It closes its output as it ends, and is not waited for yet.
        std::io::copy(&mut child.stdout.take().unwrap(), &mut std::io::sink()).unwrap();
        while !has_ended(pid) {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(has_ended(pid));
    }

    #[test]
    fn containers_read_the_same_by_every_version() {
        // As Docker 20.10 and 29 answer, in part; containerd's image store names the manifest's digest.
        for text in [
            r#"{"Id":"ID","State":{"Status":"running","Pid":7},"Image":"sha256:1","HostsPath":"/h","Config":{"Labels":{"a":"b"}}}"#,
            r#"{"Id":"ID","State":{"Status":"exited","Pid":0},"Image":"sha256:2","HostsPath":"","Config":{"Labels":null},"ImageManifestDescriptor":{"digest":"sha256:2"}}"#,
            r#"{"Id":"ID","State":{"Pid":7},"Image":"sha256:3","Config":{}}"#,
        ] {
            let text = text.replace("ID", &"f00d".repeat(16));
            let container: Container = serde_json::from_str(&text).unwrap();
            assert!(container.image.starts_with("sha256:"));
        }
        for text in [
            r#"{"status":"start","id":"x","Type":"container","Action":"start","Actor":{"ID":"x","Attributes":{}},"time":1}"#,
            r#"{"Type":"container","Action":"start","Actor":{"ID":"x","Attributes":{}},"time":1}"#,
        ] {
            assert_eq!(serde_json::from_str::<Event>(text).unwrap().actor.id, "x");
        }
    }
}
