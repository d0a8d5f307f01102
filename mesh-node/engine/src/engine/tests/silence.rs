//! Runners that fall silent.

use super::{handshakes::at, *};

/// Whether runner 1 prefers other runners to runner 2.
fn is_demoted(world: &mut World) -> bool {
    let now = world.now;
    world.engine(1).core.peers.is_demoted(crate::index::RunnerIx(0), now)
}

#[test]
fn a_runner_that_falls_silent_is_demoted_within_seconds_until_it_is_back() {
    let mut world = World::new();
    world.send(10, &call().syn().build());
    world.wait(Duration::from_secs(30));
    let endpoint = std::mem::replace(&mut world.from[1], at(5));
    assert!(!is_demoted(&mut world), "it owes no answer");
    world.send(10, &call().payload(b"are you there?").build());
    world.wait(Duration::from_millis(1250));
    assert!(!is_demoted(&mut world), "it may be slow");
    world.wait(Duration::from_millis(2750));
    assert!(is_demoted(&mut world));
    world.from[1] = endpoint;
    world.read(2, 20, &complete(&reply().build()));
    world.carry();
    assert!(!is_demoted(&mut world), "there it is");
}

#[test]
fn a_runner_that_owes_no_answer_is_not_doubted() {
    let mut world = World::new();
    world.send(10, &call().syn().build());
    world.wait(Duration::from_secs(20));
    // The last ACK of a connection, and a RST.
    world.send(10, &call().build());
    world.send(10, &call().flags(Flags::RST).build());
    for _ in 0..32 {
        world.now += Duration::from_millis(250);
        world.with(1, |engine, sink, now| engine.handle_timeout(now, sink));
    }
    assert!(world.wire.is_empty(), "no handshake");
    assert!(!is_demoted(&mut world));
}

#[test]
fn a_runner_that_is_never_found_is_demoted() {
    let mut world = World::new();
    world.from[1] = at(5);
    world.send(10, &call().syn().build());
    assert!(!is_demoted(&mut world));
    world.wait(Duration::from_secs(2));
    assert!(is_demoted(&mut world));
}
