//! Which instance gets a new connection.

use super::*;

#[test]
fn connections_spread_evenly_and_the_callers_own_runner_comes_first() {
    for ((runner, caller), expected) in
        CALLERS.into_iter().zip([vec![(20, 100), (21, 100), (22, 100)], vec![(20, 150), (21, 150)], vec![(22, 300)]])
    {
        let mut world = world();
        let taken: Vec<u32> = (0..300).map(|port| world.open(runner, caller, 1000 + port)).collect();
        assert_eq!(spread(&taken), expected.into_iter().collect(), "from runner {runner}");
        let drops: u64 = (1..=3).map(|runner| world.drops(runner)).sum();
        assert_eq!(drops, 0);
    }
}

#[test]
fn the_instance_with_the_fewest_gets_the_next_connection() {
    let mut world = world();
    let taken: Vec<u32> = (0..6).map(|port| world.open(2, 11, port)).collect();
    // All connections of one instance end: the next ones go there.
    let left = taken[0];
    for port in (0..6).filter(|port| taken[usize::from(*port)] == left) {
        world.say(2, 11, &syn(11, port).flags(Flags::FIN | Flags::ACK).sequence(1001));
        world.say(2, left, &back(11, port).flags(Flags::FIN | Flags::ACK));
        world.say(2, 11, &Segment { acknowledgment: 5001, ..syn(11, port).flags(Flags::ACK).sequence(1002) });
    }
    world.callees();
    world.delivered(11);
    assert!((6..9).all(|port| world.open(2, 11, port) == left));
    let report = world.engine(2).report(Instant::now());
    let open: BTreeMap<u64, u32> = report.instances.iter().map(|i| (i.instance.0, i.open)).collect();
    assert_eq!((open[&20], open[&21], open[&11], report.connections), (3, 3, 0, 6));
}

#[test]
fn an_instance_that_refuses_is_skipped_without_the_callers_notice() {
    let mut world = world();
    let refuse = |world: &mut World, caller: u32, port: u16| {
        let asked = world.callees();
        assert_eq!(asked.len(), 1);
        let on = CALLEES.iter().find(|(_, at)| *at == asked[0]).unwrap().0;
        let no = back(caller, port).flags(Flags::RST | Flags::ACK).sequence(0);
        world.say(on, asked[0], &Segment { acknowledgment: 1001, ..no });
        asked[0]
    };
    world.say(1, 10, &syn(10, 1));
    let refusers = [refuse(&mut world, 10, 1), refuse(&mut world, 10, 1)];
    assert_ne!(refusers[0], refusers[1]);
    let last: Vec<u32> = world.callees();
    assert_eq!(last.len(), 1);
    assert!(!refusers.contains(&last[0]) && world.delivered(10).is_empty());
    world.establish(1, 10, 1, last[0]);
    // For a second no other instance is asked, though the others have fewer connections.
    assert!((2..5).all(|port| world.open(1, 10, port) == last[0]));
    world.wait(Duration::from_secs(1));
    assert!(refusers.contains(&world.open(1, 10, 6)));

    // All refuse: the caller gets the last refusal.
    world.wait(Duration::from_secs(1));
    world.say(1, 10, &syn(10, 7));
    for _ in 0..2 {
        refuse(&mut world, 10, 7);
        assert!(world.delivered(10).is_empty());
    }
    refuse(&mut world, 10, 7);
    let answers = world.delivered(10);
    assert_eq!(answers.len(), 1);
    assert_eq!(packet(&answers[0]).1.flags, Flags(Flags::RST | Flags::ACK));
    assert!(world.callees().is_empty());
}

#[test]
fn an_instances_own_packet_filter_refuses_too() {
    let mut world = world();
    world.say(3, 12, &syn(12, 1));
    let syn_there = world.delivered(22).remove(0);
    let refusal = crate::reject_packet::RejectPacket::unreachable(
        &syn_there,
        &packet(&syn_there).0,
        crate::reject_packet::Unreachable::Prohibited,
    );
    world.read(3, 22, refusal.bytes());
    world.carry();
    let asked = world.callees();
    assert!(asked == [20] || asked == [21], "{asked:?}");
    assert!(world.delivered(12).is_empty());
    // The last refusal becomes a RST, since ICMP doesn't cross.
    for _ in 0..2 {
        let asked = CALLEES
            .iter()
            .find(|(_, port)| {
                world.engines[1]
                    .report(world.now)
                    .instances
                    .iter()
                    .any(|i| i.instance.0 == u64::from(*port) && i.open > 0)
            })
            .unwrap()
            .1;
        world.read(2, asked, refusal.bytes());
        world.carry();
    }
    let answers = world.delivered(12);
    assert_eq!(answers.len(), 1);
    assert_eq!(
        (packet(&answers[0]).1.flags, packet(&answers[0]).1.acknowledgment),
        (Flags(Flags::RST | Flags::ACK), 1001)
    );
}

#[test]
fn an_instance_that_does_not_answer_loses_the_syn_on_its_first_retransmission() {
    let mut world = world();
    world.say(1, 10, &syn(10, 1));
    let first = world.callees()[0];
    world.say(1, 10, &syn(10, 1));
    let second = world.callees()[0];
    assert_ne!(first, second);
    // The late answer of the first instance does no harm, and the instance gets a RST.
    let on = |callee: u32| CALLEES.iter().find(|(_, port)| *port == callee).unwrap().0;
    world.say(on(first), first, &back(10, 1).flags(SYN_ACK).sequence(9999));
    assert!(world.delivered(10).is_empty());
    assert_eq!(world.resets(first), [2000], "with the sequence number that it has acknowledged");
    world.establish(1, 10, 1, second);
    // From now on it stays, whatever the caller retransmits.
    world.say(1, 10, &syn(10, 1));
    assert_eq!(world.callees(), [second]);
    // A new initial sequence number is a new attempt: the callee of the old one gets a RST.
    world.say(1, 10, &syn(10, 1).sequence(77));
    let resets: Vec<u32> =
        CALLEES.iter().filter(|(_, port)| !world.delivered(*port).is_empty()).map(|(_, p)| *p).collect();
    assert!(resets.contains(&second));
}

#[test]
fn two_instances_on_one_runner_are_tried_one_after_the_other() {
    let one_runner = |runner| no_callees(runner).instance(20, 2, 2).instance(21, 2, 2);
    let mut world = World::of(&[one_runner(1), one_runner(2)]);
    [(1, 10), (2, 20), (2, 21)].into_iter().for_each(|(runner, instance)| world.attach(runner, instance));
    world.say(1, 10, &syn(10, 1));
    let first = world.callees();
    world.say(1, 10, &syn(10, 1));
    let second = world.callees();
    assert_ne!(first, second);
    world.say(1, 10, &syn(10, 1));
    assert_eq!(world.callees(), first, "then the second round begins");
}

#[test]
fn an_instance_that_has_missed_the_syn_is_asked_again_before_the_others_refusals_count() {
    let one_runner = |runner| no_callees(runner).instance(20, 2, 2).instance(21, 2, 2);
    let mut world = World::of(&[one_runner(1), one_runner(2)]);
    [(1, 10), (2, 20), (2, 21)].into_iter().for_each(|(runner, instance)| world.attach(runner, instance));
    let refuse = |world: &mut World, refuser: u32| {
        let no = back(10, 1).flags(Flags::RST | Flags::ACK).sequence(0);
        world.say(2, refuser, &Segment { acknowledgment: 1001, ..no });
    };
    // One refuses, the other one has missed the SYN.
    world.say(1, 10, &syn(10, 1));
    let refuser = world.callees()[0];
    refuse(&mut world, refuser);
    let other = world.callees();
    assert_eq!(other.len(), 1);
    assert!(world.delivered(10).is_empty());
    for (others, resets) in [(&other[..], 0), (&[], 1)] {
        world.say(1, 10, &syn(10, 1));
        assert_eq!(world.callees(), [refuser]);
        refuse(&mut world, refuser);
        // It may have missed one SYN, but not two.
        assert_eq!((&world.callees()[..], world.delivered(10).len()), (others, resets));
    }
}

#[test]
fn a_runner_that_does_not_answer_comes_last() {
    let mut world = world();
    world.open(1, 10, 1);
    world.from[1] = ([203, 0, 113, 9], 1).into();
    let mut fresh = World::of(&[view(1), view(2), view(3)]);
    CALLERS.iter().chain(&CALLEES).for_each(|(runner, instance)| fresh.attach(*runner, *instance));
    fresh.from[1] = ([203, 0, 113, 9], 1).into();
    // The SYNs for runner 2 wait for a handshake. Their retransmissions go to the other runner.
    let stuck: Vec<u16> = (0..10)
        .filter(|port| {
            fresh.say(1, 10, &syn(10, *port));
            fresh.callees().is_empty()
        })
        .collect();
    assert!(!stuck.is_empty());
    for port in &stuck {
        fresh.say(1, 10, &syn(10, *port));
        assert_eq!(fresh.callees(), [22]);
    }
    fresh.wait(Duration::from_secs(2));
    fresh.callees();
    assert!((20..30).all(|port| fresh.open(1, 10, port) == 22), "no connection waits any more");
    // The SYNs that waited for runner 2 have moved by the time that it is found.
    fresh.from[1] = endpoint(2);
    fresh.wait(Duration::from_secs(20));
    assert!(fresh.callees().is_empty());
    assert!((40..90).any(|port| fresh.open(1, 10, port) != 22), "it is back");
}

#[test]
fn a_runner_that_falls_silent_is_found_out_within_seconds() {
    let mut world = world();
    let taken: Vec<u32> = (0..12).map(|port| world.open(1, 10, port)).collect();
    assert!(taken.contains(&22) && taken.contains(&20));
    // Runner 2 is cut off. Its session stands for minutes.
    world.from[1] = ([203, 0, 113, 9], 1).into();
    let lost = |world: &mut World, ports: std::ops::Range<u16>| {
        let mut lost = 0;
        for port in ports {
            world.say(1, 10, &syn(10, port));
            lost += u32::from(world.callees().is_empty());
            world.wait(Duration::from_secs(1));
            world.say(1, 10, &syn(10, port));
            world.callees();
            world.delivered(10);
        }
        lost
    };
    assert!((1..4).contains(&lost(&mut world, 100..110)), "the first one or two wait for a second");
    assert_eq!(lost(&mut world, 200..210), 0, "and no connection after that");
}

#[test]
fn a_drained_instance_keeps_what_it_has_and_gets_nothing() {
    let mut world = world();
    let taken: Vec<u32> = (0..4).map(|port| world.open(2, 11, port)).collect();
    let draining = |runner| view(runner).instance_that_is(InstanceState::Draining, 20, 2, 2);
    (1..=3).for_each(|runner| world.map(runner, &draining(runner)));
    assert!((10..20).all(|port| world.open(2, 11, port) == 21));
    for (port, callee) in (0..4).zip(taken) {
        world.say(2, 11, &syn(11, port).flags(Flags::ACK).payload(b"more"));
        assert_eq!(world.callees(), [callee]);
        world.say(2, callee, &back(11, port));
        assert_eq!(world.delivered(11).len(), 1);
    }
}

#[test]
fn a_caller_has_a_bounded_number_of_connections() {
    let mut world = World::of(&[super::super::view(1)]);
    world.attach(1, 10);
    world.attach(1, 30);
    // The memory and the table have room for this many. The rest is for others.
    let room = (PINS - 64) / 64 / 4 + 1;
    let to = |n: usize| tcp().between(address(10), address(3)).source_port(n as u16).syn();
    for n in 0..room {
        world.read(1, 10, &complete(&to(n).build()));
    }
    assert_eq!(world.delivered(30).len(), room);
    world.read(1, 10, &complete(&to(room).build()));
    world.wait(Duration::from_millis(1));
    assert_eq!((world.delivered(30).len(), world.delivered(10)[0][20..22].to_vec()), (0, vec![3, 13]));
    assert_eq!(world.dropped(1, Reason::TooManyConnections), 1);
    // An ended connection makes room.
    world.read(1, 10, &complete(&to(0).flags(Flags::RST).sequence(1001).build()));
    world.delivered(30);
    world.read(1, 10, &complete(&to(room).build()));
    assert_eq!(world.delivered(30).len(), 1);
}

#[test]
fn an_attempt_whose_instance_ends_goes_to_another_one() {
    // The caller's own runner has two instances.
    let here = |runner| no_callees(runner).instance(20, 2, 1).instance(21, 2, 1);
    let mut world = World::of(&[here(1)]);
    [10, 20, 21].into_iter().for_each(|instance| world.attach(1, instance));
    world.say(1, 10, &syn(10, 1));
    let first = world.callees()[0];
    world.detach(1, first);
    let second = world.callees();
    assert!(second.len() == 1 && second[0] != first, "{second:?}");
    assert!(world.delivered(10).is_empty(), "without the caller's notice");
    world.establish_here(1, second[0]);
    // No other instance is left.
    world.say(1, 10, &syn(10, 2));
    assert_eq!(world.callees(), second);
    world.detach(1, second[0]);
    assert_eq!(world.delivered(10).len(), 2, "the standing connection and the attempt are reset");
}

#[test]
fn an_attempt_whose_runner_is_no_longer_in_the_map_goes_to_another_one() {
    let mut world = world();
    // Runner 2 doesn't answer and leaves the map before the SYN is retransmitted.
    world.from[1] = ([203, 0, 113, 9], 1).into();
    let stuck: Vec<u16> = (0..10)
        .filter(|port| {
            world.say(1, 10, &syn(10, *port));
            world.callees().is_empty()
        })
        .collect();
    assert!(!stuck.is_empty());
    let report = |world: &mut World| world.engine(1).report(Instant::now()).connections;
    let before = report(&mut world);
    world.map(1, &no_callees(1).instance(22, 2, 3));
    world.carry();
    let given: Vec<u16> = world.delivered(22).iter().map(|bytes| packet(bytes).1.source_port).collect();
    assert_eq!(given, stuck);
    assert!(world.delivered(10).is_empty());
    assert_eq!(report(&mut world), before);
    world.establish(1, 10, stuck[0], 22);
    // An attempt without the right doesn't move.
    world.say(1, 10, &syn(10, 99));
    world.callees();
    world.map(1, &no_callees(1).deployment(2, "acme").service(2, 2).instance(22, 2, 3));
    assert_eq!(world.delivered(10).len(), before + 1);
    world.carry();
    assert!(world.delivered(22).iter().all(|bytes| packet(bytes).1.flags.has(Flags::RST)));
}
