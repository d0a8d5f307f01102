//! Agents that have seen more than the coordinator's database holds.

use mesh_proto::{Revision, message::Have};

use super::end;
use crate::{
    data::scratch::Scratch,
    store::SqliteStore,
    testing::{World, contents},
};

#[tokio::test]
async fn an_agent_with_a_later_view_is_not_served_and_none_of_its_instances_ends() {
    let world = World::new().await;
    world.deploy("shop", "acme", &["db"]).await;
    let credential = world.runner("one").await;
    let mut agent = world.agent_of(&credential, None).await;
    let (instance, revision) = agent.attach("shop/db").await;
    let truth = world.truth(&agent).await;
    end(&world, agent).await;
    let have = Have { epoch: truth.epoch, revision: Revision(revision.0 + 1) };
    let mut agent = world.connect(&credential).await.unwrap();
    agent.begin(Some(have), Vec::new()).await;
    let why = agent.hear().await.unwrap_err();
    assert!(why.contains("behind"), "{why}");
    let holds = world.coordinator.visit(move |core| core.state.instances_on(truth.runner).any(|i| i.id == instance));
    assert!(holds.await.unwrap(), "a hello that names no instance was not heard");
}

/// Copies a database that is in use.
fn copy(scratch: &Scratch, to: &str) -> std::path::PathBuf {
    let (from, to) = (scratch.path().join("db"), scratch.path().join(to));
    for side in ["", "-wal"] {
        std::fs::copy(format!("{}{side}", from.display()), format!("{}{side}", to.display())).unwrap();
    }
    to
}

#[tokio::test]
async fn a_restart_keeps_the_epoch_and_a_database_that_was_put_back_gets_another() {
    let scratch = Scratch::new();
    let world = World::on(SqliteStore::open(&scratch.path().join("db")).await.unwrap()).await;
    world.deploy("shop", "acme", &["db"]).await;
    let credentials = [world.runner("one").await, world.runner("two").await];
    let mut agent = world.agent_of(&credentials[0], None).await;
    let backup = copy(&scratch, "backup");
    world.deploy("shop", "acme", &["db", "app"]).await;
    agent.attach("shop/app").await;
    let truth = world.truth(&agent).await;
    agent.reach(&truth).await;
    let have = agent.have();

    let restarted = World::on(SqliteStore::open(&copy(&scratch, "restarted")).await.unwrap()).await;
    let agent = restarted.agent_of(&credentials[0], Some(have)).await;
    assert_eq!(agent.have().epoch, have.epoch);

    // It goes further than before while the agent is away, so its revision alone tells nothing.
    let restored = World::on(SqliteStore::open(&backup).await.unwrap()).await;
    let mut other = restored.agent_of(&credentials[1], None).await;
    assert_eq!(other.have().epoch, have.epoch);
    for n in 0..have.revision.0 {
        restored.deploy("bank", "other", &[&format!("s{n}")]).await;
    }
    let agent = restored.agent_of(&credentials[0], Some(have)).await;
    assert_ne!(agent.have().epoch, have.epoch);
    assert_eq!(contents(agent.view.as_ref().unwrap()), contents(&restored.truth(&agent).await));
    let why = other.hear().await.unwrap_err();
    assert!(why.contains("put back"), "{why}");
    let admin = mesh_model::Admin::socket(0);
    let audit = restored.coordinator.visit(move |core| core.state.audit(&admin, 99)).await.unwrap();
    assert_eq!(audit.iter().filter(|entry| entry.action == "database-put-back").count(), 1);

    // Another one that has seen as much learns of the new epoch, and causes none.
    let late =
        restored.agent_of(&credentials[1], Some(Have { revision: Revision(have.revision.0 + 500), ..have })).await;
    assert_eq!(late.have().epoch, agent.have().epoch);
}
