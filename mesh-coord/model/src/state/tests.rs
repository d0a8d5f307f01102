use mesh_proto::{Revision, RunnerId};

use super::*;
use crate::{
    RunnerCommand,
    testing::{World, path, refused, whole},
};

#[test]
fn a_database_without_meta_is_no_state() {
    let mut world = World::new();
    world.apply(vec![whole("shop: db")]).unwrap();
    let rest = world.state.records().filter(|r| !matches!(r, Record::Meta(_)));
    assert_eq!(
        State::load(Revision(3), rest).unwrap_err().to_string(),
        "the database holds no `meta` record: mesh-coord did not write it, or it is damaged"
    );
}

#[test]
fn a_runner_that_never_was_is_asked_to_join() {
    let mut world = World::new();
    let attach = RunnerCommand::Attach { service: path("shop/db"), client: false, release: None };
    assert_eq!(
        refused(world.request(RunnerId(7), attach)),
        "Unauthorised: this coordinator knows no runner with this credential | to join as a new runner, delete the \
         agent's state directory and run `mesh-node join URL TOKEN`"
    );
}
