//! Waiting until the affected runners have confirmed a change of trust.

use mesh_model::{AdminCommand, TrustChange};

use super::{end, holds};
use crate::{
    api::{TrustAndWait, TrustPage},
    testing::{Agent, World, label},
};

/// Changes trust, and waits.
pub(super) async fn change(world: &World, change: Option<TrustChange>, milliseconds: u64) -> Vec<String> {
    let what = TrustAndWait { change, milliseconds };
    let page: TrustPage = world.admin(mesh_link::Method::POST, "trust-and-wait/shop", Some(&what)).await.unwrap();
    page.listing.pending.iter().map(ToString::to_string).collect()
}

/// `api` may call `shop`. Each has its own runner, which has applied that, and a third runner has nothing to do with
/// it.
async fn trusting() -> (World, [Agent; 2]) {
    let world = World::new().await;
    world.deploy("shop", "acme", &["db"]).await;
    world.deploy("api", "acme", &["grpc"]).await;
    world.trust("api", "shop").await;
    let mut agents = [world.agent("callee").await, world.agent("caller").await];
    world.agent("stranger").await;
    agents[0].attach("shop/db").await;
    agents[1].attach("api/grpc").await;
    for agent in &mut agents {
        apply(&world, agent).await;
    }
    (world, agents)
}

/// The agent applies its view and confirms it, and the coordinator knows.
async fn apply(world: &World, agent: &mut Agent) {
    let truth = world.truth(agent).await;
    agent.reach(&truth).await;
    agent.applied().await;
    while !world.coordinator.visit(move |core| core.sessions.is_current(truth.runner)).await.unwrap() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_change_of_trust_waits_for_those_who_lose_by_it_too() {
    let (world, [mut callee, mut caller]) = trusting().await;
    // Runners that haven't applied it in time are named, and the change stands.
    assert_eq!(change(&world, Some(TrustChange::Clear), 1).await, ["callee", "caller"]);
    assert!(world.truth(&caller).await.services().all(|service| &*service.name == "grpc"));
    // Once both have confirmed, it is done. Without a change it waits as well.
    let both = async {
        for agent in [&mut callee, &mut caller] {
            apply(&world, agent).await;
        }
    };
    let (pending, ()) = tokio::join!(change(&world, None, 60_000), both);
    assert!(pending.is_empty(), "{pending:?}");
    // A disconnected runner can't have applied it.
    world.trust("api", "shop").await;
    apply(&world, &mut callee).await;
    end(&world, caller).await;
    assert_eq!(change(&world, Some(TrustChange::Clear), 1).await, ["callee", "caller"]);
    apply(&world, &mut callee).await;
    assert_eq!(change(&world, None, 1).await, ["caller"], "who doesn't see the deployment any more has yet to hear so");
    world.order(AdminCommand::RemoveNode { name: label("caller"), force: true }).await;
    assert!(change(&world, None, 60_000).await.is_empty());
}

#[tokio::test]
async fn who_is_connected_and_slow_is_named_again_though_it_lost_sight_of_the_deployment() {
    let (world, [_callee, mut caller]) = trusting().await;
    assert!(change(&world, None, 60_000).await.is_empty());
    // Both streams are open, and neither agent confirms.
    assert_eq!(change(&world, Some(TrustChange::Clear), 1).await, ["callee", "caller"]);
    assert_eq!(change(&world, None, 1).await, ["callee", "caller"]);
    let page: TrustPage = world.admin(mesh_link::Method::GET, "trust/shop", None::<&()>).await.unwrap();
    assert_eq!(page.listing.pending, [label("callee"), label("caller")]);
    apply(&world, &mut caller).await;
    assert_eq!(change(&world, None, 1).await, ["callee"]);
}

#[tokio::test]
async fn who_comes_back_with_a_view_has_not_said_that_it_is_in_force() {
    let world = World::new().await;
    world.deploy("shop", "acme", &["db"]).await;
    world.deploy("api", "acme", &["grpc"]).await;
    world.trust("api", "shop").await;
    let credential = world.runner("one").await;
    let mut agent = world.connect(&credential).await.unwrap();
    agent.hello(None, vec![]).await;
    let (instance, _) = agent.attach("shop/db").await;
    agent.applied().await;
    assert_eq!(change(&world, Some(TrustChange::Clear), 1).await, ["one"]);
    // The view without the trust has arrived, and the stream broke before it was applied.
    let truth = world.truth(&agent).await;
    agent.reach(&truth).await;
    let (have, view) = (agent.have(), agent.view.clone());
    let held = holds(instance, &truth);
    end(&world, agent).await;
    let mut agent = world.connect(&credential).await.unwrap();
    agent.hello(Some(have), vec![held]).await;
    agent.view = view;
    assert_eq!(change(&world, None, 1).await, ["one"]);
    agent.applied().await;
    assert!(change(&world, None, 60_000).await.is_empty());
}
