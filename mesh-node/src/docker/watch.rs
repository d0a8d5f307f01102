//! Follows what Docker starts.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use mesh_proto::message::Refusal;
use serde::Deserialize;
use serde_json::Value;
use tokio::{sync::Semaphore, task::spawn_blocking, time::sleep};

use super::api;
use crate::{
    attach::Namespace,
    cli::target,
    config::Config,
    containers::{CLIENT, ContainerId, Containers, Labels, Life, Member, SERVICE, Start, leave_out_the_images, member},
    hosts::{HostsFile, Place},
    state::StateDir,
};

/// How soon we look again for a Docker that is not there, or has gone.
const AGAIN: Duration = Duration::from_secs(2);

/// How many containers are looked at at a time.
const AT_ONCE: usize = 16;

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
    hosts_path: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    /// The first process; 0 if it doesn't run.
    pid: i32,
}

/// What a container or an image was given.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Configured {
    #[serde(default)]
    labels: Option<Labels>,
}

/// Of what is known of an image.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    #[serde(default)]
    config: Option<Configured>,
}

/// Attaches what Docker starts, for as long as the agent runs; by way of this socket.
pub(crate) async fn watch(socket: PathBuf, containers: Containers, state: StateDir) {
    let docker = Arc::new(Docker { socket, containers, state, places: Semaphore::new(AT_ONCE) });
    loop {
        match follow(&docker).await {
            Ok(()) => {
                tracing::info!(socket = %docker.socket.display(), "Docker has ended; what it starts is attached when it is back")
            }
            // There need not be one.
            Err(error) => tracing::debug!(socket = %docker.socket.display(), %error, "no Docker"),
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

/// Follows one run of Docker.
async fn follow(docker: &Arc<Docker>) -> io::Result<()> {
    let filters = api::escape(r#"{"type":["container"],"event":["start"]}"#);
    // First the events, then the list: what starts between the two is in both, and not in neither.
    let mut events = api::follow(&docker.socket, &format!("/events?filters={filters}")).await?;
    let running: Vec<Listed> = api::get(&docker.socket, "/containers/json").await?;
    tracing::info!(socket = %docker.socket.display(), running = running.len(), "following what Docker starts");
    for container in running {
        tokio::spawn(Arc::clone(docker).consider(container.id));
    }
    while let Some(event) = events.next::<Event>().await? {
        tokio::spawn(Arc::clone(docker).consider(event.actor.id));
    }
    Ok(())
}

impl Docker {
    /// Attaches a container that runs, if it is one of ours.
    async fn consider(self: Arc<Self>, id: String) {
        // What comes from elsewhere leads to no other place of the API.
        let Ok(id) = id.parse::<ContainerId>() else { return };
        let Ok(_place) = self.places.acquire().await else { return };
        if let Err(Refusal { error, hint }) = self.try_attach(&id).await {
            tracing::warn!(container = %id, error, hint, "it runs without the mesh");
        }
    }

    async fn try_attach(&self, id: &ContainerId) -> Result<(), Refusal> {
        match self.member(id).await? {
            Some((container, member)) => {
                let service = member.service.clone();
                let attached = self.attach(container, member).await;
                attached.map_err(|refusal| Refusal { error: format!("{service}: {}", refusal.error), ..refusal })
            }
            None => Ok(()),
        }
    }

    /// The container, and what it belongs to if it is ours.
    async fn member(&self, id: &ContainerId) -> Result<Option<(Container, Member)>, Refusal> {
        // It may have ended, and then there is nothing to be said of it.
        let Ok(container) = self.inspect(id).await else { return Ok(None) };
        // What is wrong with the configuration was said when the agent started.
        let sources = Config::load(&self.state).map(|config| config.containers.sources).unwrap_or_default();
        let mut labels = container.config.labels.clone().unwrap_or_default();
        if [SERVICE, CLIENT].iter().any(|name| labels.contains_key(*name)) {
            let image: Image =
                api::get(&self.socket, &format!("/images/{}/json", container.image)).await.map_err(|e| {
                    let what = format!(
                        "image {} can't be asked for, so nobody knows who gave mesh.service: {e}",
                        container.image
                    );
                    Refusal::new(what, "is the image still there? Then start the container again")
                })?;
            let of_image = image.config.and_then(|config| config.labels).unwrap_or_default();
            leave_out_the_images(&mut labels, &of_image);
        }
        Ok(member(&labels, &sources)?.map(|member| (container, member)))
    }

    async fn attach(&self, container: Container, member: Member) -> Result<(), Refusal> {
        let Container { id, state: State { pid }, hosts_path, .. } = container;
        if pid <= 0 {
            return Ok(());
        }
        let opened = spawn_blocking(move || open(pid, hosts_path)).await;
        let (namespace, hosts, process) = opened.map_err(|e| Refusal::bare(e.to_string()))??;
        // Its number may have been given to another process before we held on to that.
        if !self.inspect(&id).await.is_ok_and(|now| now.state.pid == pid) {
            return Ok(());
        }
        let Member { service, client } = member;
        let start = Start { id, service, client, namespace: Arc::new(namespace), hosts, life: Life::Process(process) };
        self.containers.attach(start).await.map(drop)
    }

    async fn inspect(&self, id: &ContainerId) -> io::Result<Container> {
        let value: Value = api::get(&self.socket, &format!("/containers/{id}/json")).await?;
        Ok(serde_json::from_value(value)?)
    }
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
