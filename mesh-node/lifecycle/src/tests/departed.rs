//! Instances whose end the coordinator does not know yet.

use std::{sync::Arc, time::Duration};

use mesh_proto::{
    InstanceId,
    message::{Ask, Refusal},
};

use super::{attached, stage::Played};
use crate::*;

#[test]
fn what_ended_in_the_coordinators_absence_is_taken_over_once() {
    let mut played = Played::new(true);
    played.attach(1, 7);
    played.work();
    let first = attached(played.reply(1));
    played.tell(Input::Link(Link::default()));
    played.tell(Input::Detach(CallId(2), InstanceId(first)));
    // The disk is told, then the coordinator, which is away.
    let op = *played.ops().last().unwrap();
    played.tell(Input::Done(op, Outcome::Answered(Err(AskError::Away(Refusal::bare("away"))))));
    played.effects.retain(|effect| !matches!(effect, Effect::Ask(..)));
    played.work();
    assert_eq!(played.core.remembered().ended.len(), 1);
    played.attach(3, 8);
    played.work();
    assert_eq!(attached(played.reply(3)), first, "the same instance, elsewhere");
    assert_eq!(played.core.hello().len(), 1);
    assert!(played.core.remembered().ended.is_empty());
}

/// An instance of `shop/db` that ended while the coordinator was away.
fn departed() -> (Played, InstanceId) {
    let mut played = Played::new(true);
    played.attach(1, 7);
    played.work();
    let instance = InstanceId(attached(played.reply(1)));
    played.tell(Input::Link(Link::default()));
    played.tell(Input::Detach(CallId(2), instance));
    let told = played.ops().last().copied().unwrap();
    played.effects.retain(|effect| !matches!(effect, Effect::Ask(..)));
    played.tell(Input::Done(told, Outcome::Answered(Err(AskError::Away(Refusal::bare("away"))))));
    played.work();
    assert_eq!(played.core.remembered().ended.len(), 1);
    (played, instance)
}

fn clash_is_not_found(played: &mut Played) {
    let search = played.effects.iter().find_map(|effect| match effect {
        Effect::Kernel(op, KernelStep::FindClash(..)) => Some(*op),
        _ => None,
    });
    played.tell(Input::Done(search.unwrap(), Outcome::Did(Ok(()))));
}

fn takes_over(played: &Played) -> bool {
    played.effects.iter().any(|effect| matches!(effect, Effect::Log(Notice::TakingOver { .. })))
}

#[test]
fn nothing_is_taken_over_from_a_coordinator_that_refuses_this_runner() {
    let (mut played, _) = departed();
    played.tell(Input::Link(Link { unknown: true, ..Link::default() }));
    played.attach(3, 8);
    clash_is_not_found(&mut played);
    played.pass(Duration::from_secs(3));
    assert!(!takes_over(&played) && played.core.remembered().ended.len() == 1);
    let asks = |effect: &Effect| matches!(effect, Effect::Ask(_, Ask::Attach { .. }));
    assert!(played.effects.iter().any(asks), "the answer says why");
}

#[test]
fn what_ended_is_taken_over_by_its_own_kind_only_and_while_the_view_holds_it() {
    let (mut played, instance) = departed();
    played.attach_as(3, 8, |request| request.client = true);
    clash_is_not_found(&mut played);
    played.attach_as(4, 9, |request| request.service = "shop/app".parse().unwrap());
    clash_is_not_found(&mut played);
    assert!(!takes_over(&played));
    played.forget(instance);
    let view = Arc::new(played.view.clone());
    played.tell(Input::View(view));
    played.attach(5, 10);
    clash_is_not_found(&mut played);
    assert!(!takes_over(&played));
}

#[test]
fn an_end_is_remembered_until_a_stream_has_begun_without_it() {
    let (mut played, _) = departed();
    let begun = Link { connected: true, ..Link::default() };
    played.tell(Input::Link(begun));
    assert_eq!(played.core.remembered().ended.len(), 1, "no stream has begun since");
    assert!(played.core.hello().is_empty());
    played.tell(Input::Link(begun));
    assert!(played.core.remembered().ended.is_empty());
}

#[test]
fn an_instance_that_was_given_and_could_not_be_made_is_taken_over_by_the_next_attachment() {
    let mut played = Played::new(true);
    played.attach(1, 7);
    // All goes well up to the making of the interface.
    loop {
        let create = played.effects.iter().find_map(|effect| match effect {
            Effect::Kernel(op, KernelStep::Create(..)) => Some(*op),
            _ => None,
        });
        if let Some(create) = create {
            played.effects.clear();
            played.tell(Input::Link(Link::default()));
            played.tell(Input::Done(create, Outcome::Did(Err(Refusal::bare("no room")))));
            break;
        }
        played.step();
    }
    let told = played.ops().last().copied().unwrap();
    played.effects.retain(|effect| !matches!(effect, Effect::Ask(..)));
    played.tell(Input::Done(told, Outcome::Answered(Err(AskError::Away(Refusal::bare("away"))))));
    played.work();
    assert_eq!(played.reply(1), Some(&Err(Error::Refused(Refusal::bare("no room")))));
    assert_eq!(played.core.remembered().ended.len(), 1);
    played.attach(2, 8);
    clash_is_not_found(&mut played);
    assert!(takes_over(&played));
}

#[test]
fn what_the_hello_of_a_stream_that_begins_did_not_name_is_not_taken_over() {
    let (mut played, _) = departed();
    assert!(played.core.hello().is_empty());
    played.attach(3, 8);
    clash_is_not_found(&mut played);
    assert!(!takes_over(&played), "to the coordinator it has ended from here on");
    played.tell(Input::Link(Link { connected: true, ..Link::default() }));
    played.work();
    assert_eq!(played.core.list().len(), 1);
}
