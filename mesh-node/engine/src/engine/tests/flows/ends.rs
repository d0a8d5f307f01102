//! The ends that get a reset when a connection has ended.

use std::sync::Arc;

use super::*;

/// A world with one standing connection, from 10 on runner 1 to 20 on runner 2.
fn established() -> World {
    let mut world = World::new();
    world.send(10, &call().syn().build());
    world.read(2, 20, &complete(&reply().flags(SYN_ACK).sequence(5000).build()));
    world.carry();
    world.send(10, &Segment { acknowledgment: 5001, ..call().sequence(1001) }.build());
    world
}

#[test]
fn connections_stay_where_they_are_when_others_come_and_go() {
    let one = |runner| no_callees(runner).instance(20, 2, 2);
    let mut world = World::of(&[one(1), one(2), one(3)]);
    CALLERS.iter().chain(&CALLEES[..1]).for_each(|(runner, instance)| world.attach(*runner, *instance));
    let mut taken: Vec<(u16, u32)> = (0..5).map(|port| (port, world.open(1, 10, port))).collect();
    (1..=3).for_each(|runner| world.map(runner, &view(runner)));
    world.attach(2, 21);
    world.attach(3, 22);
    taken.extend((10..25).map(|port| (port, world.open(1, 10, port))));
    let check = |world: &mut World, taken: &[(u16, u32)]| {
        for (port, callee) in taken {
            world.say(1, 10, &syn(10, *port).flags(Flags::ACK).payload(b"?"));
            assert_eq!(world.callees(), [*callee], "port {port}");
        }
    };
    check(&mut world, &taken);
    assert_eq!(spread(&taken.iter().map(|(_, callee)| *callee).collect::<Vec<_>>()).len(), 3);
    // One instance is left: only the connections to the others are reset, with the sequence number that the caller expects.
    (1..=3).for_each(|runner| world.map(runner, &one(runner)));
    world.carry();
    let (stays, ends): (Vec<_>, Vec<_>) = taken.into_iter().partition(|(_, callee)| *callee == 20);
    let mut reset: Vec<u16> = world.delivered(10).iter().map(|bytes| packet(bytes).1.destination_port).collect();
    reset.sort_unstable();
    reset.dedup();
    assert_eq!(reset, ends.iter().map(|(port, _)| *port).collect::<Vec<_>>());
    CALLEES.iter().for_each(|(_, port)| drop(world.delivered(*port)));
    check(&mut world, &stays);
    // The next segment of a reset connection is answered and not sent to another instance.
    world.say(1, 10, &syn(10, ends[0].0).flags(Flags::ACK));
    assert_eq!(world.resets(10), [2000]);
    assert!(world.callees().is_empty());
}

#[test]
fn both_ends_of_a_connection_are_reset_when_the_right_is_gone_even_if_idle() {
    let mut world = established();
    world.delivered(20);
    world.delivered(10);
    world.wait(Duration::from_secs(30));
    world.map(2, &unrelated(2));
    world.carry();
    assert_eq!(world.resets(20), [2000], "the sequence number that it expects");
    assert_eq!(world.resets(10), [5001], "though its own runner doesn't know yet");
    world.map(1, &unrelated(1));
    world.wait(Duration::from_secs(3));
    assert!(world.delivered(10).is_empty() && world.delivered(20).is_empty(), "it has ended already");
    // A delayed ACK was pending: the challenge ACK is answered with its own number (RFC 5961 §3.2).
    world.send(10, &Segment { acknowledgment: 6000, ..call() }.build());
    assert_eq!(world.resets(10), [6000]);
}

#[test]
fn an_end_that_had_to_ignore_the_other_runners_reset_is_reset_here() {
    for before in [true, false] {
        let mut world = World::new();
        world.send(10, &call().syn().build());
        world.read(2, 20, &complete(&reply().flags(SYN_ACK).sequence(5000).build()));
        world.carry();
        world.send(10, &Segment { acknowledgment: 5001, ..call().sequence(1001) }.build());
        world.delivered(20);
        // The caller's runner gets the new map first.
        world.map(1, &unrelated(1));
        let acknowledge = complete(&Segment { acknowledgment: 2500, ..reply() }.build());
        if before {
            world.read(2, 20, &acknowledge);
        }
        world.carry();
        let mut resets = world.resets(20);
        assert_eq!(resets[0], 2000, "the number that it expected by its last acknowledgment there");
        // The next acknowledgment was already in flight.
        if !before {
            world.read(2, 20, &acknowledge);
        }
        world.map(2, &unrelated(2));
        resets.extend(world.resets(20));
        assert_eq!(resets, [2000, 2500], "again with the right number, from either runner");
    }
}

#[test]
fn a_caller_that_had_to_ignore_the_reset_by_an_instances_end_gets_another() {
    let mut world = world();
    let port = (0..12).find(|port| world.open(1, 10, *port) == 20).expect("one in three goes there");
    world.detach(2, 20);
    world.carry();
    assert_eq!(world.resets(10), [2000]);
    world.say(1, 10, &Segment { acknowledgment: 5100, ..syn(10, port).flags(Flags::ACK).sequence(1001) });
    assert_eq!(world.resets(10), [5100]);
    assert!(world.delivered(21).is_empty() && world.delivered(22).is_empty());
}

#[test]
fn a_runner_that_is_removed_gets_the_resets_of_its_connections() {
    let mut world = world();
    let port = (0..12).find(|port| world.open(1, 10, *port) != 22).expect("two in three go there");
    let (_, there) = (world.resets(10), world.open(2, 11, port));
    assert_ne!(there, 22);
    let left = Builder::new(1).runner(1).runner(3).deployment(1, "acme").service(1, 1).service(2, 1);
    world.map(1, &left.instance(10, 1, 1).instance(22, 2, 3).instance(12, 1, 3));
    world.carry();
    let resets: Vec<u32> = [20, 21].iter().flat_map(|port| world.resets(*port)).collect();
    assert!(!resets.is_empty() && resets.iter().all(|number| *number == 2000), "{resets:?}");
    assert!(!world.resets(10).is_empty(), "the local ends are reset as well");
    assert!(world.delivered(11).is_empty(), "its own connections go on");
}

#[test]
fn other_runners_get_resets_when_an_instance_ends() {
    let mut world = world();
    let taken: Vec<u32> = (0..6).map(|port| world.open(1, 10, port)).collect();
    world.detach(2, 20);
    world.carry();
    let reset = world.delivered(10).iter().map(|bytes| packet(bytes).1.destination_port).collect::<Vec<_>>();
    let expected: Vec<u16> = (0..6).filter(|port| taken[usize::from(*port)] == 20).collect();
    assert_eq!(reset, expected, "at once and without the coordinator");
    assert!(world.delivered(21).is_empty() && world.delivered(22).is_empty());
    // A lost RST is sent again.
    let mut world = world_with_loss(&taken);
    world.wait(Duration::from_secs(2));
    assert!(!world.resets(10).is_empty());
}

/// A world with these connections, in which the RSTs of runner 2 were lost.
fn world_with_loss(taken: &[u32]) -> World {
    let mut world = world();
    for (port, callee) in (0..).zip(taken) {
        assert_eq!(world.open(1, 10, port), *callee, "the same world");
    }
    world.detach(2, 20);
    assert!(!world.wire.is_empty());
    world.wire.clear();
    world
}

#[test]
fn an_address_that_another_instance_has_now_is_not_the_same_end() {
    let mut world = World::new();
    world.send(10, &call().syn().build());
    world.read(2, 20, &complete(&reply().flags(SYN_ACK).build()));
    world.carry();
    world.send(10, &call().build());
    world.delivered(10);
    world.delivered(20);
    // Instance 77 has the address now.
    let mut after = others(2).grant(1, 2, Ports::All);
    after.0.put(mesh_proto::Record::Instance(Arc::new(mesh_proto::view::Instance {
        id: InstanceId(77),
        service: mesh_proto::ServiceId(1),
        runner: mesh_proto::RunnerId(1),
        address: address(10),
        state: InstanceState::Live,
        release: None,
    })));
    world.map(2, &after);
    assert_eq!(world.resets(20), [2000]);
}

#[test]
fn a_connection_whose_last_segment_came_in_a_batch_has_ended() {
    let mut world = established();
    // The rest of a response, with a FIN.
    let last = reply().sequence(5001).flags(Flags::ACK | Flags::PSH | Flags::FIN).payload(&[7; 3000]);
    world.read(2, 20, &last.read(1292));
    world.carry();
    world.sinks.iter_mut().for_each(|sink| sink.delivered.clear());
    world.send(10, &Segment { acknowledgment: 8002, ..call().sequence(1001).flags(Flags::ACK | Flags::FIN) }.build());
    world.read(2, 20, &complete(&Segment { acknowledgment: 1002, ..reply().sequence(8002) }.build()));
    world.carry();
    for runner in [1, 2] {
        assert_eq!(world.engine(runner).report(Instant::now()).connections, 0, "at runner {runner}");
    }
}

#[test]
fn an_idle_end_is_reset_however_long_its_runner_was_out_of_reach() {
    for minutes in [0, 1, 90] {
        let mut world = world();
        let taken: Vec<u32> = (0..12).map(|port| world.open(1, 10, port)).collect();
        let ports: Vec<u16> = (0..12).filter(|port| taken[usize::from(*port)] == 20).collect();
        // The runners are cut off from each other, and one of two instances there ends.
        let away = world.from.clone();
        (world.from[0], world.from[1]) = (([203, 0, 113, 8], 1).into(), ([203, 0, 113, 9], 1).into());
        world.detach(2, 20);
        let fewer = |runner| no_callees(runner).instance(21, 2, 2).instance(22, 2, 3);
        (1..=3).for_each(|runner| world.map(runner, &fewer(runner)));
        world.wait(Duration::from_secs(10 + 60 * minutes));
        assert!(world.delivered(10).is_empty());
        world.from = away;
        world.wait(Duration::from_secs(60));
        let mut resets: Vec<u16> = world.delivered(10).iter().map(|bytes| packet(bytes).1.destination_port).collect();
        resets.sort_unstable();
        resets.dedup();
        assert_eq!(resets, ports, "after {minutes} minutes");
        // Once the runner is heard again, the connection is forgotten. (The keepalive is sent here, since boringtun would
        // send it by its own clock.)
        let stands = (0..12).find(|port| taken[usize::from(*port)] == 21).expect("one in three is there");
        for _ in 0..12 {
            world.say(1, 10, &syn(10, stands).flags(Flags::ACK).sequence(1001));
            world.wait(Duration::from_secs(10));
        }
        CALLEES.iter().for_each(|(_, port)| drop(world.delivered(*port)));
        assert!(world.engine(2).core.resets.next().is_none());
        assert_eq!(world.engine(2).core.flows.all().count(), taken.iter().filter(|callee| **callee == 21).count());
    }
}
