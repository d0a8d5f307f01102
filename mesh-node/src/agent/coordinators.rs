//! The coordinators of which the agent was told while it was connected, beside those that it has joined by. They outlast
//! the agent, so that it finds its way back when all that it has joined by are gone. The key that it has pinned at its
//! join is what tells a coordinator: no coordinator can change that one.

use mesh_link::Url;
use mesh_proto::token::Fingerprint;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::state::StateDir;

pub(crate) const FILE: &str = "coordinators.json";

/// The file, version 1.
#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    /// The key of those that have told it. What others have told is of another mesh.
    fingerprint: Fingerprint,
    urls: Vec<Url>,
}

/// What was told in earlier runs. A damaged file counts as none.
pub(crate) fn load(state: &StateDir, fingerprint: Fingerprint) -> Vec<Url> {
    match state.read::<File>(FILE) {
        Ok(file) => {
            let ours = file.filter(|file| file.version == 1 && file.fingerprint == fingerprint);
            ours.map(|file| file.urls).unwrap_or_default()
        }
        Err(error) => {
            tracing::warn!(%error, "only the coordinators that this machine has joined by are known");
            Vec::new()
        }
    }
}

/// Remembers what is told, until the stream's task ends.
pub(crate) async fn keep(state: StateDir, fingerprint: Fingerprint, mut told: watch::Receiver<Vec<Url>>) {
    let mut known = load(&state, fingerprint);
    loop {
        let urls = told.borrow_and_update().clone();
        if urls != known {
            let shown = urls.iter().map(Url::to_string).collect::<Vec<_>>().join(", ");
            tracing::info!(urls = shown, "told of coordinators");
            known.clone_from(&urls);
            if let Err(error) = state.remember(FILE, &File { version: 1, fingerprint, urls }) {
                tracing::warn!(%error, "cannot remember where coordinators are");
            }
        }
        if told.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::Scratch;

    #[tokio::test]
    async fn what_was_told_is_there_after_a_restart_and_is_nothing_to_another_mesh() {
        let scratch = Scratch::new("coordinators");
        let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
        let (ours, other) = (Fingerprint([1; 32]), Fingerprint([2; 32]));
        std::fs::write(scratch.0.join(FILE), "garbage").unwrap();
        assert_eq!(load(&state, ours), []);
        let (teller, told) = watch::channel(vec![]);
        teller.send_replace(vec!["https://b:7443".parse().unwrap()]);
        let keeping = tokio::spawn(keep(state.clone(), ours, told));
        while load(&state, ours) != ["https://b:7443".parse().unwrap()] {
            tokio::task::yield_now().await;
        }
        drop(teller);
        keeping.await.unwrap();
        assert_eq!(load(&state, other), []);
    }
}
