//! Takes each view to the data plane and to disk. Only then is it said to be in force: a right that was taken away and
//! confirmed so must not come back with a restart.

use std::{collections::VecDeque, sync::Arc};

use mesh_engine::Map;
use mesh_proto::{Revision, RunnerId, View, message::Have};
use tokio::{
    sync::{mpsc, watch},
    task::spawn_blocking,
};

use crate::{dataplane::Dataplane, state::StateDir};

/// The view, for the times when the coordinator is away.
pub(crate) const FILE: &str = "view.json";

/// The view of an earlier run. One that is damaged or somebody else's is as good as none: nothing is allowed by it.
pub(crate) fn load(state: &StateDir, runner: RunnerId) -> Option<Arc<View>> {
    match state.read::<View>(FILE) {
        Ok(view) => view.filter(|view| view.runner == runner).map(Arc::new),
        Err(error) => {
            tracing::warn!(%error, "going on without it until the coordinator is there");
            None
        }
    }
}

/// Applies views until nobody sends any.
pub(crate) async fn keep(
    state: StateDir,
    dataplane: Arc<Dataplane>,
    mut views: watch::Receiver<Option<Arc<View>>>,
    mut confirmed: mpsc::UnboundedReceiver<Revision>,
    applied: watch::Sender<Option<Have>>,
) {
    let mut order = Order::default();
    views.mark_changed();
    loop {
        tokio::select! {
            changed = views.changed() => {
                let Ok(()) = changed else { return };
                let view = views.borrow_and_update().clone();
                let Some(view) = view else { continue };
                order.given(Have { epoch: view.epoch, revision: view.revision });
                let (state, dataplane) = (state.clone(), Arc::clone(&dataplane));
                // On disk first: to an agent that starts with an older one, whoever is new since would seem gone, and
                // their connections with them.
                let written = spawn_blocking(move || {
                    let written = state.write(FILE, &*view);
                    dataplane.set_map(Map::compile(&view));
                    written
                });
                if let Ok(Err(error)) = written.await {
                    tracing::warn!(%error, "cannot keep the map: a restart while the coordinator is away would begin with an older one");
                }
            }
            Some(revision) = confirmed.recv() => {
                if let Some(have) = order.confirmed(revision) {
                    applied.send_replace(Some(have));
                }
            }
        }
    }
}

/// Which views the data plane was given and has not confirmed. It confirms in order, by revision alone.
#[derive(Debug, Default)]
struct Order(VecDeque<Have>);

impl Order {
    fn given(&mut self, have: Have) {
        self.0.push_back(have);
    }

    fn confirmed(&mut self, revision: Revision) -> Option<Have> {
        let at = self.0.iter().position(|have| have.revision == revision)?;
        self.0.drain(..=at).next_back()
    }
}

#[cfg(test)]
mod tests {
    use mesh_proto::Epoch;

    use super::*;

    #[test]
    fn confirmations_belong_to_the_epoch_that_was_given() {
        let have = |epoch: u8, revision| Have { epoch: Epoch([epoch; 16]), revision: Revision(revision) };
        let mut order = Order::default();
        [have(1, 7), have(1, 8), have(2, 7)].into_iter().for_each(|have| order.given(have));
        assert_eq!(order.confirmed(Revision(7)), Some(have(1, 7)));
        assert_eq!(order.confirmed(Revision(9)), None);
        assert_eq!(order.confirmed(Revision(7)), Some(have(2, 7)), "and the one before is out of date with it");
        assert_eq!(order.confirmed(Revision(8)), None);
    }
}
