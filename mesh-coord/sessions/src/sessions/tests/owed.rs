//! What runners owe, with several coordinators.

use mesh_model::record::{MemberId, Owes};

use super::{
    others::{ME, OTHER, key},
    *,
};
use crate::Told;

/// `shop`, on a runner here, lets `api` call it, which is on a runner at the other coordinator.
struct Two {
    world: World,
    callee: RunnerId,
    caller: RunnerId,
    stream: StreamId,
}

impl Two {
    fn new() -> Self {
        let (mut world, callee, caller, stream) = World::with_two();
        for (deployment, service, runner) in [("shop", "db", callee), ("api", "grpc", caller)] {
            world.deploy(deployment, &[service]);
            world.attach(runner, &format!("{deployment}/{service}"));
        }
        let mut two = Self { world, callee, caller, stream };
        two.give();
        two.world.apply(stream);
        two.hear_of(OTHER, two.world.state.revision());
        two
    }

    fn give(&mut self) -> Revision {
        self.world.trust(TrustChange::Add { callers: [label("api")].into(), services: None, ports: Ports::All })
    }

    /// Takes it back, as coordinators commit it.
    fn take(&mut self) -> Revision {
        let (state, world) = (&self.world.state, &mut self.world.sessions);
        let what = AdminCommand::Trust { deployment: label("shop"), change: TrustChange::Clear };
        let mut changes =
            state.decide(&Command::Admin { by: Admin::socket(0), what }, UnixSeconds(1_000_000)).unwrap().changes;
        let (mut after, revision) = (state.clone(), state.revision().next());
        let (_, lost) = after.absorb_shared(&changes, revision);
        changes.extend(after.owed_after(&changes, &lost, revision));
        world.absorb(&mut self.world.state, &changes, revision, self.world.now);
        revision
    }

    /// The other coordinator tells that it has reached this revision, and that all up to it is settled there.
    fn hear_of(&mut self, member: MemberId, settled: Revision) {
        let told = Told { at: self.world.state.revision(), settled };
        self.world.sessions.told(&[(member, told)].into());
    }

    fn affected(&self) -> BTreeSet<RunnerId> {
        self.world.sessions.affected(&self.world.state, &label("shop"))
    }

    fn record(&mut self) -> usize {
        let to_record = self.world.sessions.to_record(&self.world.state, self.world.now);
        let number = to_record.len();
        self.world.run(&Command::Owing(to_record));
        number
    }
}

#[test]
fn what_was_taken_counts_until_the_other_coordinator_tells_that_it_is_settled() {
    let mut two = Two::new();
    let (callee, caller) = (two.callee, two.caller);
    assert_eq!(two.affected(), [callee, caller].into());
    let taken = two.take();
    assert_eq!(two.affected(), [callee, caller].into());
    two.hear_of(OTHER, Revision(taken.0 - 1));
    assert_eq!(two.affected(), [callee, caller].into(), "it has told of earlier ones only");
    // It tells of what it had reached before the runner came to it.
    let before = Told { at: Revision(1), settled: taken };
    two.world.sessions.told(&[(OTHER, before)].into());
    assert_eq!(two.affected(), [callee, caller].into());
    two.hear_of(OTHER, taken);
    assert_eq!(two.affected(), [callee].into());
}

#[test]
fn the_loss_of_a_coordinator_and_a_runner_leaves_what_was_taken_from_it_and_no_more() {
    let mut two = Two::new();
    let (callee, caller) = (two.callee, two.caller);
    two.world.deploy("other", &["web"]);
    two.take();
    two.world.apply(two.stream);
    two.world.sessions.members([ME].into(), two.world.now);
    assert_eq!(two.affected(), [callee, caller].into());
    let other = two.world.sessions.affected(&two.world.state, &label("other"));
    assert_eq!(other, [].into(), "it never knew of that");
    // Long after, it becomes a record that later coordinators read.
    assert_eq!(two.world.sessions.abandoned(&two.world.state, two.world.now), []);
    two.world.now += Duration::from_secs(60);
    let abandoned = two.world.sessions.abandoned(&two.world.state, two.world.now);
    assert_eq!(abandoned.len(), 1);
    two.world.run(&Command::Owing(abandoned));
    assert_eq!(two.affected(), [callee, caller].into());
    let mut third = Sessions::resume(two.world.sessions.epoch(), two.world.state.revision(), two.world.now);
    third.share(MemberId(3), &two.world.state, two.world.now);
    assert!(third.affected(&two.world.state, &label("shop")).contains(&caller));
    assert!(!third.affected(&two.world.state, &label("other")).contains(&caller));
    // It comes back, here, and confirms.
    two.world.begin(caller, key(ME, 9));
    let stream = two.world.open_as(caller, key(ME, 9)).unwrap();
    assert_eq!((two.affected(), two.record()), ([callee, caller].into(), 0));
    two.world.apply(stream);
    assert_eq!(two.affected(), [callee].into());
    assert_eq!((two.record(), two.record()), (1, 0), "the record goes");
    assert_eq!(two.world.state.owing(), [].into());
}

#[test]
fn a_runner_that_does_not_confirm_for_long_is_recorded_before_its_coordinator_tells_that_it_is_settled() {
    let mut two = Two::new();
    let callee = two.callee;
    let taken = two.take();
    let api = two.world.state.deployment_named(&label("api")).unwrap().id;
    assert_eq!(two.world.sessions.settled(&two.world.state), Revision(taken.0 - 1));
    assert_eq!(two.record(), 0, "it may confirm within a moment");
    two.world.now += Duration::from_secs(3);
    assert_eq!((two.record(), two.record()), (1, 0));
    assert_eq!(two.world.state.owed_by(callee), [(Some(api), taken)].into());
    assert_eq!(two.world.sessions.settled(&two.world.state), two.world.state.revision());
    two.world.apply(two.stream);
    assert_eq!(two.record(), 1);
    assert_eq!(two.world.state.owed_by(callee), Owes::new());
}

#[test]
fn what_is_taken_from_a_runner_without_a_stream_is_recorded_at_once() {
    let mut two = Two::new();
    let (callee, caller) = (two.callee, two.caller);
    two.world.run(&Command::Owing(vec![two.world.sessions.owing(&two.world.state, caller, key(OTHER, 2), true)]));
    assert_eq!(two.world.state.owing(), [].into(), "it went in peace");
    two.take();
    assert_eq!(two.world.state.owing(), [caller].into());
    assert_eq!(two.affected(), [callee, caller].into());
}

#[test]
fn a_coordinator_that_has_just_begun_takes_runners_to_know_anything_until_it_is_told() {
    let mut two = Two::new();
    let (callee, caller) = (two.callee, two.caller);
    two.world.deploy("other", &["web"]);
    let Two { world, .. } = &two;
    let mut third = Sessions::resume(world.sessions.epoch(), world.state.revision(), world.now);
    third.share(MemberId(3), &world.state, world.now);
    let affected = |third: &Sessions| third.affected(&world.state, &label("other"));
    assert_eq!(affected(&third), [callee, caller].into());
    let (at, settled) = (world.state.revision(), world.state.revision());
    third.told(&[(OTHER, Told { at, settled: Revision(0) })].into());
    assert_eq!(affected(&third), [callee, caller].into(), "that one has a runner that may know anything");
    third.told(&[(OTHER, Told { at, settled })].into());
    assert_eq!(affected(&third), [callee].into());
    third.told(&[(ME, Told { at, settled })].into());
    assert_eq!(affected(&third), [].into());
}

#[test]
fn who_may_know_anything_holds_back_what_its_coordinator_tells() {
    let mut two = Two::new();
    two.world.sessions.share(MemberId(3), &two.world.state, two.world.now);
    two.world.begin(two.callee, key(MemberId(3), 7));
    let stream = two.world.open_as(two.callee, key(MemberId(3), 7)).unwrap();
    assert_eq!(two.world.sessions.settled(&two.world.state), Revision(0));
    two.world.apply(stream);
    assert_eq!(two.world.sessions.settled(&two.world.state), two.world.state.revision());
}
