//! Keeps the file that describes the CDI devices of mesh.

mod file;

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::Arc,
    time::Duration,
};

use mesh_proto::{ServicePath, message::Refusal};
use serde_json::Value;
use tokio::{task::spawn_blocking, time::sleep};

pub(crate) use self::file::{FILE, is_ours};

use super::Agent;
use crate::{callback::Hooks, config::Config, local::Foreign};

/// How often the coordinator is asked about services of deployments that have no instance here: views leave these out.
const AGAIN: Duration = Duration::from_secs(30);
/// The same while some are unknown: no container starts with their devices.
const SOON: Duration = Duration::from_secs(5);

/// Keeps it for these services until the agent ends. The file stays then, as instances do.
pub(super) async fn keep(agent: Arc<Agent>, services: Vec<ServicePath>) {
    let hooks = match Hooks::of(&agent.state) {
        Ok(hooks) => hooks,
        Err(error) => {
            tracing::warn!(%error, "there are no CDI devices");
            return;
        }
    };
    let mut views = agent.control.views();
    let mut known = spawn_blocking(|| ours().as_ref().map(file::variables)).await.ok().flatten().unwrap_or_default();
    let foreign = Config::load(&agent.state).map_or(Foreign::Set, |config| config.containers.foreign_variables.into());
    let (mut written, mut told) = (None, BTreeMap::new());
    loop {
        let mut devices = BTreeMap::new();
        for service in &services {
            match agent.names(service.clone()).await {
                Ok(names) => drop(known.insert(service.clone(), names.chosen(foreign))),
                // The last known variables go on, as views do.
                Err(error) if known.contains_key(service) => {
                    tracing::debug!(%service, %error, "the variables of its CDI device may be out of date");
                }
                Err(Refusal { error, hint }) => {
                    if told.get(service) != Some(&error) {
                        let hint = hint.as_deref().unwrap_or_default();
                        tracing::warn!(%service, error, hint, "no container starts with its CDI device");
                        told.insert(service.clone(), error);
                    }
                }
            }
            devices.insert(service.clone(), known.get(service).cloned());
        }
        let pause = if devices.values().all(Option::is_some) { AGAIN } else { SOON };
        let (content, left_out) = file::file(&devices, &hooks);
        if written.as_ref() != Some(&content) {
            for service in left_out {
                tracing::warn!(%service, "it has no CDI device: another service's is called as its would be");
            }
            let text = content.clone();
            match spawn_blocking(move || replace(&text)).await.unwrap_or_else(|e| Err(e.into())) {
                Ok(()) => written = Some(content),
                Err(error) => tracing::warn!(file = FILE, %error, "the CDI devices can't be written"),
            }
        }
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return },
            () = sleep(pause) => {}
        }
    }
}

/// Removes the file, if it is there and ours: it would promise devices that nothing provides.
pub(super) fn remove() {
    if ours().is_some() {
        // A process without the right to remove it hasn't written it either.
        let _ = fs::remove_file(FILE);
    }
}

/// The file as it is, if it is ours.
fn ours() -> Option<Value> {
    let file = serde_json::from_slice(&fs::read(FILE).ok()?).ok()?;
    is_ours(&file).then_some(file)
}

fn replace(file: &Value) -> io::Result<()> {
    let path = Path::new(FILE);
    // Modes as other vendors' files have them, whatever this process's umask: ordinary users' runtimes read it.
    let directory = path.parent().unwrap_or(path);
    if !directory.exists() {
        fs::create_dir_all(directory)?;
        fs::set_permissions(directory, Permissions::from_mode(0o755))?;
    }
    // Runtimes read every file of that directory whose name ends in .json.
    let next = path.with_extension("new");
    fs::write(&next, file.to_string())?;
    fs::set_permissions(&next, Permissions::from_mode(0o644))?;
    fs::rename(next, path)
}
