//! What views have in common.

use std::sync::Arc;

use mesh_proto::RunnerId;

use super::*;
use crate::{RunnerCommand, Slice, Sliced, Slices};

const EPOCH: Epoch = Epoch([0; 16]);

fn runner(world: &World, name: &str) -> RunnerId {
    world.state.runner_named(name).unwrap().id
}

fn sliced(world: &World, slices: &mut Slices, name: &str) -> Sliced {
    slices.view(&world.state, runner(world, name), EPOCH).unwrap()
}

/// How many slices two views have in common.
fn shared(a: &Sliced, b: &Sliced) -> usize {
    let is_in = |slice: &&Arc<Slice>| b.slices().iter().any(|other| Arc::ptr_eq(slice, other));
    a.slices().iter().filter(is_in).count()
}

#[test]
fn those_who_see_a_deployment_in_the_same_way_share_what_they_see() {
    let world = world();
    let slices = &mut Slices::default();
    let [web, cron, db, tcp] =
        ["api-web", "api-cron", "shop-db", "shop-web-tcp"].map(|name| sliced(&world, slices, name));
    assert_eq!((web.slices().len(), shared(&web, &cron)), (2, 2), "api's hosts see the same of api and of shop");
    assert_eq!((db.slices().len(), shared(&db, &tcp)), (2, 2), "and shop's of shop and bank");
    assert_eq!((tcp.slices().len(), shared(&web, &tcp)), (3, 0), "api is seen by its own hosts in another way");
}

#[test]
fn what_a_deployments_own_hosts_see_like_others_is_there_and_written_once() {
    let world = world();
    let slices = &mut Slices::default();
    let [web, tcp] = ["api-web", "shop-web-tcp"].map(|name| sliced(&world, slices, name));
    let own = web.slices().iter().flat_map(|slice| slice.parts()).map(std::ptr::from_ref).collect::<Vec<_>>();
    let seen = tcp.slices().iter().flat_map(|slice| slice.parts()).map(std::ptr::from_ref);
    assert_eq!((own.len(), seen.filter(|part| own.contains(part)).count()), (3, 1), "api but for its names");
}

#[test]
fn what_has_not_changed_stays_shared_and_only_the_changed_is_told() {
    let mut world = world();
    let slices = &mut Slices::default();
    let before = sliced(&world, slices, "api-web");
    let mut absorb = |world: &mut World, name: &str, what| {
        let by = runner(world, name);
        let decision = world.decide(&crate::Command::Runner { by, what }).unwrap();
        let revision = world.state.revision().next();
        let affected = world.state.absorb(&decision.changes, revision);
        slices.touch(affected.deployments);
        sliced(world, slices, "api-web")
    };
    let attach = |service: &str| RunnerCommand::Attach { service: path(service), client: false, release: None };
    // Nothing of the bank is seen, and nothing of shop but what is opened.
    let after = absorb(&mut world, "bank-vault", attach("bank/safe"));
    assert_eq!((shared(&before, &after), after.slices().len()), (2, 2));
    let after = absorb(&mut world, "shop-db", attach("shop/db"));
    assert_eq!(shared(&before, &after), 2, "as before, though it was worked out anew");
    assert!(before.is_like(&after));
    let after = absorb(&mut world, "shop-web-tcp", attach("shop/web-tcp"));
    assert_eq!(shared(&before, &after), 1);
    let delta = before.delta_to(&after);
    assert_eq!((delta.put.len(), delta.remove.len()), (1, 0), "{delta:?}");
}
