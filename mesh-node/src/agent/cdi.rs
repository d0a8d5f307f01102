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

/// How often the coordinator is asked about services of deployments that nothing runs of here: no view tells of these.
const AGAIN: Duration = Duration::from_secs(30);
/// The same while some are unknown: nothing starts with these.
const SOON: Duration = Duration::from_secs(5);

/// Keeps it for these services until the agent ends. It stays then, as instances do.
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
                // What was known of it is as good as what others go on with.
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

/// Takes the file away, if it is there and ours: nothing is to promise what nobody keeps.
pub(super) fn remove() {
    if ours().is_some() {
        // Without the right to do so there is nothing of ours in there either.
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
    // All of it as other vendors' programs make it, and ordinary users' runtimes read it, whatever this process's umask.
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
