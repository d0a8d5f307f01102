//! Follows the containers that Docker starts.

use std::{path::PathBuf, sync::Arc, time::Duration};

use serde::Deserialize;
use tokio::{
    sync::Semaphore,
    task::{AbortHandle, spawn_blocking},
    time::{sleep, timeout},
};

use super::{
    api::{self, Api, ApiError},
    container::{Container, Opened, State, inspect, open, runs},
    error::DockerError,
    image,
    retry::{Attempts, Starts, Troubles},
};
use crate::{
    config::{Config, Sources},
    containers::{IMAGES_OWN, Member, leave_out_the_images, member},
    hint::Hint as _,
    instances::{Instances, Life, Start},
    local::ContainerId,
    state::StateDir,
};

/// The pause before the next look for a Docker that is absent or has ended.
const AGAIN: Duration = Duration::from_secs(2);

/// How long opening a container's files may take.
const OPENED: Duration = Duration::from_secs(5);

/// The number of containers attached at a time.
const AT_ONCE: usize = 16;

/// The filter for events.
const STARTS: &str = r#"{"type":{"container":true},"event":{"start":true}}"#;

/// An entry of a list of containers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
}

/// An event.
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

/// The outcome of attaching a container.
#[derive(Debug)]
enum Done {
    /// It is in the mesh.
    Attached,
    /// It is no member, or doesn't run.
    Nothing,
}

/// Starts to attach what Docker starts, by its API at this socket. Ends with the runtime, or when the handle aborts it.
pub(crate) fn watch(socket: PathBuf, instances: Instances, state: StateDir) -> AbortHandle {
    tokio::spawn(follow(socket, instances, state)).abort_handle()
}

async fn follow(socket: PathBuf, instances: Instances, state: StateDir) {
    let docker = Arc::new(Docker { socket, instances, state, places: Semaphore::new(AT_ONCE) });
    let mut troubles = Troubles::default();
    loop {
        let socket = docker.socket.display();
        match docker.follow(&mut troubles).await {
            Ok(()) => tracing::info!(%socket, "Docker has ended; its containers are attached when it is back"),
            // Many machines have no Docker.
            Err(error @ ApiError::Absent) => tracing::debug!(%socket, %error, "no Docker"),
            Err(error) if troubles.is_new(&error.to_string()) => {
                tracing::warn!(%socket, %error, "what Docker starts can't be followed; the agent retries")
            }
            Err(error) => tracing::debug!(%socket, %error, "what Docker starts can't be followed"),
        }
        sleep(AGAIN).await;
    }
}

#[derive(Debug)]
struct Docker {
    socket: PathBuf,
    instances: Instances,
    state: StateDir,
    places: Semaphore,
}

impl Docker {
    /// Follows Docker until it ends.
    async fn follow(self: &Arc<Self>, troubles: &mut Troubles) -> Result<(), ApiError> {
        let api = Api::find(&self.socket).await?;
        // First the events, then the list: a container that starts in between is in both.
        let mut events = api.follow(&format!("/events?filters={}", api::escape(STARTS))).await?;
        let running: Vec<Listed> = api.get("/containers/json").await?;
        tracing::info!(socket = %self.socket.display(), running = running.len(), "following what Docker starts");
        *troubles = Troubles::default();
        let mut starts = Starts::default();
        let mut look_after = |id: String| {
            // A valid identifier can't form a path to another place of the API.
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

    /// Attaches a container that has started, if it is a member. Most errors are temporary, so this retries as long as the container
    /// runs.
    async fn look_after(self: Arc<Self>, api: Api, id: ContainerId, mut attempts: Attempts) {
        loop {
            let Ok(place) = self.places.acquire().await else { return };
            let attached = self.try_attach(&api, &id).await;
            drop(place);
            let error = match attached {
                Ok(done) => {
                    if matches!(done, Done::Attached) && attempts.have_failed() {
                        tracing::info!(container = %id, "it is in the mesh now");
                    }
                    break;
                }
                Err(_) if !runs(&api, &id).await => break,
                Err(error) => error.refusal(),
            };
            // An error may also follow an earlier success.
            let hint = error.hint.as_deref().unwrap_or_default();
            let is_without = !self.holds(&id).await;
            if is_without && attempts.is_new(&error.error) {
                tracing::warn!(container = %id, %error, hint, "it runs without the mesh; the agent retries");
            } else {
                tracing::debug!(container = %id, %error, "the agent retries");
            }
            self.instances.waits(&id, is_without.then_some(error));
            if !attempts.next().await {
                // Another task handles a later start of it, or Docker has ended.
                break;
            }
        }
        self.instances.waits(&id, None);
    }

    async fn holds(&self, id: &ContainerId) -> bool {
        self.instances.containers().await.containers.contains(id)
    }

    async fn try_attach(&self, api: &Api, id: &ContainerId) -> Result<Done, DockerError> {
        match inspect(api, id).await? {
            Some(container) => self.attach(api, container).await,
            None => Ok(Done::Nothing),
        }
    }

    async fn attach(&self, api: &Api, container: Container) -> Result<Done, DockerError> {
        let Some(member) = self.member(api, &container).await? else { return Ok(Done::Nothing) };
        let service = member.service.clone();
        let attached = self.attach_member(api, container, member).await;
        attached.map_err(|error| DockerError::Member { service, error: Box::new(error) })
    }

    /// Its membership, if any.
    async fn member(&self, api: &Api, container: &Container) -> Result<Option<Member>, DockerError> {
        let config = Config::load(&self.state);
        // A container refused for an invalid configuration is attached when the configuration is corrected.
        let sources = Sources::possible(config.as_ref().map(|config| &config.containers));
        let mut labels = container.config.labels.clone().unwrap_or_default();
        // Most containers have no label that matters, neither their own nor their image's.
        if member(&labels, &sources) == Ok(None) {
            return Ok(None);
        }
        let of_image = image::labels(api, &container.image, container.image_manifest_descriptor.as_ref())
            .await
            .map_err(|error| DockerError::UnknownImage { image: container.image.clone(), error })?;
        leave_out_the_images(&mut labels, &of_image);
        let member = member(&labels, &sources);
        if member == Ok(None) {
            tracing::warn!(container = %container.id, "{IMAGES_OWN}");
            return Ok(None);
        }
        config?;
        Ok(member?.map(|member| member.with_environment(container.config.env.entries())))
    }

    /// Whether its resolv.conf is to have the resolver.
    fn wants_dns(&self, member: &Member) -> bool {
        member.dns.unwrap_or_else(|| Config::load(&self.state).is_ok_and(|config| config.containers.dns))
    }

    async fn attach_member(&self, api: &Api, container: Container, member: Member) -> Result<Done, DockerError> {
        let Container { id, state: State { pid }, hosts_path, resolv_conf_path, .. } = container;
        if pid <= 0 {
            return Ok(Done::Nothing);
        }
        // A hosts file whose file system doesn't answer must not delay other containers.
        let resolv = Some(resolv_conf_path).filter(|_| self.wants_dns(&member));
        let opened = timeout(OPENED, spawn_blocking(move || open(pid, hosts_path, resolv))).await;
        let opened = opened.map_err(|_| DockerError::HostsStalled)??;
        // The number may have been reused before the process was opened; or the container has ended, which is no error.
        if inspect(api, &id).await?.is_none_or(|now| now.state.pid != pid) {
            return Ok(Done::Nothing);
        }
        let Opened { namespace, hosts, unkept, resolv, process } = opened?;
        let Member { service, client, release, .. } = member;
        let (namespace, life) = (Arc::new(namespace), Life::Process(process));
        let start = Start { id, service, client, release, namespace, hosts, unkept, resolv, life };
        self.instances.attach_container(start).await?;
        Ok(Done::Attached)
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
