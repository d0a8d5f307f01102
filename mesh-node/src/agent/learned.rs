//! The endpoints at which other runners were reached, remembered so that a restarted agent reaches them at once.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use mesh_proto::RunnerId;
use tokio::sync::mpsc;

use crate::state::StateDir;

pub(crate) const FILE: &str = "endpoints.json";
/// Changes within this time are written together.
const DELAY: Duration = Duration::from_secs(1);

type Endpoints = BTreeMap<RunnerId, SocketAddr>;

/// What was learned in earlier runs. A damaged file counts as none.
pub(crate) fn load(state: &StateDir) -> Vec<(RunnerId, SocketAddr)> {
    read(state).into_iter().collect()
}

fn read(state: &StateDir) -> Endpoints {
    match state.read::<Endpoints>(FILE) {
        Ok(known) => known.unwrap_or_default(),
        Err(error) => {
            tracing::warn!(%error, "other runners are looked for anew");
            Endpoints::new()
        }
    }
}

/// Remembers what is learned, until the sender is dropped.
pub(crate) async fn keep(state: StateDir, mut learned: mpsc::UnboundedReceiver<(RunnerId, SocketAddr)>) {
    let mut known = read(&state);
    while let Some((runner, endpoint)) = learned.recv().await {
        let mut news = known.insert(runner, endpoint) != Some(endpoint);
        let more = async {
            while let Some((runner, endpoint)) = learned.recv().await {
                news |= known.insert(runner, endpoint) != Some(endpoint);
            }
        };
        let _ = tokio::time::timeout(DELAY, more).await;
        if news && let Err(error) = state.remember(FILE, &known) {
            tracing::warn!(%error, "cannot remember where other runners are");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::Scratch;

    #[tokio::test]
    async fn what_is_learned_is_there_after_a_restart() {
        let scratch = Scratch::new("learned");
        let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
        std::fs::write(scratch.0.join(FILE), "garbage").unwrap();
        assert!(load(&state).is_empty());
        let (sender, receiver) = mpsc::unbounded_channel();
        sender.send((RunnerId(2), "192.0.2.1:1".parse().unwrap())).unwrap();
        sender.send((RunnerId(2), "192.0.2.2:1".parse().unwrap())).unwrap();
        drop(sender);
        keep(state.clone(), receiver).await;
        assert_eq!(load(&state), [(RunnerId(2), "192.0.2.2:1".parse().unwrap())]);
    }
}
