//! Agents that have seen more than the database holds, and what counts as confirmed over restarts.

use crate::{Ahead, Sent};

use super::*;

const EPOCH: Epoch = Epoch([7; 16]);

fn have(epoch: Epoch, revision: u64) -> Option<Have> {
    Some(Have { epoch, revision: Revision(revision) })
}

#[test]
fn a_view_that_the_database_does_not_lead_to_is_told_from_all_others() {
    let (mut world, [callee, caller], _) = trusting();
    let at = world.state.revision().0;
    let ahead = |world: &World, runner, revision| world.sessions.ahead(runner, have(EPOCH, revision));
    assert_eq!(ahead(&world, callee, at), None);
    assert_eq!(ahead(&world, callee, at + 1), Some(Ahead::OfNothing), "this run has drawn the epoch");
    assert_eq!(world.sessions.ahead(callee, have(Epoch([8; 16]), at + 1)), None, "of another epoch");
    assert_eq!(world.sessions.ahead(callee, None), None);

    // The next run has the same epoch.
    world.sessions = Sessions::resume(EPOCH, world.state.revision(), world.now);
    assert_eq!(ahead(&world, callee, at), None);
    assert_eq!(ahead(&world, callee, at + 1), Some(Ahead::OfRestored { seen: Revision(at + 1) }));
    // What this run has made for a runner is no proof, and what it has made for another one is.
    let stream = world.open(callee);
    world.deploy("shop", &["db", "app"]);
    let made = world.sessions.view(&world.state, stream).unwrap().revision.0;
    assert!(made > at);
    assert_eq!(ahead(&world, callee, made), None);
    assert_eq!(ahead(&world, caller, made), Some(Ahead::OfRestored { seen: Revision(made) }));
}

#[test]
fn another_epoch_ends_all_streams_and_continues_no_view() {
    let (mut world, [callee, caller], streams) = trusting();
    world.sessions = Sessions::resume(EPOCH, world.state.revision(), world.now);
    let opened = world.sessions.open(None, &world.state, callee, PEER, None, world.now).unwrap();
    let next = Epoch([8; 16]);
    world.sessions.renew(next, world.now);
    let ends = std::iter::from_fn(|| world.sessions.poll_effect()).filter(|e| matches!(e, Effect::End(_))).count();
    assert_eq!((ends, world.sessions.is_connected(callee), world.sessions.is_open(streams[1])), (1, false, false));
    assert!(world.sessions.view(&world.state, opened.stream).is_none());
    let had = have(EPOCH, opened.view.revision.0);
    let again = world.sessions.open(None, &world.state, callee, PEER, had, world.now).unwrap();
    assert!(again.continued.is_none() && again.view.epoch == next);
    let at = world.state.revision().0;
    assert_eq!(world.sessions.ahead(caller, have(EPOCH, at + 9)), None, "it learns of the new one");
    assert_eq!(world.sessions.ahead(caller, have(next, at + 9)), Some(Ahead::OfNothing));
}

/// An agent reports what is in force. That may be of an earlier stream, before a database was put back.
#[test]
fn only_what_a_stream_has_sent_can_be_confirmed_on_it() {
    let (mut world, [callee, _], _) = trusting();
    let opened = world.sessions.open(None, &world.state, callee, PEER, None, world.now).unwrap();
    let mut sent = Sent::new(None);
    let (first, earlier) = (opened.view.revision, Revision(opened.view.revision.0 - 1));
    assert!(!sent.reaches(first), "nothing was sent");
    sent.sent(opened.view);
    assert!(sent.reaches(first) && !sent.reaches(earlier) && !sent.reaches(first.next()));
    world.deploy("shop", &["db", "app"]);
    let view = world.sessions.view(&world.state, opened.stream).unwrap();
    sent.sent(Arc::clone(&view));
    assert!(sent.reaches(first) && sent.reaches(view.revision) && !sent.reaches(earlier));
    sent.forget();
    assert!(!sent.reaches(first), "it is unknown what has arrived");
    // A view that is continued was sent by this run.
    assert!(Sent::new(Some(Arc::clone(&view))).reaches(view.revision));
}
