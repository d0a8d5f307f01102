//! One life at a time, by hand: what the simulation in `tests/` does at random.

mod anew;
mod departed;
mod stage;

use std::{sync::Arc, time::Duration};

use mesh_proto::{
    InstanceId,
    message::{Answer, Ask, Refusal},
    view::InstanceState,
};

use super::*;
use stage::Played;

fn attached(reply: Option<&Result<Reply, Error>>) -> u64 {
    match reply {
        Some(Ok(Reply::Attached(shown, _))) => shown.attachment.instance.0,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_second_attachment_of_the_same_is_the_same_and_detaching_leaves_nothing() {
    let mut played = Played::new(true);
    played.attach(1, 7);
    played.attach(2, 7);
    played.work();
    assert_eq!(attached(played.reply(1)), attached(played.reply(2)));
    let instance = played.core.list()[0].attachment.instance;
    played.tell(Input::Detach(CallId(3), instance));
    played.work();
    assert!(matches!(played.reply(3), Some(Ok(Reply::Detached(_)))));
    assert!(played.core.list().is_empty() && played.core.remembered().attachments.is_empty());
    played.tell(Input::Detach(CallId(4), instance));
    assert_eq!(played.reply(4), Some(&Err(Error::Missing(instance))));
}

#[test]
fn what_is_made_is_remembered_first_and_told_before_it_is_made() {
    let mut played = Played::new(true);
    played.attach(1, 7);
    let at = |played: &Played, is_it: &dyn Fn(&Effect) -> bool| played.effects.iter().position(is_it);
    let makes = |effect: &Effect| matches!(effect, Effect::Kernel(_, KernelStep::Create(..)));
    while at(&played, &makes).is_none() && !played.step() {}
    let saves = at(&played, &|effect| matches!(effect, Effect::Save(_)));
    assert!(saves.is_some() && saves < at(&played, &makes));
    assert_eq!((played.core.remembered().attachments.len(), played.core.hello().len()), (1, 1));
}

#[test]
fn the_names_of_a_service_are_one_list_for_all_its_instances() {
    let mut played = Played::new(true);
    for at in [7, 8] {
        played.attach_as(at, at, |request| request.hosts = Some(HostsPlace::Path(format!("/run/hosts-{at}").into())));
        for _ in 0..2 {
            played.write();
            played.work();
        }
        attached(played.reply(at));
    }
    played.effects.clear();
    played.view.revision = played.view.revision.next();
    played.tell(Input::View(Arc::new(played.view.clone())));
    let renewed = played.effects.iter().filter_map(|effect| match effect {
        Effect::RenewNames(_, _, names) => Some(Arc::clone(names)),
        _ => None,
    });
    let renewed: Vec<HostLines> = renewed.collect();
    let [a, b] = &renewed[..] else { panic!("{renewed:?}") };
    assert!(!a.is_empty() && Arc::ptr_eq(a, b), "worked out once a view, not once an instance");
}

#[test]
fn a_caller_that_hangs_up_in_time_leaves_nothing() {
    let mut played = Played::new(false);
    played.attach(1, 7);
    let ops = played.ops();
    played.effects.clear();
    played.tell(Input::HungUp(CallId(1)));
    ops.into_iter().for_each(|op| played.tell(Input::Done(op, Outcome::Did(Ok(())))));
    played.work();
    assert_eq!(played.reply(1), Some(&Err(Error::HungUp)));
    assert!(played.effects.iter().any(|effect| matches!(effect, Effect::Close(_))));
    assert_eq!(played.core.poll_timeout(), None);
}

#[test]
fn every_wait_has_its_reason_and_its_end() {
    let mut played = Played::new(false);
    played.attach(1, 7);
    let clash = played.ops()[1];
    played.tell(Input::Done(clash, Outcome::Did(Ok(()))));
    let (at, why) = played.core.poll_timeout().unwrap();
    assert_eq!((at - played.now, why), (Duration::from_secs(3), "the coordinator is connected to"));
    played.pass(Duration::from_secs(3));
    let asked = played.effects.iter().any(|effect| matches!(effect, Effect::Ask(_, Ask::Attach { .. })));
    assert!(asked, "its answer says why it is away");
}

#[test]
fn an_agent_that_was_killed_at_an_end_finishes_it() {
    let mut played = Played::new(true);
    played.attach(1, 7);
    played.work();
    let instance = InstanceId(attached(played.reply(1)));
    played.tell(Input::Detach(CallId(2), instance));
    let remembered = played.core.remembered();
    assert_eq!(remembered.attachments[0].ending, Some(Farewell::Restored));
    let next = Played::with(remembered, false);
    let removes = |effect: &Effect| matches!(effect, Effect::Kernel(_, KernelStep::Remove(there, Farewell::Restored)) if there.instance == instance);
    assert!(next.effects.iter().any(removes) && next.core.list().is_empty());
}

#[test]
fn a_drain_is_not_turned_back_by_an_earlier_view_and_another_ones_drain_is_learned() {
    let mut played = Played::new(true);
    played.attach(1, 7);
    played.work();
    let instance = InstanceId(attached(played.reply(1)));
    let earlier = Arc::new(played.view.clone());
    played.tell(Input::SetDraining(CallId(2), instance, true));
    let asked = played.ops().last().copied().unwrap();
    let revision = played.view.revision.next();
    played.tell(Input::Done(asked, Outcome::Answered(Ok(Answer::Drained { revision }))));
    played.tell(Input::View(earlier));
    assert!(played.core.list()[0].attachment.draining, "an earlier view says nothing about it");
    played.set_state(instance, InstanceState::Live);
    played.view.revision = revision.next();
    let later = Input::View(Arc::new(played.view.clone()));
    played.tell(Input::Link(Link { connected: true, ..Link::default() }));
    played.tell(later);
    assert!(played.core.list()[0].attachment.draining, "a view of an earlier stream says nothing about it");
    played.tell(Input::Link(Link { connected: true, synced: true, unknown: false }));
    assert!(!played.core.list()[0].attachment.draining);
    let learned = |effect: &Effect| matches!(effect, Effect::Log(Notice::DrainLearned { draining: false, .. }));
    assert!(played.effects.iter().any(learned));
}

#[test]
fn a_container_that_leaves_others_behind_is_answered_when_its_hosts_file_is_clear() {
    let mut played = Played::new(true);
    for (call, name) in [(1, "a"), (2, "b")] {
        played.attach_as(call, 7, |request| {
            request.hosts = Some(HostsPlace::Path(format!("/{name}").into()));
            request.container = Some(ContainerStart { id: name.parse().unwrap(), pid: None, watch: None });
        });
        for _ in 0..4 {
            played.write();
            played.work();
        }
        attached(played.reply(call));
    }
    played.effects.clear();
    played.tell(Input::DetachContainer(CallId(3), "b".parse().unwrap()));
    assert_eq!(played.reply(3), None);
    let left: Vec<HostsPlace> = played.core.remembered().hosts_left.into_iter().map(|left| left.place).collect();
    assert_eq!(left, [HostsPlace::Path("/b".into())], "the next agent clears it");
    played.write();
    assert_eq!(played.reply(3), Some(&Ok(Reply::ContainerDetached(None))));
    assert!(played.core.remembered().hosts_left.is_empty());
    assert_eq!(*played.core.list()[0].attachment.hosts, [HostsPlace::Path("/a".into())]);
}

/// It comes in a request of its own after the hosts file's, and has its own lines.
#[test]
fn the_resolv_conf_of_a_container_is_kept_beside_its_hosts_file_and_let_go_with_it() {
    let mut played = Played::new(true);
    let at = |name: &str| HostsPlace::Path(format!("/{name}").into());
    let resolv = |name: &str| HostsPlace::Resolv(Box::new(at(name)));
    let files = [("a", at("a")), ("a", resolv("a")), ("b", at("b")), ("b", resolv("b"))];
    let mut put = vec![];
    for (call, (id, place)) in (1..).zip(files) {
        played.attach_as(call, 7, |request| {
            request.hosts = Some(place);
            request.container = Some(ContainerStart { id: id.parse().unwrap(), pid: None, watch: None });
        });
        for _ in 0..4 {
            put.extend(played.effects.iter().filter_map(|effect| match effect {
                Effect::PutNames(_, _, lines) => Some(lines.clone()),
                _ => None,
            }));
            played.write();
            played.work();
        }
        attached(played.reply(call));
    }
    let resolver = ([100, 127, 255, 254].into(), "shop.warp warp".to_owned());
    assert_eq!(put.iter().filter(|lines| lines.contains(&resolver)).count(), 2, "{put:?}");
    assert!(put.iter().all(|lines| lines.len() == 1 || !lines.contains(&resolver)), "{put:?}");
    played.effects.clear();
    played.tell(Input::DetachContainer(CallId(9), "b".parse().unwrap()));
    let clears = played.effects.iter().filter(|effect| matches!(effect, Effect::ClearNames(..))).count();
    assert_eq!(clears, 2);
    played.write();
    assert_eq!(played.reply(9), Some(&Ok(Reply::ContainerDetached(None))));
    assert_eq!(*played.core.list()[0].attachment.hosts, [at("a"), resolv("a")]);
}

#[test]
fn a_change_that_is_heard_before_the_number_of_its_namespace_is_known_is_looked_at() {
    let mut played = Played::new(true);
    played.attach(1, 7);
    played.work();
    played.pass(Duration::from_secs(1));
    let looks = |played: &Played| {
        let all = played.effects.iter().filter_map(|effect| match effect {
            Effect::Kernel(op, KernelStep::Mend(..)) => Some(*op),
            _ => None,
        });
        all.collect::<Vec<_>>()
    };
    let look = looks(&played)[0];
    played.effects.clear();
    // The look asks for the number, and the change comes before its answer.
    played.tell(Input::Changed(Nsid(5)));
    played.tell(Input::Done(look, Outcome::Looked(Some(Look { nsid: Some(Nsid(5)), mended: Ok(vec![]) }))));
    played.pass(Duration::from_secs(3));
    assert_eq!(looks(&played).len(), 1);
}

#[test]
fn a_container_that_ends_while_the_agent_starts_takes_its_instance_along() {
    let mut played = Played::new(true);
    played.attach_as(1, 7, |request| {
        request.container = Some(ContainerStart { id: "a".parse().unwrap(), pid: None, watch: None });
    });
    played.work();
    attached(played.reply(1));
    let mut next = Played::with(played.core.remembered(), false);
    assert_eq!(next.core.remembered().containers.len(), 1, "a write of the file does not lose it");
    next.tell(Input::DetachContainer(CallId(2), "a".parse().unwrap()));
    let look = next.ops()[0];
    let taken_up = TakenUp { port: Port(1), mark: Some(Mark(1)), watch: None };
    next.tell(Input::Done(look, Outcome::TakenUp(Ok(taken_up))));
    next.work();
    assert!(matches!(next.reply(2), Some(Ok(Reply::ContainerDetached(Some(_))))), "{:?}", next.reply(2));
    assert!(matches!(next.reply(1000), Some(Ok(Reply::Started))) && next.core.list().is_empty());
}

#[test]
fn an_instance_that_the_kernel_keeps_waiting_does_not_keep_the_others_waiting() {
    let mut played = Played::new(true);
    for (call, ino, id) in [(1, 7, "a"), (2, 8, "b")] {
        played.attach_as(call, ino, |request| {
            request.container = Some(ContainerStart { id: id.parse().unwrap(), pid: Some(70), watch: None });
        });
        played.work();
        attached(played.reply(call));
    }
    let mut next = Played::with(played.core.remembered(), false);
    let looks = next.ops();
    let taken_up = |port| Outcome::TakenUp(Ok(TakenUp { port: Port(port), mark: Some(Mark(1)), watch: None }));
    next.tell(Input::Done(looks[0], taken_up(1)));
    next.tell(Input::Done(*next.ops().last().unwrap(), Outcome::Watching(Some(WatchId(1)))));
    next.effects.clear();
    assert_eq!(next.reply(1000), None);
    next.pass(Duration::from_secs(11));
    assert_eq!(next.reply(1000), Some(&Ok(Reply::Started)));
    assert_eq!((next.core.list().len(), next.core.hello().len()), (1, 2), "the coordinator must not end the other one");
    // What has become of its container is still found out.
    next.tell(Input::Done(looks[1], taken_up(2)));
    let watches = |effect: &Effect| matches!(effect, Effect::Kernel(_, KernelStep::WatchProcess(70, _)));
    assert!(next.effects.iter().any(watches), "{:?}", next.effects);
    assert_eq!(next.core.list().len(), 2);
}

#[test]
fn a_container_does_not_end_the_instance_of_another_namespace_with_the_same_identity() {
    let mut played = Played::new(true);
    played.attach_as(1, 7, |request| {
        request.container = Some(ContainerStart { id: "a".parse().unwrap(), pid: Some(70), watch: Some(WatchId(1)) });
    });
    played.work();
    let first = attached(played.reply(1));
    // Its namespace is gone, and neither that nor the end of its process was heard yet.
    played.attach(2, 7);
    let look = played.ops().last().copied().unwrap();
    played.effects.clear();
    played.tell(Input::Done(look, Outcome::Is(false)));
    played.work();
    let second = attached(played.reply(2));
    played.tell(Input::ProcessEnded(WatchId(1)));
    played.work();
    let there: Vec<u64> = played.core.list().iter().map(|shown| shown.attachment.instance.0).collect();
    assert!(first != second && there == [second] && played.core.containers().is_empty());
}

#[test]
fn an_instance_that_does_not_end_with_its_container_shows_the_end_of_its_namespace() {
    let mut played = Played::new(true);
    let start = |name: &str, pid: u64| ContainerStart {
        id: name.parse().unwrap(),
        pid: i32::try_from(pid).ok(),
        watch: Some(WatchId(pid)),
    };
    let birthplaces = |played: &mut Played, call: u64, container: Option<ContainerStart>| {
        played.attach_as(call, 7, |request| request.container = container);
        let made = played.effects.iter().find_map(|effect| match effect {
            Effect::Kernel(_, KernelStep::Prepare(_, at)) => Some(*at),
            _ => None,
        });
        played.work();
        (made, attached(played.reply(call)))
    };
    let (_, first) = birthplaces(&mut played, 1, None);
    birthplaces(&mut played, 2, Some(start("a", 70)));
    played.tell(Input::Detach(CallId(3), InstanceId(first)));
    played.work();
    played.effects.clear();
    let (made, _) = birthplaces(&mut played, 4, Some(start("b", 71)));
    assert_eq!(made, Some(Birthplace::Staging), "`a` has not let go, and what it found was attached in another way");
}

#[test]
fn a_hosts_file_that_is_replaced_again_during_the_last_look_is_looked_at_again() {
    let mut played = Played::new(true);
    played.attach_as(1, 7, |request| request.hosts = Some(HostsPlace::Path("/a".into())));
    for _ in 0..4 {
        played.write();
        played.work();
    }
    attached(played.reply(1));
    let kept = played.core.spaces.values().flat_map(|space| space.hosts()).next().unwrap().file;
    let compared = |played: &mut Played| {
        let op = played.effects.iter().find_map(|effect| match effect {
            Effect::CompareHosts(op, ..) => Some(*op),
            _ => None,
        });
        played.effects.clear();
        op
    };
    let moved = |played: &mut Played, look: Option<OpId>| {
        played.tell(Input::Done(look.expect("a look is under way"), Outcome::Moved(Some(false))));
    };
    played.effects.clear();
    played.tell(Input::HostsMoved(kept));
    let first = compared(&mut played);
    moved(&mut played, first);
    played.pass(Duration::from_secs(1));
    let second = compared(&mut played);
    played.tell(Input::HostsMoved(kept));
    moved(&mut played, second);
    played.pass(Duration::from_secs(1));
    let third = compared(&mut played);
    moved(&mut played, third);
    played.pass(Duration::from_secs(20));
    assert_eq!(compared(&mut played), None, "it has stayed the same");
}

#[test]
fn an_attachment_waits_for_the_end_of_all_instances() {
    let mut played = Played::new(true);
    played.attach(1, 7);
    played.work();
    played.tell(Input::DetachAll(CallId(2)));
    played.attach(3, 8);
    let prepares = |effect: &Effect| matches!(effect, Effect::Kernel(_, KernelStep::Prepare(CallId(3), _)));
    assert!(!played.effects.iter().any(prepares));
    played.work();
    assert!(matches!(played.reply(2), Some(Ok(Reply::AllDetached(all))) if all.len() == 1));
    attached(played.reply(3));
    assert_eq!(played.core.list().len(), 1);
}

#[test]
fn names_that_could_not_be_written_in_time_are_taken_out_again() {
    let mut played = Played::new(true);
    played.attach_as(1, 7, |request| request.hosts = Some(HostsPlace::Path("/a".into())));
    let put = loop {
        let put = played.effects.iter().find_map(|effect| match effect {
            Effect::PutNames(op, handle, _) => Some((*op, *handle)),
            _ => None,
        });
        match put {
            Some(put) => break put,
            None if played.effects.iter().any(|effect| matches!(effect, Effect::KeepHosts(..))) => played.write(),
            None => drop(played.step()),
        }
    };
    played.tell(Input::Done(put.0, Outcome::Did(Err(Refusal::bare("slow")))));
    assert!(played.effects.iter().any(|effect| matches!(effect, Effect::ClearNames(_, handle) if *handle == put.1)));
    played.work();
    played.write();
    assert_eq!(played.reply(1), Some(&Err(Error::Refused(Refusal::bare("slow")))));
    assert!(played.core.remembered().attachments.is_empty() && played.core.remembered().hosts_left.is_empty());
}
