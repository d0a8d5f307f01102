//! One identity in use on two machines, and what only looks like it.

use mesh_proto::{
    InstanceId,
    message::{Ask, Cause, Down, Refusal, Up},
};

use super::{end, holds};
use crate::testing::{Agent, World};

/// A stream of an agent with this process, after its hello.
async fn begin(world: &World, credential: &str, process: u64) -> Agent {
    let mut agent = world.connect(credential).await.unwrap();
    agent.process = Some(process);
    agent.begin(None, vec![]).await;
    agent
}

/// A runner's first machine with an instance of shop/db, and the credential that its copies have too.
async fn first_machine() -> (World, String, Agent, InstanceId) {
    let world = World::new().await;
    world.deploy("shop", "acme", &["db"]).await;
    let credential = world.runner("one").await;
    let mut first = begin(&world, &credential, 1).await;
    first.hear().await.unwrap();
    first.news().await;
    let (instance, _) = first.attach("shop/db").await;
    (world, credential, first, instance)
}

/// The refusal that follows the greeting.
async fn refusal(agent: &mut Agent) -> Refusal {
    match agent.hear().await.unwrap() {
        Down::Refused { cause: Cause::Copy, refusal } => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

async fn actions(world: &World) -> Vec<String> {
    let audit = world.coordinator.visit(|core| core.state.audit(&mesh_model::Admin::socket(0), 100)).await.unwrap();
    audit
        .into_iter()
        .map(|entry| entry.action)
        .filter(|action| action.contains("copy") || action.contains("stream"))
        .collect()
}

#[tokio::test]
async fn a_copy_of_a_machine_is_refused_and_takes_nothing_from_the_first() {
    let (world, credential, mut first, instance) = first_machine().await;

    for again in 0..2 {
        let mut copy = begin(&world, &credential, 2).await;
        // The first agent answers, as always.
        let said = tokio::select! {
            said = refusal(&mut copy) => said,
            heard = async { loop { first.hear().await.unwrap(); } } => heard,
        };
        assert!(said.error.contains("copy of the runner `one`") && said.error.contains("127.0.0.1"), "{said:?}");
        assert!(said.hint.unwrap().contains("new token"));
        assert!(copy.hear().await.is_err(), "and that is its end, {again}");
    }
    let truth = world.truth(&first).await;
    assert!(truth.instance(instance).is_some(), "no instance ended");
    first.ask(Ask::Lookup { service: "shop/db".parse().unwrap() }).await.unwrap();
    assert_eq!(actions(&world).await, ["copy-refused"], "once");
}

#[tokio::test]
async fn an_agent_that_started_anew_gets_in_though_its_old_stream_still_seems_to_stand() {
    let world = World::new().await;
    let credential = world.runner("one").await;
    let mut old = begin(&world, &credential, 1).await;
    old.hear().await.unwrap();
    // The machine was switched off: it doesn't answer, and its connection isn't closed.
    let mut new = begin(&world, &credential, 2).await;
    assert!(matches!(new.hear().await.unwrap(), Down::Welcome { .. }));
    assert_eq!(actions(&world).await, ["stream-taken-over"]);
    drop(old);
}

#[tokio::test]
async fn an_agent_whose_end_is_known_is_followed_at_once_and_nothing_is_noted() {
    let world = World::new().await;
    let credential = world.runner("one").await;
    for process in 1..4 {
        let mut agent = begin(&world, &credential, process).await;
        assert!(matches!(agent.hear().await.unwrap(), Down::Welcome { .. }));
        // The agent was killed: the system closes its connection.
        drop(agent);
    }
    assert!(actions(&world).await.is_empty());
}

#[tokio::test]
async fn the_same_process_over_another_connection_is_no_copy() {
    let world = World::new().await;
    let credential = world.runner("one").await;
    let mut old = begin(&world, &credential, 1).await;
    old.hear().await.unwrap();
    old.news().await;
    let mut new = begin(&world, &credential, 1).await;
    assert!(matches!(new.hear().await.unwrap(), Down::Welcome { .. }));
    assert!(old.hear().await.unwrap_err().contains("took over"));
    assert!(actions(&world).await.is_empty());
}

#[tokio::test]
async fn a_copy_does_not_slip_in_while_the_first_is_away_for_a_moment() {
    let (world, credential, first, instance) = first_machine().await;
    let held = holds(instance, &world.truth(&first).await);
    end(&world, first).await;

    let mut copy = world.connect(&credential).await.unwrap();
    (copy.process, copy.refused) = (Some(2), true);
    copy.begin(None, vec![]).await;
    refusal(&mut copy).await;
    let mut first = world.connect(&credential).await.unwrap();
    first.process = Some(1);
    first.hello(None, vec![held]).await;
    first.news().await;
    assert!(first.view.as_ref().unwrap().instance(instance).is_some());
    first.say(&Up::Resync).await;
    first.news().await;
}
