//! Several coordinators on the same records.

use mesh_model::record::{MemberId, Session, StreamKey};

use super::*;
use crate::Predecessor;

pub(super) const ME: MemberId = MemberId(1);
pub(super) const OTHER: MemberId = MemberId(2);

pub(super) fn key(member: MemberId, number: u64) -> StreamKey {
    StreamKey { member, number }
}

impl World {
    pub(super) fn shared() -> Self {
        let mut world = Self::new();
        world.sessions.share(ME, &world.state, world.now);
        world.sessions.members([ME, OTHER].into(), world.now);
        world
    }

    pub(super) fn begin(&mut self, runner: RunnerId, stream: StreamKey) {
        let session = Session { runner, stream, process: Some(7), from: PEER.from };
        self.run(&Command::Begin { session, living: [].into() });
    }

    pub(super) fn open_as(&mut self, runner: RunnerId, stream: StreamKey) -> Option<StreamId> {
        let opened = self.sessions.open(Some(stream), &self.state, runner, PEER, None, self.now);
        opened.map(|opened| opened.stream)
    }

    /// A runner with a stream here, and another one with one at the other coordinator.
    pub(super) fn with_two() -> (Self, RunnerId, RunnerId, StreamId) {
        let mut world = Self::shared();
        let (here, there) = (world.enrol("here", false), world.enrol("there", false));
        world.begin(here, key(ME, 1));
        let stream = world.open_as(here, key(ME, 1)).unwrap();
        world.begin(there, key(OTHER, 2));
        (world, here, there, stream)
    }
}

#[test]
fn a_stream_ends_once_a_newer_one_has_begun_elsewhere() {
    let (mut world, here, there, stream) = World::with_two();
    assert!(world.sessions.is_connected(here) && world.sessions.is_connected(there));
    assert!(world.sessions.is_connected_here(here) && !world.sessions.is_connected_here(there));
    while world.sessions.poll_effect().is_some() {}
    world.begin(here, key(OTHER, 3));
    assert_eq!(world.sessions.poll_effect(), Some(Effect::End(stream)));
    assert!(!world.sessions.is_open(stream) && world.sessions.is_connected(here));
    assert_eq!(world.open_as(here, key(ME, 1)), None, "it is not the newest one any more");
    let begun = world.sessions.elsewhere(here).map(|session| session.stream);
    assert_eq!(begun, Some(key(OTHER, 3)));
}

#[test]
fn the_runners_of_a_coordinator_that_is_gone_are_away_from_then_on() {
    let (mut world, _, there, _) = World::with_two();
    world.now += Duration::from_secs(60);
    let commands = |world: &mut World| world.sessions.unheard(&world.state, world.now).commands.len();
    assert_eq!(commands(&mut world), 0, "both are connected");
    world.sessions.members([ME].into(), world.now);
    assert!(!world.sessions.is_connected(there));
    world.now += Duration::from_secs(29);
    assert_eq!(commands(&mut world), 0, "they may still come here");
    world.now += Duration::from_secs(2);
    assert_eq!(commands(&mut world), 1);
    world.begin(there, key(ME, 5));
    world.open_as(there, key(ME, 5)).unwrap();
    assert_eq!(commands(&mut world), 0);
}

#[test]
fn a_runner_at_a_coordinator_that_has_just_come_is_connected() {
    let mut world = World::shared();
    let runner = world.enrol("one", false);
    world.begin(runner, key(MemberId(3), 1));
    assert!(world.sessions.is_connected(runner));
    world.sessions.members([ME].into(), world.now);
    assert!(!world.sessions.is_connected(runner));
}

#[test]
fn a_view_of_another_coordinator_is_no_proof_of_a_restored_database() {
    let (mut world, here, _, stream) = World::with_two();
    let have = |revision| Some(Have { epoch: world.sessions.epoch(), revision });
    let now = world.state.revision();
    assert_eq!(world.sessions.ahead(here, have(now)), None, "the other one has made it");
    assert!(world.sessions.ahead(here, have(now.next())).is_some());
    world.sessions.renew(Epoch([9; 16]), world.now);
    assert!(!world.sessions.is_open(stream));
    let have = Some(Have { epoch: Epoch([9; 16]), revision: now });
    assert_eq!(world.sessions.ahead(here, have), None, "the other one has followed, and has made it");
}

#[test]
fn a_stream_that_the_records_have_and_this_coordinator_lacks_is_told() {
    let (mut world, here, _, stream) = World::with_two();
    assert_eq!(world.sessions.lost(&world.state), []);
    world.sessions.close(stream, None, world.now);
    let lost = world.sessions.lost(&world.state);
    assert_eq!(lost, [world.sessions.owing(&world.state, here, key(ME, 1), true)]);
    world.run(&Command::Owing(lost));
    assert_eq!(world.sessions.lost(&world.state), []);
    assert!(!world.sessions.is_connected(here));
}

#[test]
fn those_that_have_confirmed_are_told_of_the_connected_ones_only() {
    let (mut world, here, there, stream) = World::with_two();
    let (both, revision) = ([here, there].into(), world.state.revision());
    let deadline = world.now + Duration::from_secs(1);
    let wait = world.sessions.wait_for_connected(BTreeSet::clone(&both), revision, deadline, world.now);
    assert_eq!((world.over(), world.sessions.confirmed_among(&both, revision)), (vec![], [].into()));
    world.apply(stream);
    assert_eq!(world.over(), [(wait, vec![])]);
    assert_eq!(world.sessions.confirmed_among(&both, revision), [here].into());
}

#[test]
fn another_process_with_the_identity_is_found_at_the_other_coordinator() {
    let (world, _, there, _) = World::with_two();
    let newcomer = |process| Peer { process: Some(process), from: PEER.from };
    let found = |process| world.sessions.predecessor(there, newcomer(process), false, world.now);
    assert_eq!(found(8), Predecessor::Elsewhere(key(OTHER, 2), newcomer(7)));
    assert_eq!(found(7), Predecessor::None, "it is the same");
}
