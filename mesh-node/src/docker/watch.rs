//! Follows what Docker starts.

use std::{path::PathBuf, sync::Arc, time::Duration};

use mesh_proto::message::Refusal;
use serde::Deserialize;
use tokio::{
    sync::Semaphore,
    task::{AbortHandle, spawn_blocking},
    time::{sleep, timeout},
};

use super::{
    api::{self, Api, ApiError},
    container::{Container, Opened, State, inspect, open, runs},
    image,
    retry::{Attempts, Starts, Troubles},
};
use crate::{
    config::{Config, Sources},
    containers::{ContainerId, Containers, IMAGES_OWN, Life, Member, Start, leave_out_the_images, member},
    state::StateDir,
};

/// How soon we look again for a Docker that is not there, or has gone.
const AGAIN: Duration = Duration::from_secs(2);

/// How long it may take to open what a container is attached by.
const OPENED: Duration = Duration::from_secs(5);

/// How many containers are looked at at a time.
const AT_ONCE: usize = 16;

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

/// What has come of a container.
#[derive(Debug)]
enum Done {
    /// It is in the mesh.
    Attached,
    /// It is none of ours, or doesn't run.
    Nothing,
}

/// Starts to attach what Docker starts, by its API at this socket. Ends with the runtime, or when the handle aborts it.
pub(crate) fn watch(socket: PathBuf, containers: Containers, state: StateDir) -> AbortHandle {
    tokio::spawn(follow(socket, containers, state)).abort_handle()
}

async fn follow(socket: PathBuf, containers: Containers, state: StateDir) {
    let docker = Arc::new(Docker { socket, containers, state, places: Semaphore::new(AT_ONCE) });
    let mut troubles = Troubles::default();
    loop {
        let socket = docker.socket.display();
        match docker.follow(&mut troubles).await {
            Ok(()) => tracing::info!(%socket, "Docker has ended; what it starts is attached when it is back"),
            // There need not be one.
            Err(error @ ApiError::Absent) => tracing::debug!(%socket, %error, "no Docker"),
            Err(error) if troubles.is_new(&error.to_string()) => {
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
        let mut starts = Starts::default();
        let mut look_after = |id: String| {
            // What comes from elsewhere leads to no other place of the API.
            let Ok(id) = id.parse::<ContainerId>() else { return };
            let attempts = starts.add(id.clone());
            tokio::spawn(Arc::clone(self).look_after(api.clone(), id, attempts));
        };
        running.into_iter().for_each(|container| look_after(container.id));
        while let Some(event) = events.next::<Event>().await? {
            look_after(event.actor.id);
        }
        Ok(())
    }

    /// Attaches a container that has started, if it is one of ours. What stands in the way may go, so it is tried for as long as
    /// the container runs.
    async fn look_after(self: Arc<Self>, api: Api, id: ContainerId, mut attempts: Attempts) {
        loop {
            let Ok(place) = self.places.acquire().await else { return };
            let attached = self.try_attach(&api, &id).await;
            drop(place);
            let refusal = match attached {
                Ok(done) => {
                    if matches!(done, Done::Attached) && attempts.have_failed() {
                        tracing::info!(container = %id, "it is in the mesh now");
                    }
                    break;
                }
                Err(_) if !runs(&api, &id).await => break,
                Err(refusal) => refusal,
            };
            let Refusal { error, hint } = &refusal;
            // It may have been attached before, and what stands in the way have come since.
            if !self.holds(&id) && attempts.is_new(error) {
                tracing::warn!(container = %id, error, hint, "it runs without the mesh; it is tried again and again");
            } else {
                tracing::debug!(container = %id, error, "it is tried again and again");
            }
            self.containers.waits(&id, (!self.holds(&id)).then_some(refusal));
            if !attempts.next().await {
                // Another start of it is looked after, or Docker has ended.
                break;
            }
        }
        self.containers.waits(&id, None);
    }

    fn holds(&self, id: &ContainerId) -> bool {
        self.containers.list().containers.contains(id)
    }

    async fn try_attach(&self, api: &Api, id: &ContainerId) -> Result<Done, Refusal> {
        match inspect(api, id).await? {
            Some(container) => self.attach(api, container).await,
            None => Ok(Done::Nothing),
        }
    }

    async fn attach(&self, api: &Api, container: Container) -> Result<Done, Refusal> {
        let Some(member) = self.member(api, &container).await? else { return Ok(Done::Nothing) };
        let service = member.service.clone();
        let attached = self.attach_member(api, container, member).await;
        attached.map_err(|refusal| Refusal { error: format!("{service}: {}", refusal.error), ..refusal })
    }

    /// What it belongs to, if it is ours.
    async fn member(&self, api: &Api, container: &Container) -> Result<Option<Member>, Refusal> {
        let config = Config::load(&self.state);
        // Who is refused because the configuration is wrong is attached when it is put right.
        let sources = Sources::possible(config.as_ref().map(|config| &config.containers));
        let mut labels = container.config.labels.clone().unwrap_or_default();
        // Most containers ask for nothing, whoever gave them their labels.
        if member(&labels, &sources) == Ok(None) {
            return Ok(None);
        }
        let of_image =
            image::labels(api, &container.image, container.image_manifest_descriptor.as_ref()).await.map_err(|e| {
                let image = &container.image;
                let what = format!("its image {image} can't be asked for, so nobody knows who gave its labels: {e}");
                Refusal::new(what, "is the image still there?")
            })?;
        leave_out_the_images(&mut labels, &of_image);
        let member = member(&labels, &sources);
        if member == Ok(None) {
            tracing::warn!(container = %container.id, "{IMAGES_OWN}");
            return Ok(None);
        }
        config?;
        member
    }

    async fn attach_member(&self, api: &Api, container: Container, member: Member) -> Result<Done, Refusal> {
        let Container { id, state: State { pid }, hosts_path, .. } = container;
        if pid <= 0 {
            return Ok(Done::Nothing);
        }
        // Others are not to wait for a hosts file whose file system doesn't answer.
        let opened = timeout(OPENED, spawn_blocking(move || open(pid, hosts_path))).await;
        let opened = opened.map_err(|_| Refusal::bare("the file system of its hosts file doesn't answer"))?;
        let opened = opened.map_err(|e| Refusal::bare(e.to_string()))?;
        // Its number may have been given to another process before we held on to that; or it has ended, which is no error.
        if inspect(api, &id).await?.is_none_or(|now| now.state.pid != pid) {
            return Ok(Done::Nothing);
        }
        let Opened { namespace, hosts, unkept, process } = opened?;
        let Member { service, client } = member;
        let (namespace, life) = (Arc::new(namespace), Life::Process(process));
        let start = Start { id, service, client, namespace, hosts, unkept, life };
        self.containers.attach(start).await.map(|_| Done::Attached)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_read_the_same_by_every_version() {
        for text in [
            r#"{"status":"start","id":"x","Type":"container","Action":"start","Actor":{"ID":"x","Attributes":{}},"time":1}"#,
            r#"{"Type":"container","Action":"start","Actor":{"ID":"x","Attributes":{}},"time":1}"#,
        ] {
            assert_eq!(serde_json::from_str::<Event>(text).unwrap().actor.id, "x");
        }
    }
}
