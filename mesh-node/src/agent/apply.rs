//! Applies each view: writes it to disk and passes it to the data plane. Only then is it confirmed, so that a revoked right can't
//! return with a restart.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use mesh_dns::Directory;
use mesh_engine::Map;
use mesh_proto::{Record, Revision, RunnerId, View, message::Have};
use tokio::{
    sync::{mpsc, watch},
    task::{JoinError, spawn_blocking},
    time::{Instant, sleep_until},
};

use crate::{attach, control::Link, dataplane::Dataplane, state::StateDir};

/// The view, for the times when the coordinator is away.
pub(crate) const FILE: &str = "view.json";

/// The view of an earlier run. One that is damaged or of another runner counts as none: nothing is allowed by it.
pub(crate) fn load(state: &StateDir, runner: RunnerId) -> Option<Arc<View>> {
    match state.read::<View>(FILE) {
        Ok(view) => view.filter(|view| view.runner == runner).map(Arc::new),
        Err(error) => {
            tracing::warn!(%error, "going on without it until the coordinator is there");
            None
        }
    }
}

/// Warns when the range of a new view clashes with this machine's routes.
pub(crate) async fn warn_of_clashes(mut views: watch::Receiver<Option<Arc<View>>>) {
    let range = |view: &Option<Arc<View>>| view.as_ref().map(|view| view.network.range);
    let mut before = range(&views.borrow_and_update());
    while views.changed().await.is_ok() {
        let Some(now) = range(&views.borrow_and_update()) else { continue };
        if before.replace(now).is_some_and(|before| before != now) {
            attach::warn_of_clash(now).await;
        }
    }
}

/// The pause before a failed write of the view is retried.
const RETRY: Duration = Duration::from_secs(5);

/// Applies views as long as they come.
pub(crate) async fn keep(
    state: StateDir,
    dataplane: Arc<Dataplane>,
    mut views: watch::Receiver<Option<Arc<View>>>,
    mut links: watch::Receiver<Link>,
    mut confirmed: mpsc::UnboundedReceiver<Revision>,
    applied: watch::Sender<Option<Have>>,
) {
    let (mut order, mut in_force, mut kept) = (Order::default(), None, None);
    let (mut alone, mut retry) = (false, None);
    // Of this view and of the one before, so that no table is freed by the data plane.
    let (mut directory, mut _former) = (None::<Arc<Directory>>, None);
    views.mark_changed();
    loop {
        tokio::select! {
            changed = views.changed() => {
                let Ok(()) = changed else { return };
                let view = views.borrow_and_update().clone();
                let Some(view) = view else { continue };
                let have = Have { epoch: view.epoch, revision: view.revision };
                order.given(have);
                let (state, dataplane, before) = (state.clone(), Arc::clone(&dataplane), directory.clone());
                // On disk first: an agent that starts with an older view would end the connections of instances that are new
                // since.
                let written = spawn_blocking(move || {
                    let written = state.write(FILE, &*view);
                    dataplane.set_map(Map::compile(&view));
                    let directory = Arc::new(Directory::of(&view, before.as_deref()));
                    dataplane.set_directory(Arc::clone(&directory));
                    (written, directory)
                });
                let written = written.await.map(|(written, made)| {
                    _former = directory.replace(made);
                    written
                });
                retry = keep_or_retry(written, have, &mut kept);
            }
            () = sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => {
                let view = views.borrow().clone();
                let Some(view) = view else { continue };
                let (have, state) = (Have { epoch: view.epoch, revision: view.revision }, state.clone());
                let written = spawn_blocking(move || state.write(FILE, &*view));
                retry = keep_or_retry(written.await, have, &mut kept);
            }
            Some(revision) = confirmed.recv() => in_force = order.confirmed(revision).or(in_force),
            Ok(()) = links.changed() => {
                let unknown = links.borrow_and_update().unknown;
                let view = views.borrow().clone();
                if std::mem::replace(&mut alone, unknown) != unknown && let Some(view) = view {
                    // Other runners drop our packets: connections to them would hang.
                    dataplane.set_map(Map::compile(&if unknown { without_others(&view) } else { View::clone(&view) }));
                }
            }
        }
        let holds = |have: &Have, at: &Have| have.epoch == at.epoch && have.revision >= at.revision;
        if let (Some(at), Some(have)) = (&in_force, &kept)
            && holds(have, at)
        {
            applied.send_if_modified(|before| before.replace(*at) != Some(*at));
        }
    }
}

/// Notes that a view is on disk; if it isn't, returns when to try again.
fn keep_or_retry(written: Result<io::Result<()>, JoinError>, have: Have, kept: &mut Option<Have>) -> Option<Instant> {
    match written.unwrap_or_else(|panic| Err(panic.into())) {
        Ok(()) => {
            *kept = Some(have);
            None
        }
        Err(error) => {
            tracing::warn!(%error, "cannot keep the map: it is in force, but a restart while the coordinator is away would \
                begin with an older one, so it is not said to be applied; trying again");
            Some(Instant::now() + RETRY)
        }
    }
}

/// A view in which there is no other runner.
fn without_others(view: &View) -> View {
    let mut alone = View::empty(view.epoch, view.revision, view.runner, view.network);
    let ours = |record: &&Record| !matches!(record, Record::Runner(runner) if runner.id != view.runner);
    view.records().filter(ours).for_each(|record| alone.put(record.clone()));
    alone
}

/// The views that the data plane was sent and has not confirmed. It confirms them in order, by revision alone.
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
    use std::net::Ipv4Addr;

    use mesh_proto::{
        Abilities, Epoch, InstanceId, PrivateKey, Range, ServiceId,
        view::{Instance, InstanceState, Network, Runner},
    };

    use super::*;
    use crate::{dataplane::DataEvent, state::tests::Scratch};

    fn view(revision: u64) -> View {
        let network = Network { range: Range::DEFAULT, mtu: 1344 };
        View::empty(Epoch([1; 16]), Revision(revision), RunnerId(1), network)
    }

    #[tokio::test]
    async fn what_is_not_on_disk_is_not_said_to_be_in_force() {
        let scratch = Scratch::new("apply");
        let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
        // Nothing can be written where this stands.
        let obstacle = scratch.0.join(format!("{FILE}.next"));
        std::fs::create_dir(&obstacle).unwrap();
        let key = PrivateKey::from_bytes([1; 32]);
        let (dataplane, mut events) = Dataplane::start(key, 0, 1, vec![], Box::new(vec![0; 4096])).unwrap();
        let (_views, views) = watch::channel(Some(Arc::new(view(7))));
        let (_links, links) = watch::channel(Link::default());
        let (confirmed, confirmations) = mpsc::unbounded_channel();
        let (applied_sender, mut applied) = watch::channel(None);
        tokio::spawn(keep(state.clone(), Arc::new(dataplane), views, links, confirmations, applied_sender));
        let Some(DataEvent::Applied(revision)) = events.recv().await else { panic!("no confirmation") };
        confirmed.send(revision).unwrap();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(*applied.borrow_and_update(), None);
        std::fs::remove_dir(&obstacle).unwrap();
        applied.changed().await.unwrap();
        assert_eq!(*applied.borrow(), Some(Have { epoch: Epoch([1; 16]), revision: Revision(7) }));
        assert_eq!(load(&state, RunnerId(1)).unwrap().revision, Revision(7));
    }

    #[test]
    fn without_the_others_their_instances_are_nowhere() {
        let mut both = view(7);
        for id in [1, 2] {
            let public_key = PrivateKey::from_bytes([id as u8; 32]).public();
            let (name, provider) = (format!("r{id}").parse().unwrap(), "here".parse().unwrap());
            let runner = Runner {
                id: RunnerId(id),
                name,
                provider,
                public_key,
                endpoints: vec![],
                silent: false,
                can: Abilities::NONE,
                reflexive: vec![],
                relayed: vec![],
            };
            both.put(Record::Runner(Arc::new(runner)));
            both.put(Record::Instance(Arc::new(Instance {
                id: InstanceId(id),
                service: ServiceId(1),
                runner: RunnerId(id),
                address: Ipv4Addr::new(100, 112, 0, id as u8),
                state: InstanceState::Live,
                release: None,
            })));
        }
        let alone = without_others(&both);
        assert_eq!((alone.revision, alone.runners().count(), alone.instances().count()), (Revision(7), 1, 2));
        assert!(alone.runner(RunnerId(2)).is_none());
    }

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
