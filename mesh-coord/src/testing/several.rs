//! Several coordinators within a test's process, on a real etcd.

use std::{sync::Arc, time::Duration};

use mesh_model::record::MemberId;
use mesh_proto::PrivateKey;
use tokio::time::{Instant, sleep};

use super::{Ahead, Ground, World};
use crate::{
    coordinator::{Choice, Coordinator},
    peers::{Card, Peers},
    random,
    relay_secrets::RelaySecrets,
    store::EtcdLab,
    watch,
};

/// How long a wait for what one coordinator tells the other may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Two coordinators on an etcd of their own, which know each other.
pub(crate) async fn two() -> (EtcdLab, World, World) {
    let etcd = EtcdLab::start();
    let one = World::among(&etcd, None).await;
    let other = World::among(&etcd, Some(&one)).await;
    one.coordinator.refresh().await.unwrap();
    // The first has to hear of the second.
    until(&one, "two coordinators", || one.coordinator.peers.living().len() >= 2).await;
    (etcd, one, other)
}

/// Waits until this holds at a coordinator, which may not end before.
pub(crate) async fn until(world: &World, what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        let (revision, _) = world.coordinator.visit(|core| core.standing()).await.unwrap();
        let living = world.coordinator.peers.living();
        assert!(began.elapsed() < PATIENCE, "{what}: at revision {revision}, with {living:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

impl World {
    /// One of several coordinators on an etcd, with the keys of another one if there is one.
    pub(crate) async fn among(etcd: &EtcdLab, other: Option<&Self>) -> Self {
        let ground = Ground::new(other.map(|other| &other.data));
        let (clocks, me) = (Ahead::default(), MemberId(random::number().unwrap()));
        let reach = other.map(|other| other.url.to_string()).into_iter().chain([ground.url.to_string()]).collect();
        let card = Card::new("alpha".to_owned(), vec![], reach, ground.identity.fingerprint);
        let text = serde_json::to_vec(&card).unwrap();
        let (store, seat, seated) = etcd.open().await.join(me, text).await.unwrap();
        let (coordinator, _) = Coordinator::start_by(clocks.clone(), store, Choice::default()).await.unwrap();
        let secrets = RelaySecrets::open(&ground.data).unwrap();
        let peers = Peers::new(me, ground.identity.fingerprint, &PrivateKey::from_bytes([42; 32]));
        let coordinator = coordinator.with_peers(Arc::new(peers)).with_secrets(secrets).await.unwrap();
        watch::members::take_in(&coordinator, &seat, seated).await;
        let mut world = ground.serve(coordinator.clone(), clocks);
        world.tasks.spawn(watch::contact::watch(coordinator.clone()));
        world.tasks.spawn(watch::members::follow(coordinator, seat, card));
        world
    }
}
