//! A release keeps to itself within its deployment.

use super::*;

/// Callers of service 1: 10 (v1) and 13 (v2) on runner 1, 11 (of no release) on runner 2. Callees of service 2: on runner 2
/// 20 (v1) and 21 (v2), on runner 3 22 (v2).
fn mixed(runner: u64) -> Builder {
    let view = view(runner).instance(13, 1, 1);
    [(10, "v1"), (13, "v2"), (20, "v1"), (21, "v2"), (22, "v2")]
        .into_iter()
        .fold(view, |view, (id, r)| view.release(id, r))
}

fn running(view: fn(u64) -> Builder) -> World {
    let mut world = World::of(&[view(1), view(2), view(3)]);
    CALLERS.iter().chain(&CALLEES).for_each(|(runner, instance)| world.attach(*runner, *instance));
    world.attach(1, 13);
    world
}

/// How many of so many connections each callee gets.
fn taken(world: &mut World, caller: (u64, u32), ports: std::ops::Range<u16>) -> BTreeMap<u32, usize> {
    let taken: Vec<u32> = ports.map(|port| world.open(caller.0, caller.1, port)).collect();
    spread(&taken)
}

#[test]
fn a_release_calls_itself_before_all_that_is_nearer_or_has_less_to_do() {
    let mut world = running(mixed);
    assert_eq!(taken(&mut world, (1, 10), 0..30), [(20, 30)].into());
    assert_eq!(taken(&mut world, (1, 13), 30..90), [(21, 30), (22, 30)].into(), "by their number");
    // Service 1's instance 11 is of no release: what is near comes first.
    assert_eq!(taken(&mut world, (2, 11), 90..150), [(20, 30), (21, 30)].into(), "both at hand");
}

#[test]
fn a_local_instance_of_another_release_is_passed_by() {
    let view = |runner| {
        view(runner).instance(13, 1, 1).release(11, "v2").release(20, "v1").release(21, "v1").release(22, "v2")
    };
    let mut world = running(view);
    assert_eq!(taken(&mut world, (2, 11), 0..9), [(22, 9)].into());
}

#[test]
fn a_release_that_is_not_there_or_does_not_take_calls_whatever_is() {
    let view = |runner| mixed(runner).release(10, "v0");
    let mut world = running(view);
    assert_eq!(taken(&mut world, (1, 10), 0..30).len(), 3, "all of them");
    // The only one of its release is drained: others get its connections.
    let drained = |runner| mixed(runner).instance_that_is(InstanceState::Draining, 20, 2, 2).release(20, "v1");
    (1..=3).for_each(|runner| world.map(runner, &drained(runner)));
    assert_eq!(taken(&mut world, (1, 10), 30..60).keys().copied().collect::<Vec<_>>(), [21, 22]);
    // It comes back.
    (1..=3).for_each(|runner| world.map(runner, &mixed(runner)));
    assert_eq!(taken(&mut world, (1, 10), 60..90), [(20, 30)].into());
}

#[test]
fn one_that_refuses_or_is_silent_is_no_outage() {
    let mut world = running(mixed);
    world.say(1, 10, &syn(10, 1));
    assert_eq!(world.callees(), [20]);
    let no = back(10, 1).flags(Flags::RST | Flags::ACK).sequence(0);
    world.say(2, 20, &Segment { acknowledgment: 1001, ..no });
    let next = world.callees();
    assert!(next == [21] || next == [22], "another release: {next:?}");
    world.establish(1, 10, 1, next[0]);
    world.wait(Duration::from_secs(1));
    // A SYN without an answer goes to another one when it is sent again.
    world.say(1, 10, &syn(10, 2));
    assert_eq!(world.callees(), [20]);
    world.say(1, 10, &syn(10, 2));
    assert_ne!(world.callees(), [20]);
}

#[test]
fn the_same_word_in_another_deployment_means_nothing() {
    // Service 1 is of another deployment than service 2.
    let view = |runner: u64| {
        let view = Builder::new(runner).runner(1).runner(2).runner(3).deployment(1, "acme").deployment(2, "acme");
        let view = view.service(1, 1).service(2, 2).grant(1, 2, Ports::All).instance(10, 1, 1).instance(11, 1, 2);
        let view = view.instance(12, 1, 3).instance(13, 1, 1).instance(20, 2, 2).instance(21, 2, 2).instance(22, 2, 3);
        [10, 20].into_iter().fold(view, |view, id| view.release(id, "v1"))
    };
    let mut world = running(view);
    assert_eq!(taken(&mut world, (1, 10), 0..30).len(), 3);
}

/// Each release's connections are counted by themselves: those of the other one don't drive them away.
#[test]
fn uneven_runners_share_by_the_release_s_own_instances() {
    let view = |runner: u64| {
        let view = no_callees(runner).instance(13, 1, 1).release(10, "v1").release(13, "v2");
        let view =
            (20..24).fold(view, |view, id| view.instance(id, 2, 2).release(id, if id == 20 { "v1" } else { "v2" }));
        (24..28).fold(view, |view, id| view.instance(id, 2, 3).release(id, if id == 24 { "v2" } else { "v1" }))
    };
    let mut world = World::of(&[view(1), view(2), view(3)]);
    [(1, 10), (1, 13)].into_iter().for_each(|(runner, instance)| world.attach(runner, instance));
    (20..28).for_each(|instance| world.attach(if instance < 24 { 2 } else { 3 }, instance));
    let mut taken = BTreeMap::new();
    for port in 0..80_u16 {
        let caller = if port % 2 == 0 { 10 } else { 13 };
        world.say(1, caller, &syn(caller, port));
        let callee = (20..28).find(|callee| !world.delivered(*callee).is_empty()).expect("a callee");
        *taken.entry(callee).or_insert(0) += 1;
    }
    assert_eq!(taken, (20..28).map(|callee| (callee, 10)).collect());
}
