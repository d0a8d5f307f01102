//! Instances that the coordinator does not have any more.

use std::{net::Ipv4Addr, sync::Arc};

use mesh_proto::{
    InstanceId,
    message::{Answer, Ask},
};

use super::{attached, stage::Played};
use crate::*;

/// An instance that the view does not hold any more, and the question for another one.
fn forgotten(drained: bool) -> (Played, InstanceId, OpId) {
    let mut played = Played::new(true);
    played.attach(1, 7);
    played.work();
    let instance = InstanceId(attached(played.reply(1)));
    if drained {
        played.tell(Input::SetDraining(CallId(2), instance, true));
        played.work();
    }
    played.effects.clear();
    played.forget(instance);
    let view = Arc::new(played.view.clone());
    played.tell(Input::View(view));
    let asked = played.effects.iter().find_map(|effect| match effect {
        Effect::Ask(op, Ask::Attach { .. }) => Some(*op),
        _ => None,
    });
    (played, instance, asked.expect("another one is asked for"))
}

#[test]
fn the_next_instance_is_drained_as_the_first_was() {
    let (mut played, first, _) = forgotten(true);
    played.work();
    let there = played.core.list().remove(0).attachment;
    assert!(there.instance != first && there.draining);
    let state = played.view.instance(there.instance).map(|instance| instance.state);
    assert_eq!(state, Some(mesh_proto::view::InstanceState::Draining));
}

#[test]
fn a_stream_that_begins_names_the_next_instance_before_the_view_holds_it() {
    let (mut played, first, asked) = forgotten(false);
    let (instance, address) = (InstanceId(99), Ipv4Addr::new(100, 112, 1, 99));
    let revision = played.view.revision.next();
    played.tell(Input::Done(asked, Outcome::Answered(Ok(Answer::Attached { instance, address, revision }))));
    let named: Vec<InstanceId> = played.core.hello().iter().map(|held| held.instance).collect();
    assert_eq!(named, [first, instance]);
}
