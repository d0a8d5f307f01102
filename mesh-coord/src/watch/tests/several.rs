//! Two coordinators on one etcd.

use std::{collections::BTreeSet, time::Duration};

use mesh_link::{Method, RequestError};
use mesh_model::{Admin, AdminCommand, Command, NewRelay};
use mesh_proto::{
    Revision,
    message::{Ask, Cause, Down, Up},
};
use tokio::time::sleep;

use crate::{
    api::{MemberState, Members},
    peers::{MISDIRECTED, Runners, Settled, To},
    relay_secrets,
    testing::{Agent, World, file, label, two, until},
};

async fn begin(world: &World, credential: &str, process: u64) -> Agent {
    let mut agent = world.connect(credential).await.unwrap();
    agent.process = Some(process);
    agent.begin(None, vec![]).await;
    agent
}

/// An agent with its first view, which it has applied.
async fn connected(world: &World, credential: &str, process: u64) -> Agent {
    world.coordinator.refresh().await.unwrap();
    let mut agent = begin(world, credential, process).await;
    assert!(matches!(agent.hear().await.unwrap(), Down::Welcome { .. }));
    agent.news().await;
    agent.applied().await;
    agent
}

#[tokio::test]
async fn a_coordinator_that_has_lost_its_place_takes_it_again_and_goes_on_by_itself() {
    let (etcd, one, other) = two().await;
    for name in ["shop", "api"] {
        etcd.end_leases();
        // Its commit waits for that: it would be refused otherwise.
        one.deploy(name, "acme", &["db"]).await;
    }
    other.coordinator.refresh().await.unwrap();
    let known = other.coordinator.visit(|core| core.state.deployment_named(&label("api")).is_some()).await.unwrap();
    assert!(known);
    assert!(
        etcd.ctl(&["get", "--prefix", "--keys-only", "mesh/member/"]).contains(&one.coordinator.peers.me.to_string())
    );
}

async fn takeovers(world: &World) -> usize {
    world.coordinator.refresh().await.unwrap();
    let audit = world.coordinator.visit(|core| core.state.audit(&Admin::socket(0), 100)).await.unwrap();
    audit.iter().filter(|entry| entry.action == "stream-taken-over").count()
}

#[tokio::test]
async fn of_two_streams_of_a_runner_the_one_that_began_last_counts_wherever_it_is() {
    let (_etcd, one, other) = two().await;
    one.deploy("shop", "acme", &["db"]).await;
    let credential = one.runner("r1").await;
    let mut first = connected(&one, &credential, 1).await;
    let (instance, _) = first.attach("shop/db").await;
    let mut second = connected(&other, &credential, 1).await;
    let ended = loop {
        match first.hear().await {
            Ok(_) => {}
            Err(why) => break why,
        }
    };
    assert!(ended.contains("a newer stream of this runner took over"), "{ended}");
    let truth = other.truth(&second).await;
    assert!(truth.instance(instance).is_none(), "its hello names no instance, so that one has ended");
    second.attach("shop/db").await;
    assert_eq!(takeovers(&one).await, 0, "it is the same process");
    for world in [&one, &other] {
        world.coordinator.refresh().await.unwrap();
        let runner = second.view.as_ref().unwrap().runner;
        assert!(world.coordinator.visit(move |core| core.sessions.is_connected(runner)).await.unwrap());
    }
}

#[tokio::test]
async fn a_copy_of_a_machine_is_refused_though_the_first_is_at_another_coordinator() {
    let (_etcd, one, other) = two().await;
    let credential = one.runner("r1").await;
    let mut first = connected(&one, &credential, 1).await;
    other.coordinator.refresh().await.unwrap();
    let mut copy = begin(&other, &credential, 2).await;
    let heard = tokio::select! {
        heard = copy.hear() => heard.unwrap(),
        // It answers, as always.
        end = async { loop { if let Err(why) = first.hear().await { break why } } } => panic!("the first ended: {end}"),
    };
    assert!(matches!(heard, Down::Refused { cause: Cause::Copy, .. }), "{heard:?}");
    first.ask(Ask::Lookup { service: "shop/db".parse().unwrap() }).await.unwrap_err();
    assert_eq!(takeovers(&one).await, 0);
}

#[tokio::test]
async fn who_waits_at_one_waits_for_the_runners_of_the_other() {
    let (_etcd, one, other) = two().await;
    one.deploy("shop", "acme", &["db"]).await;
    let credential = one.runner("r1").await;
    let mut agent = connected(&other, &credential, 1).await;
    let (_, revision) = agent.attach("shop/db").await;
    one.coordinator.refresh().await.unwrap();
    let wait = async |patience| {
        let deployment = label("shop");
        one.coordinator.wait_for_deployment(deployment, revision, Duration::from_secs(patience)).await.unwrap()
    };
    assert_eq!(wait(0).await, [label("r1")]);
    assert_eq!(wait(1).await, [label("r1")], "it has not confirmed");
    let (pending, ()) = tokio::join!(wait(20), async {
        while agent.view.as_ref().unwrap().revision < revision {
            agent.news().await;
        }
        agent.applied().await;
    });
    assert!(pending.is_empty(), "{pending:?}");
    // It goes without having confirmed what comes now.
    let files = vec![file("shop", "acme", &[])];
    one.order(AdminCommand::Apply { files, dry_run: false, force: true, prune: None }).await;
    let revision = one.coordinator.visit(|core| core.state.revision()).await.unwrap();
    other.coordinator.refresh().await.unwrap();
    drop(agent);
    let deployment = label("shop");
    let pending = one.coordinator.wait_for_deployment(deployment, revision, Duration::from_secs(1)).await.unwrap();
    assert_eq!(pending, [label("r1")]);
    // It owes what was taken from it, and nothing else.
    one.deploy("apart", "acme", &["web"]).await;
    let revision = one.coordinator.visit(|core| core.state.revision()).await.unwrap();
    assert_eq!(one.coordinator.wait_for_deployment(label("apart"), revision, Duration::ZERO).await.unwrap(), []);
}

#[tokio::test]
async fn only_another_coordinator_is_answered_and_only_who_is_meant_answers() {
    let (_etcd, one, other) = two().await;
    let credential = one.runner("r1").await;
    let what = Settled {
        epoch: one.coordinator.visit(|core| core.sessions.epoch()).await.unwrap(),
        revision: Revision(1),
        runners: BTreeSet::new(),
        milliseconds: 0,
    };
    let meant = To { member: one.coordinator.peers.me, what: &what };
    let ask = async |world: &World, bearer: Option<&str>| {
        let asked = world.request::<Runners>(Method::POST, "/v1/peer/settled", bearer, Some(&meant)).await;
        asked.map_err(|error| match error {
            RequestError::Refused { status, .. } => status,
            RequestError::Lost(why) => panic!("{why}"),
        })
    };
    let proof = crate::peers::bearer(&mesh_proto::PrivateKey::from_bytes([42; 32]));
    let wrong = crate::peers::bearer(&mesh_proto::PrivateKey::from_bytes([43; 32]));
    for stranger in [None, Some("x"), Some(&*credential), Some(&**wrong)] {
        assert_eq!(ask(&one, stranger).await.unwrap_err(), 401);
    }
    ask(&one, Some(&proof)).await.unwrap();
    assert_eq!(ask(&other, Some(&proof)).await.unwrap_err(), MISDIRECTED);
    // One that serves alone has no colleagues.
    let alone = World::new().await;
    assert_eq!(ask(&alone, Some(&proof)).await.unwrap_err(), 401);
}

#[tokio::test]
async fn each_tells_of_all_coordinators() {
    let (_etcd, one, other) = two().await;
    let credential = one.runner("r1").await;
    let _agent = connected(&other, &credential, 1).await;
    let members =
        async |world: &World| world.admin::<Members>(Method::GET, "members", None::<&()>).await.unwrap().members;
    for world in [&one, &other] {
        loop {
            let all = members(world).await;
            assert_eq!(all.len(), 2);
            assert!(all.iter().all(|member| member.state == MemberState::Fresh), "{all:?}");
            let at = |id| all.iter().find(|member| member.id == id).unwrap().runners;
            if (at(one.coordinator.peers.me), at(other.coordinator.peers.me)) == (0, 1) {
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
    let alone = World::new().await;
    let all = members(&alone).await;
    assert_eq!((all.len(), all[0].state), (1, MemberState::Fresh));
}

#[tokio::test]
async fn the_secret_of_a_relay_comes_to_the_other_coordinator() {
    let (_etcd, one, other) = two().await;
    let secret = relay_secrets::draw().unwrap();
    let handle = one.coordinator.relay_secrets.keep(secret.clone()).unwrap();
    let public = serde_json::from_value(serde_json::json!({ "udp": ["203.0.113.9:3478"] })).unwrap();
    let relay = NewRelay { name: label("fra-1"), public };
    let command = Command::AddRelay { by: Admin::socket(0), relay, secret: handle };
    one.coordinator.submit(command).await.unwrap();
    until(&other, "the secret", || other.coordinator.relay_secrets.get(handle).is_some()).await;
    assert!(other.coordinator.relay_secrets.get(handle) == Some(secret));
}

#[tokio::test]
async fn a_stream_that_ends_leaves_nothing_but_what_was_taken_from_its_runner_and_not_confirmed() {
    let (_etcd, one, other) = two().await;
    one.deploy("shop", "acme", &["db"]).await;
    one.deploy("apart", "acme", &["web"]).await;
    let credential = one.runner("r1").await;
    let mut agent = connected(&one, &credential, 1).await;
    let runner = agent.view.as_ref().unwrap().runner;
    let (_, revision) = agent.attach("shop/db").await;
    while agent.view.as_ref().unwrap().revision < revision {
        agent.news().await;
    }
    agent.applied().await;
    agent.say(&Up::Pong).await;
    let is_current = async || one.coordinator.visit(move |core| core.sessions.is_current(runner)).await.unwrap();
    while !is_current().await {
        sleep(Duration::from_millis(20)).await;
    }
    let left = async || {
        other.coordinator.refresh().await.unwrap();
        other.coordinator.visit(move |core| (core.state.session(runner).is_some(), core.state.owing())).await.unwrap()
    };
    drop(agent);
    while left().await.0 {
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(left().await.1, BTreeSet::new());
    // While it is away, the commit itself says what it takes from it.
    let files = vec![file("shop", "acme", &[])];
    other.order(AdminCommand::Apply { files, dry_run: false, force: true, prune: None }).await;
    assert_eq!(left().await.1, [runner].into());
    let pending = async |deployment: &str| {
        let revision = one.coordinator.visit(|core| core.state.revision()).await.unwrap();
        one.coordinator.refresh().await.unwrap();
        one.coordinator.wait_for_deployment(label(deployment), revision, Duration::ZERO).await.unwrap()
    };
    assert_eq!((pending("shop").await, pending("apart").await), (vec![label("r1")], vec![]));
    // It comes back, to another coordinator.
    let _agent = connected(&other, &credential, 1).await;
    while !left().await.1.is_empty() {
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(pending("shop").await, []);
}
