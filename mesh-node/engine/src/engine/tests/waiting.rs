//! Packets that wait for a handshake.

use super::{
    handshakes::{at, with_runner_2},
    *,
};

#[test]
fn what_waits_is_bounded_kept_in_order_and_given_up() {
    let mut world = World::new();
    world.from[1] = at(5);
    for port in 0..40 {
        world.send(10, &call().source_port(port).syn().build());
    }
    assert_eq!(world.dropped(1, Reason::StagingFull), 8);
    world.wait(Duration::from_secs(9));
    assert_eq!(world.dropped(1, Reason::NoHandshake), 0);
    world.wait(Duration::from_millis(1250));
    assert_eq!(world.dropped(1, Reason::NoHandshake), 32);
    assert!(world.is_quiet());
    // It is found at last, and the waiting packets go in order.
    for port in 50..53 {
        world.read(1, 10, &complete(&call().source_port(port).syn().build()));
    }
    world.map(1, &with_runner_2(vec![at(5)], 3));
    assert_eq!(world.dropped(1, Reason::RunnerGone), 3, "a runner with another key");
    world.map(1, &with_runner_2(vec![at(5)], 2));
    for port in 60..63 {
        world.read(1, 10, &complete(&call().source_port(port).syn().build()));
    }
    world.carry();
    let expected: Vec<_> = (60..63).map(|port| call().source_port(port).syn().build()).collect();
    assert_eq!(world.delivered(20), expected);
}

#[test]
fn large_packets_wait_up_to_a_bound() {
    let mut world = World::new();
    world.from[1] = at(5);
    for _ in 0..10 {
        world.read(1, 10, &call().payload(&vec![0; 60000]).read(1292));
    }
    assert_eq!(world.dropped(1, Reason::StagingFull), 6);
}

#[test]
fn what_waited_is_judged_by_the_current_map() {
    let mut world = World::new();
    world.read(1, 10, &complete(&call().syn().build()));
    world.map(1, &unrelated(1));
    world.carry();
    world.wait(Duration::from_millis(1));
    assert_eq!((world.delivered(20).len(), world.delivered(10).len()), (0, 1), "rejected by the caller's own runner");
    assert_eq!((world.dropped(1, Reason::NoTrust), world.drops(2)), (1, 0));
}
