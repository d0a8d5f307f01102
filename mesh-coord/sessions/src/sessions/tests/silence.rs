//! Runners without a stream.

use crate::silence::Mass;

use super::*;

/// The commands about runners without a stream, this many seconds after `start`.
fn unheard(world: &mut World, start: Instant, seconds: u64) -> Vec<String> {
    shown(world.sessions.unheard(&world.state, start + Duration::from_secs(seconds)).commands)
}

fn shown(commands: Vec<Command>) -> Vec<String> {
    commands.into_iter().map(|command| format!("{command:?}")).collect()
}

fn silent(runners: &[RunnerId]) -> Command {
    Command::Silent { runners: runners.iter().copied().collect(), held_back: None }
}

/// That these runners are marked and nothing else is done.
fn marks(runners: &[RunnerId]) -> Vec<String> {
    shown(vec![silent(runners)])
}

#[test]
fn a_silent_runner_loses_preference_and_only_ephemeral_ones_are_removed() {
    let mut world = World::new();
    let start = world.now;
    let [online, left, brief] =
        [("online", false), ("left", false), ("brief", true)].map(|(name, ephemeral)| world.enrol(name, ephemeral));
    world.open(online);
    let stream = world.open(left);
    world.sessions.close(stream, None, start);
    assert_eq!(unheard(&mut world, start, 20), [""; 0], "all are still coming back");
    assert_eq!(unheard(&mut world, start, 30), marks(&[left, brief]));
    assert_eq!(
        unheard(&mut world, start, 601),
        shown(vec![Command::Expire(brief), silent(&[left])]),
        "and {online} is connected"
    );
    world.run(&silent(&[left]));
    assert_eq!(unheard(&mut world, start, 40), marks(&[brief]), "once is enough");

    // After a restart of the coordinator, no runner counts as away for longer than since that restart.
    let start = start + Duration::from_secs(1000);
    world.sessions = Sessions::new(Epoch([8; 16]), start);
    assert_eq!(unheard(&mut world, start, 29), [""; 0]);
    assert_eq!(unheard(&mut world, start, 599), marks(&[online, brief]));
}

#[test]
fn a_runner_is_silent_six_seconds_after_its_stream_has_ended() {
    let mut world = World::new();
    let runner = world.enrol("one", false);
    let stream = world.open(runner);
    let end = world.now + Duration::from_secs(3000);
    world.sessions.close(stream, None, end);
    assert_eq!(unheard(&mut world, end, 5), [""; 0]);
    assert_eq!(unheard(&mut world, end, 6), marks(&[runner]));
}

/// A mesh of so many runners, which were all connected before the coordinator's start.
fn restarted(runners: usize) -> (World, Vec<RunnerId>) {
    let mut world = World::new();
    let runners = (0..runners).map(|number| world.enrol(&format!("m{number}"), false)).collect();
    world.sessions = Sessions::new(Epoch([8; 16]), world.now);
    (world, runners)
}

#[test]
fn while_runners_still_come_back_after_a_start_none_counts_as_silent() {
    let (mut world, runners) = restarted(40);
    let start = world.now;
    for (runner, second) in runners[..36].iter().zip(1..) {
        world.now = start + Duration::from_secs(second);
        world.open(*runner);
        assert_eq!(unheard(&mut world, start, second), [""; 0]);
    }
    assert_eq!(unheard(&mut world, start, 36 + 9), [""; 0]);
    assert_eq!(unheard(&mut world, start, 36 + 10), marks(&runners[36..]));
}

#[test]
fn one_that_comes_back_again_and_again_does_not_put_off_that_the_others_are_marked() {
    let (mut world, runners) = restarted(3);
    let start = world.now;
    for second in 1..31 {
        world.now = start + Duration::from_secs(second);
        let stream = world.open(runners[0]);
        world.sessions.close(stream, None, world.now);
    }
    world.open(runners[0]);
    assert_eq!(unheard(&mut world, start, 31), marks(&runners[1..3]));
}

#[test]
fn many_that_are_silent_at_once_are_held_back_and_then_marked_together() {
    let (mut world, runners) = restarted(100);
    let streams: Vec<StreamId> = runners.iter().map(|runner| world.open(*runner)).collect();
    let (start, second) = (world.now, Duration::from_secs(1));
    let cut = start + 100 * second;
    // The first ones are not marked before the last ones are gone.
    for (stream, number) in streams[..20].iter().zip(0..) {
        world.sessions.close(*stream, None, cut + number * second / 10);
    }
    let at = |world: &mut World, seconds| {
        let unheard = world.sessions.unheard(&world.state, cut + Duration::from_secs(seconds));
        (shown(unheard.commands), unheard.held_back)
    };
    let mass = Mass { away: 20, of: 100, held_back: Duration::from_secs(60) };
    assert_eq!(at(&mut world, 6), (vec![], Some(mass)), "told once");
    assert_eq!(at(&mut world, 65), (vec![], None));
    let all = Command::Silent { runners: runners[..20].iter().copied().collect(), held_back: Some(60) };
    assert_eq!(at(&mut world, 66), (shown(vec![all.clone()]), None));

    // One that breaks down later is not part of it.
    world.run(&all);
    world.sessions.close(streams[50], None, cut + 100 * second);
    assert_eq!(at(&mut world, 106), (marks(&runners[50..51]), None));
}

#[test]
fn those_of_many_that_come_back_in_time_are_never_marked() {
    let (mut world, runners) = restarted(100);
    let streams: Vec<StreamId> = runners.iter().map(|runner| world.open(*runner)).collect();
    let cut = world.now + Duration::from_secs(100);
    streams.iter().for_each(|stream| world.sessions.close(*stream, None, cut));
    assert!(world.sessions.unheard(&world.state, cut + Duration::from_secs(6)).held_back.is_some());
    for runner in &runners[1..] {
        world.open(*runner);
    }
    assert_eq!(unheard(&mut world, cut, 30), marks(&runners[..1]), "this one is alone");
}

#[test]
fn in_a_small_mesh_machines_that_break_down_together_are_marked_at_once() {
    let (mut world, runners) = restarted(30);
    let streams: Vec<StreamId> = runners.iter().map(|runner| world.open(*runner)).collect();
    let cut = world.now + Duration::from_secs(100);
    streams[..19].iter().for_each(|stream| world.sessions.close(*stream, None, cut));
    assert_eq!(unheard(&mut world, cut, 6), marks(&runners[..19]));
}
