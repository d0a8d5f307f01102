//! Keeps the file that says what our CDI devices bring.

use std::{collections::BTreeMap, fs, io, path::Path, sync::Arc, time::Duration};

use mesh_proto::{ServicePath, message::Refusal};
use serde_json::Value;
use tokio::{task::spawn_blocking, time::sleep};

use super::Agent;
use crate::oci::{self, cdi};

/// How often the coordinator is asked about services of deployments that nothing runs of here: no view tells of these.
const AGAIN: Duration = Duration::from_secs(30);

/// Keeps it for these services until the agent ends. It stays then, as instances do.
pub(super) async fn keep(agent: Arc<Agent>, services: Vec<ServicePath>) {
    let hooks = match oci::own_hooks(&agent.state) {
        Ok(hooks) => hooks,
        Err(error) => {
            tracing::warn!(%error, "there are no CDI devices");
            return;
        }
    };
    let mut views = agent.control.views();
    let (mut known, mut written, mut told) = (BTreeMap::new(), None, BTreeMap::new());
    loop {
        for service in &services {
            match agent.names(service.clone()).await {
                Ok(names) => drop(known.insert(service.clone(), names.variables)),
                // What was known of it is as good as what others go on with.
                Err(error) if known.contains_key(service) => {
                    tracing::debug!(%service, %error, "the variables of its CDI device may be out of date");
                }
                // A runtime says no more than that there is no such device.
                Err(Refusal { error, hint }) => {
                    if told.get(service) != Some(&error) {
                        tracing::warn!(%service, error, hint = hint.as_deref().unwrap_or_default(), "it has no CDI device");
                        told.insert(service.clone(), error);
                    }
                }
            }
        }
        let (file, left_out) = cdi::file(&known, &hooks);
        if written.as_ref() != Some(&file) {
            for service in left_out {
                tracing::warn!(%service, "it has no CDI device: another service's is called as its would be");
            }
            let text = file.clone();
            match spawn_blocking(move || replace(&text)).await.unwrap_or_else(|e| Err(e.into())) {
                Ok(()) => written = Some(file),
                Err(error) => tracing::warn!(file = cdi::FILE, %error, "the CDI devices can't be written"),
            }
        }
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return },
            () = sleep(AGAIN) => {}
        }
    }
}

/// Takes the file away, if it is there and ours: nothing is to promise what nobody keeps.
pub(super) fn remove() {
    let ours = fs::read(cdi::FILE).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
    if ours.is_some_and(|file| cdi::is_ours(&file)) {
        // Without the right to do so there is nothing of ours in there either.
        let _ = fs::remove_file(cdi::FILE);
    }
}

fn replace(file: &Value) -> io::Result<()> {
    let path = Path::new(cdi::FILE);
    fs::create_dir_all(path.parent().unwrap_or(path))?;
    // Runtimes read every file of that directory whose name ends in .json.
    let next = path.with_extension("new");
    fs::write(&next, file.to_string())?;
    fs::rename(next, path)
}
