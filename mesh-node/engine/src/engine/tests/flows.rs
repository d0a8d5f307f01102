use super::*;
use crate::{PinMemory, testing::packet};
use mesh_proto::view::InstanceState;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

/// Service 1 calls service 2 of the same deployment. Service 2 has 20 and 21 on runner 2, and 22 on runner 3; service 1
/// has 10 on runner 1, 11 on runner 2, and 12 on runner 3.
fn view(runner: u64) -> Builder {
    nobody(runner).instance(20, 2, 2).instance(21, 2, 2).instance(22, 2, 3)
}

/// The same without service 2's instances.
fn nobody(runner: u64) -> Builder {
    let builder = Builder::new(runner).runner(1).runner(2).runner(3).deployment(1, "acme");
    let builder = builder.service(1, 1).service(2, 1);
    builder.instance(10, 1, 1).instance(11, 1, 2).instance(12, 1, 3)
}

const CALLERS: [(u64, u32); 3] = [(1, 10), (2, 11), (3, 12)];
const CALLEES: [(u64, u32); 3] = [(2, 20), (2, 21), (3, 22)];

fn world() -> World {
    let mut world = World::of(&[view(1), view(2), view(3)]);
    CALLERS.iter().chain(&CALLEES).for_each(|(runner, instance)| world.attach(*runner, *instance));
    world
}

/// A SYN from a caller's instance, with this local port.
fn syn(caller: u32, port: u16) -> Segment {
    tcp().between(address(caller.into()), address(2)).source_port(port).syn()
}

fn back(caller: u32, port: u16) -> Segment {
    tcp().between(address(2), address(caller.into())).ports(5432, port).sequence(5000)
}

impl World {
    fn say(&mut self, runner: u64, port: u32, segment: &Segment) {
        self.read(runner, port, &complete(&segment.build()));
        self.carry();
    }

    /// Which of the callees have been given a SYN since the last call, and with which flags.
    fn callees(&mut self) -> Vec<u32> {
        CALLEES.iter().map(|(_, port)| *port).filter(|port| !self.delivered(*port).is_empty()).collect()
    }

    /// Opens a connection, all the way, and gives who has it.
    fn open(&mut self, runner: u64, caller: u32, port: u16) -> u32 {
        self.say(runner, caller, &syn(caller, port));
        let callees = self.callees();
        assert_eq!(callees.len(), 1, "one instance has it: {callees:?}");
        self.establish(runner, caller, port, callees[0]);
        callees[0]
    }

    /// The rest of a handshake.
    fn establish(&mut self, runner: u64, caller: u32, port: u16, callee: u32) {
        let on = CALLEES.iter().find(|(_, port)| *port == callee).expect("a callee").0;
        self.say(on, callee, &back(caller, port).flags(SYN_ACK));
        assert_eq!(self.delivered(caller).len(), 1);
        self.say(runner, caller, &syn(caller, port).flags(Flags::ACK).sequence(1001));
        assert_eq!(self.callees(), [callee]);
    }

    /// The rest of a handshake with a callee on the caller's own runner.
    fn establish_here(&mut self, port: u16, callee: u32) {
        self.say(1, callee, &back(10, port).flags(SYN_ACK));
        self.say(1, 10, &syn(10, port).flags(Flags::ACK).sequence(1001));
        assert_eq!((self.delivered(10).len(), self.callees()), (1, vec![callee]));
    }

    fn resets(&mut self, port: u32) -> Vec<u32> {
        let delivered = self.delivered(port);
        delivered
            .iter()
            .map(|octets| packet(octets).1)
            .filter(|tcp| tcp.flags.has(Flags::RST))
            .map(|t| t.sequence)
            .collect()
    }
}

fn spread(taken: &[u32]) -> BTreeMap<u32, usize> {
    let mut spread = BTreeMap::new();
    taken.iter().for_each(|callee| *spread.entry(*callee).or_default() += 1);
    spread
}

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
fn whoever_has_fewest_gets_the_next() {
    let mut world = world();
    let taken: Vec<u32> = (0..6).map(|port| world.open(2, 11, port)).collect();
    // All of one end; the next ones go there.
    let left = taken[0];
    for port in (0..6).filter(|port| taken[usize::from(*port)] == left) {
        world.say(2, 11, &syn(11, port).flags(Flags::FIN | Flags::ACK).sequence(1001));
        world.say(2, left, &back(11, port).flags(Flags::FIN | Flags::ACK));
    }
    world.callees();
    world.delivered(11);
    assert!((6..9).all(|port| world.open(2, 11, port) == left));
    let report = world.engine(2).report(Instant::now());
    let open: BTreeMap<u64, u32> = report.instances.iter().map(|i| (i.instance.0, i.open)).collect();
    assert_eq!((open[&20], open[&21], open[&11], report.connections), (3, 3, 0, 6));
}

#[test]
fn who_refuses_is_skipped_and_the_caller_never_hears_of_it() {
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
    // For a second nobody else is asked, though the others have fewer connections.
    assert!((2..5).all(|port| world.open(1, 10, port) == last[0]));
    world.wait(Duration::from_secs(1));
    assert!(refusers.contains(&world.open(1, 10, 6)));

    // All refuse: the last one's refusal is the caller's.
    world.wait(Duration::from_secs(1));
    world.say(1, 10, &syn(10, 7));
    for _ in 0..2 {
        refuse(&mut world, 10, 7);
        assert!(world.delivered(10).is_empty());
    }
    refuse(&mut world, 10, 7);
    let told = world.delivered(10);
    assert_eq!(told.len(), 1);
    assert_eq!(packet(&told[0]).1.flags, Flags(Flags::RST | Flags::ACK));
    assert!(world.callees().is_empty());
}

#[test]
fn an_instances_own_packet_filter_refuses_too() {
    let mut world = world();
    world.say(3, 12, &syn(12, 1));
    let syn_there = world.delivered(22).remove(0);
    let refusal =
        crate::refuse::Refusal::unreachable(&syn_there, &packet(&syn_there).0, crate::refuse::Unreachable::Prohibited);
    world.read(3, 22, refusal.octets());
    world.carry();
    let asked = world.callees();
    assert!(asked == [20] || asked == [21], "{asked:?}");
    assert!(world.delivered(12).is_empty());
    // The last one's becomes a RST, since ICMP doesn't cross.
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
        world.read(2, asked, refusal.octets());
        world.carry();
    }
    let told = world.delivered(12);
    assert_eq!(told.len(), 1);
    assert_eq!((packet(&told[0]).1.flags, packet(&told[0]).1.acknowledgment), (Flags(Flags::RST | Flags::ACK), 1001));
}

#[test]
fn who_does_not_answer_loses_the_syn_on_its_first_retransmission() {
    let mut world = world();
    world.say(1, 10, &syn(10, 1));
    let first = world.callees()[0];
    world.say(1, 10, &syn(10, 1));
    let second = world.callees()[0];
    assert_ne!(first, second);
    // The late answer of the first does no harm, and it hears that nobody waits for it.
    let on = |callee: u32| CALLEES.iter().find(|(_, port)| *port == callee).unwrap().0;
    world.say(on(first), first, &back(10, 1).flags(SYN_ACK).sequence(9999));
    assert!(world.delivered(10).is_empty());
    assert_eq!(world.resets(first), [2000], "with the sequence number that it has acknowledged");
    world.establish(1, 10, 1, second);
    // From now on it stays, whatever the caller sends again.
    world.say(1, 10, &syn(10, 1));
    assert_eq!(world.callees(), [second]);
    // A new initial sequence number is a new attempt: the old one's callee hears of it.
    world.say(1, 10, &syn(10, 1).sequence(77));
    let resets: Vec<u32> =
        CALLEES.iter().filter(|(_, port)| !world.delivered(*port).is_empty()).map(|(_, p)| *p).collect();
    assert!(resets.contains(&second));
}

#[test]
fn two_instances_on_one_runner_are_tried_one_after_the_other() {
    let one_runner = |runner| nobody(runner).instance(20, 2, 2).instance(21, 2, 2);
    let mut world = World::of(&[one_runner(1), one_runner(2)]);
    [(1, 10), (2, 20), (2, 21)].into_iter().for_each(|(runner, instance)| world.attach(runner, instance));
    world.say(1, 10, &syn(10, 1));
    let first = world.callees();
    world.say(1, 10, &syn(10, 1));
    let second = world.callees();
    assert_ne!(first, second);
    world.say(1, 10, &syn(10, 1));
    assert_eq!(world.callees(), first, "and once more from the beginning");
}

#[test]
fn one_that_has_missed_the_syn_is_asked_again_before_the_others_refusals_count() {
    let one_runner = |runner| nobody(runner).instance(20, 2, 2).instance(21, 2, 2);
    let mut world = World::of(&[one_runner(1), one_runner(2)]);
    [(1, 10), (2, 20), (2, 21)].into_iter().for_each(|(runner, instance)| world.attach(runner, instance));
    let refuse = |world: &mut World, refuser: u32| {
        let no = back(10, 1).flags(Flags::RST | Flags::ACK).sequence(0);
        world.say(2, refuser, &Segment { acknowledgment: 1001, ..no });
    };
    // One refuses, the other one has missed it.
    world.say(1, 10, &syn(10, 1));
    let refuser = world.callees()[0];
    refuse(&mut world, refuser);
    let other = world.callees();
    assert_eq!(other.len(), 1);
    assert!(world.delivered(10).is_empty());
    for (others, told) in [(&other[..], 0), (&[], 1)] {
        world.say(1, 10, &syn(10, 1));
        assert_eq!(world.callees(), [refuser]);
        refuse(&mut world, refuser);
        // It may have missed the first one, but not both.
        assert_eq!((&world.callees()[..], world.delivered(10).len()), (others, told));
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
    // The SYNs for runner 2 wait for a handshake; retransmitted, they go to the other one.
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
    assert!((20..30).all(|port| fresh.open(1, 10, port) == 22), "nobody waits any more");
    // What waited for runner 2 has another home by now, should it be found after all.
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
    // Runner 2 is cut off. Its session with us goes on for minutes.
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
    assert_eq!(lost(&mut world, 200..210), 0, "and nobody after that");
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
fn connections_stay_where_they_are_when_others_come_and_go() {
    let one = |runner| nobody(runner).instance(20, 2, 2);
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
    // Down to one again: those of the others are reset, with what the caller expects, and nobody else is.
    (1..=3).for_each(|runner| world.map(runner, &one(runner)));
    world.carry();
    let (stays, ends): (Vec<_>, Vec<_>) = taken.into_iter().partition(|(_, callee)| *callee == 20);
    let mut reset: Vec<u16> = world.delivered(10).iter().map(|octets| packet(octets).1.destination_port).collect();
    reset.sort_unstable();
    reset.dedup();
    assert_eq!(reset, ends.iter().map(|(port, _)| *port).collect::<Vec<_>>());
    CALLEES.iter().for_each(|(_, port)| drop(world.delivered(*port)));
    check(&mut world, &stays);
    // What a reset one says next is answered, not given to somebody else.
    world.say(1, 10, &syn(10, ends[0].0).flags(Flags::ACK));
    assert_eq!(world.resets(10), [2000]);
    assert!(world.callees().is_empty());
}

/// Memory that outlives its engine.
#[derive(Clone)]
struct Shared(Arc<Mutex<Vec<u8>>>);

struct Lent(Vec<u8>, Shared);

impl PinMemory for Lent {
    fn octets(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        *self.1.0.lock().unwrap() = std::mem::take(&mut self.0);
    }
}

impl World {
    /// Another engine takes the place of a runner's, with the memory of the one before.
    fn restart(&mut self, runner: u64, memory: &Shared) {
        let i = runner as usize - 1;
        self.engines[i] = Engine::new(key(runner), [99; 32], Box::new(vec![0; PINS]), self.now);
        let octets = memory.0.lock().unwrap().clone();
        self.engines[i] = Engine::new(key(runner), [99; 32], Box::new(Lent(octets, memory.clone())), self.now);
    }
}

#[test]
fn a_restarted_engine_leaves_every_connection_where_it_is() {
    let mut world = World::of(&[view(1), view(2), view(3)]);
    let memory: Vec<Shared> = (0..3).map(|_| Shared(Arc::new(Mutex::new(vec![0; PINS])))).collect();
    for runner in 1..=3 {
        world.restart(runner, &memory[runner as usize - 1]);
        world.map(runner, &view(runner));
    }
    CALLERS.iter().chain(&CALLEES).for_each(|(runner, instance)| world.attach(*runner, *instance));
    let mut taken: Vec<(u16, u32)> = (0..30).map(|port| (port, world.open(1, 10, port))).collect();
    for round in 0..6u64 {
        let runner = round % 3 + 1;
        world.restart(runner, &memory[runner as usize - 1]);
        world.map(runner, &view(runner));
        for (other, instance) in CALLERS.iter().chain(&CALLEES).filter(|(on, _)| *on == runner) {
            world.attach(*other, *instance);
        }
        (1..=3).filter(|other| *other != runner).for_each(|other| {
            world.engine(runner).learned(mesh_proto::RunnerId(other), endpoint(other));
        });
        world.wait(Duration::from_secs(1));
        for (port, callee) in &taken {
            world.say(1, 10, &syn(10, *port).flags(Flags::ACK).payload(b"?"));
            assert_eq!(world.callees(), [*callee], "round {round}, port {port}");
        }
        // The counts are as before, too: what comes next keeps it even.
        for more in 0..3 {
            let port = 100 + 10 * round as u16 + more;
            taken.push((port, world.open(1, 10, port)));
        }
    }
    let spread = spread(&taken.iter().map(|(_, callee)| *callee).collect::<Vec<_>>());
    assert_eq!(spread, [(20, 16), (21, 16), (22, 16)].into());
}

#[test]
fn a_warm_engine_takes_no_answers_to_what_was_never_asked() {
    let mut world = World::new();
    let told = |world: &mut World| {
        world.read(2, 20, &complete(&reply().build()));
        world.carry();
        (world.delivered(10).len(), world.resets(20).len())
    };
    world.send(10, &call().syn().source_port(1).build());
    world.delivered(20);
    assert_eq!(told(&mut world), (1, 0), "it may have stood before");
    let mut world = World::new();
    world.wait(Duration::from_secs(60));
    world.send(10, &call().syn().source_port(1).build());
    world.delivered(20);
    assert_eq!(told(&mut world), (0, 1));
    assert_eq!(world.dropped(2, Reason::NoConnection), 1);
    // What is on the way to the callee may stand without our knowing.
    world.send(10, &call().build());
    assert_eq!(world.delivered(20).len(), 1);
    assert_eq!(told(&mut world), (1, 0));
}

#[test]
fn the_ends_of_a_connection_hear_that_the_right_is_gone_even_if_idle() {
    let mut world = World::new();
    world.send(10, &call().syn().build());
    world.read(2, 20, &complete(&reply().flags(SYN_ACK).sequence(5000).build()));
    world.carry();
    world.send(10, &Segment { acknowledgment: 5001, ..call().sequence(1001) }.build());
    world.delivered(20);
    world.delivered(10);
    world.wait(Duration::from_secs(30));
    world.map(2, &unrelated(2));
    world.carry();
    assert_eq!(world.resets(20), [2000], "what it expects next");
    assert_eq!(world.resets(10), [5001], "though its own runner doesn't know yet");
    world.map(1, &unrelated(1));
    world.wait(Duration::from_secs(3));
    assert!(world.delivered(10).is_empty() && world.delivered(20).is_empty(), "it has ended already");
    // A delayed acknowledgment was pending: the challenge is answered with its own number (RFC 5961 §3.2).
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
        // The caller's runner is the first to know.
        world.map(1, &unrelated(1));
        let acknowledge = complete(&Segment { acknowledgment: 2500, ..reply() }.build());
        if before {
            world.read(2, 20, &acknowledge);
        }
        world.carry();
        assert_eq!(world.resets(20)[0], 2000, "what it expected next by the last acknowledgment there");
        // The next one was on its way already, before or after that RST came by.
        if !before {
            world.read(2, 20, &acknowledge);
        }
        world.map(2, &unrelated(2));
        assert_eq!(world.resets(20), [2500]);
    }
}

#[test]
fn a_caller_that_had_to_ignore_the_reset_by_an_instances_end_is_told_again() {
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
fn a_runner_that_is_removed_hears_the_last_of_its_connections() {
    let mut world = world();
    let port = (0..12).find(|port| world.open(1, 10, *port) != 22).expect("two in three go there");
    let (_, there) = (world.resets(10), world.open(2, 11, port));
    assert_ne!(there, 22);
    let left = Builder::new(1).runner(1).runner(3).deployment(1, "acme").service(1, 1).service(2, 1);
    world.map(1, &left.instance(10, 1, 1).instance(22, 2, 3).instance(12, 1, 3));
    world.carry();
    let told: Vec<u32> = [20, 21].iter().flat_map(|port| world.resets(*port)).collect();
    assert!(!told.is_empty() && told.iter().all(|number| *number == 2000), "{told:?}");
    assert!(!world.resets(10).is_empty(), "and here they end as well");
    assert!(world.delivered(11).is_empty(), "what it has of its own is its own business");
}

#[test]
fn other_runners_hear_that_an_instance_has_ended_from_us() {
    let mut world = world();
    let taken: Vec<u32> = (0..6).map(|port| world.open(1, 10, port)).collect();
    world.detach(2, 20);
    world.carry();
    let reset = world.delivered(10).iter().map(|octets| packet(octets).1.destination_port).collect::<Vec<_>>();
    let expected: Vec<u16> = (0..6).filter(|port| taken[usize::from(*port)] == 20).collect();
    assert_eq!(reset, expected, "at once, and with no help of the coordinator");
    assert!(world.delivered(21).is_empty() && world.delivered(22).is_empty());
    // One that was lost is sent again.
    let mut world = world_with_loss(&taken);
    world.wait(Duration::from_secs(2));
    assert!(!world.resets(10).is_empty());
}

/// The same, but what runner 2 said of it was lost.
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
fn an_address_that_somebody_else_has_now_is_not_the_same_end() {
    let mut world = World::new();
    world.send(10, &call().syn().build());
    world.read(2, 20, &complete(&reply().flags(SYN_ACK).build()));
    world.carry();
    world.send(10, &call().build());
    world.delivered(10);
    world.delivered(20);
    // Instance 77 has taken the address over.
    let mut after = others(2).grant(1, 2, Ports::All);
    after.0.put(mesh_proto::Record::Instance(Arc::new(mesh_proto::view::Instance {
        id: InstanceId(77),
        service: mesh_proto::ServiceId(1),
        runner: mesh_proto::RunnerId(1),
        address: address(10),
        state: InstanceState::Live,
    })));
    world.map(2, &after);
    assert_eq!(world.resets(20), [2000]);
}

#[test]
fn a_caller_has_a_bounded_number_of_connections() {
    let mut world = World::of(&[super::view(1)]);
    world.attach(1, 10);
    world.attach(1, 30);
    // Room for this many in the memory, and in the table; the other half is for others.
    let room = (PINS - 64) / 64 / 2 + 1;
    let to = |n: usize| tcp().between(address(10), address(3)).source_port(n as u16).syn();
    for n in 0..room {
        world.read(1, 10, &complete(&to(n).build()));
    }
    assert_eq!(world.delivered(30).len(), room);
    world.read(1, 10, &complete(&to(room).build()));
    world.wait(Duration::from_millis(1));
    assert_eq!((world.delivered(30).len(), world.delivered(10)[0][20..22].to_vec()), (0, vec![3, 13]));
    assert_eq!(world.dropped(1, Reason::TooManyConnections), 1);
    // One that has ended makes room.
    world.read(1, 10, &complete(&to(0).flags(Flags::RST).build()));
    world.delivered(30);
    world.read(1, 10, &complete(&to(room).build()));
    assert_eq!(world.delivered(30).len(), 1);
}

#[test]
fn what_ended_while_no_engine_ran_is_reset_as_soon_as_its_far_end_can_be_told() {
    let mut world = World::of(&[view(1), view(2), view(3)]);
    let memory = Shared(Arc::new(Mutex::new(vec![0; PINS])));
    world.restart(2, &memory);
    world.map(2, &view(2));
    CALLERS.iter().chain(&CALLEES).for_each(|(runner, instance)| world.attach(*runner, *instance));
    let taken: Vec<u32> = (0..6).map(|port| world.open(1, 10, port)).collect();
    let expected: Vec<u16> = (0..6).filter(|port| taken[usize::from(*port)] == 20).collect();
    world.restart(2, &memory);
    world.with(2, |engine, sink, now| engine.ended(InstanceId(20), now, sink));
    world.engine(2).learned(mesh_proto::RunnerId(1), endpoint(1));
    world.map(2, &view(2));
    world.attach(2, 11);
    world.attach(2, 21);
    world.wait(Duration::from_secs(1));
    let mut reset: Vec<u16> = world.delivered(10).iter().map(|octets| packet(octets).1.destination_port).collect();
    reset.sort_unstable();
    reset.dedup();
    assert_eq!(reset, expected, "those of instance 20, and no others");
    // The map holds it still, and nobody is sent to it.
    assert!((10..20).all(|port| [21, 22].contains(&world.open(1, 10, port))));
    assert!((30..35).all(|port| world.open(2, 11, port) == 21));
}

#[test]
fn a_connection_whose_last_segment_came_in_a_batch_has_ended() {
    let mut world = World::new();
    world.send(10, &call().syn().build());
    world.read(2, 20, &complete(&reply().flags(SYN_ACK).sequence(5000).build()));
    world.carry();
    world.send(10, &Segment { acknowledgment: 5001, ..call().sequence(1001) }.build());
    // The rest of an answer, and its end with it.
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
fn an_attempt_whose_instance_ends_goes_to_another_one() {
    // Of two on the caller's own runner.
    let here = |runner| nobody(runner).instance(20, 2, 1).instance(21, 2, 1);
    let mut world = World::of(&[here(1)]);
    [10, 20, 21].into_iter().for_each(|instance| world.attach(1, instance));
    world.say(1, 10, &syn(10, 1));
    let first = world.callees()[0];
    world.detach(1, first);
    let second = world.callees();
    assert!(second.len() == 1 && second[0] != first, "{second:?}");
    assert!(world.delivered(10).is_empty(), "its caller hears nothing of that");
    world.establish_here(1, second[0]);
    // There is nobody else.
    world.say(1, 10, &syn(10, 2));
    assert_eq!(world.callees(), second);
    world.detach(1, second[0]);
    assert_eq!(world.delivered(10).len(), 2, "both hear so, the one that stood and the attempt");
}

#[test]
fn an_attempt_whose_runner_is_no_longer_in_the_map_goes_to_another_one() {
    let mut world = world();
    // Runner 2 doesn't answer, and is out of the map before the SYN is sent again.
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
    world.map(1, &nobody(1).instance(22, 2, 3));
    world.carry();
    let given: Vec<u16> = world.delivered(22).iter().map(|octets| packet(octets).1.source_port).collect();
    assert_eq!(given, stuck);
    assert!(world.delivered(10).is_empty());
    assert_eq!(report(&mut world), before);
    world.establish(1, 10, stuck[0], 22);
    // But not where the right is gone as well.
    world.say(1, 10, &syn(10, 99));
    world.callees();
    world.map(1, &nobody(1).deployment(2, "acme").service(2, 2).instance(22, 2, 3));
    assert_eq!(world.delivered(10).len(), before + 1);
    world.carry();
    assert!(world.delivered(22).iter().all(|octets| packet(octets).1.flags.has(Flags::RST)));
}

#[test]
fn an_idle_end_hears_of_it_however_long_its_runner_was_out_of_reach() {
    for minutes in [0, 1, 90] {
        let mut world = world();
        let taken: Vec<u32> = (0..12).map(|port| world.open(1, 10, port)).collect();
        let ports: Vec<u16> = (0..12).filter(|port| taken[usize::from(*port)] == 20).collect();
        // The runners are cut off from each other; of two instances there one ends.
        let away = world.from.clone();
        (world.from[0], world.from[1]) = (([203, 0, 113, 8], 1).into(), ([203, 0, 113, 9], 1).into());
        world.detach(2, 20);
        let fewer = |runner| nobody(runner).instance(21, 2, 2).instance(22, 2, 3);
        (1..=3).for_each(|runner| world.map(runner, &fewer(runner)));
        world.wait(Duration::from_secs(10 + 60 * minutes));
        assert!(world.delivered(10).is_empty());
        world.from = away;
        world.wait(Duration::from_secs(60));
        let mut told: Vec<u16> = world.delivered(10).iter().map(|octets| packet(octets).1.destination_port).collect();
        told.sort_unstable();
        told.dedup();
        assert_eq!(told, ports, "after {minutes} minutes");
        // Once something comes from there again it is over, and forgotten. (The keepalive that boringtun would send by its
        // own clock, not by ours.)
        let stands = (0..12).find(|port| taken[usize::from(*port)] == 21).expect("one in three is there");
        for _ in 0..12 {
            world.say(1, 10, &syn(10, stands).flags(Flags::ACK).sequence(1001));
            world.wait(Duration::from_secs(10));
        }
        CALLEES.iter().for_each(|(_, port)| drop(world.delivered(*port)));
        assert!(world.engine(2).resets.next().is_none());
        assert_eq!(world.engine(2).flows.all().count(), taken.iter().filter(|callee| **callee == 21).count());
    }
}
