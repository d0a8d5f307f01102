use super::*;
use crate::testing::{ipv4, packet};
use mesh_proto::{ServiceId, view::InstanceState};

/// The answer to a sender.
#[derive(Debug, PartialEq)]
enum Answer {
    Nothing,
    /// ICMP 3 with this code.
    Icmp(u8),
    Reset,
}

const MOMENT: Duration = Duration::from_millis(1);

/// The answers that instance 10 gets to a packet: at once, and a moment later.
fn answer(world: &mut World, packet: &[u8]) -> (Answer, Answer) {
    let drops = world.drops(1);
    world.send(10, packet);
    let at_once = read_refusal(world);
    world.wait(MOMENT);
    let later = read_refusal(world);
    world.wait(Duration::from_secs(2));
    assert!(world.is_quiet(), "one in, one out");
    assert_eq!(world.drops(1), drops + 1, "counted once");
    (at_once, later)
}

fn read_refusal(world: &mut World) -> Answer {
    let delivered = world.delivered(10);
    assert!(delivered.len() <= 1);
    match delivered.first() {
        None => Answer::Nothing,
        Some(bytes) if bytes[9] == 1 => {
            assert_eq!((bytes[20], &bytes[16..20]), (3, &address(10).octets()[..]));
            Answer::Icmp(bytes[21])
        }
        Some(bytes) => {
            assert!(packet(bytes).1.flags.has(Flags::RST));
            Answer::Reset
        }
    }
}

#[test]
fn each_rejection_is_answered_as_specified() {
    let mut world = World::new();
    let to = |to: u64| tcp().between(address(10), address(to));
    let foreign = |protocol, options: &[u8]| ipv4(address(10), address(2), protocol, options, &[0; 20]);
    let later_fragment = |mut packet: Vec<u8>| {
        packet[7] = 9;
        packet
    };
    let at_once = |answer| (answer, Answer::Nothing);
    let later = |answer| (Answer::Nothing, answer);
    for (what, packet, expected) in [
        ("UDP", foreign(17, &[]), at_once(Answer::Icmp(13))),
        ("UDP to an unknown address", ipv4(address(10), address(999), 17, &[], &[0; 20]), at_once(Answer::Icmp(13))),
        ("UDP from the service", ipv4(address(1), address(2), 17, &[], &[0; 20]), (Answer::Nothing, Answer::Nothing)),
        ("SCTP", foreign(132, &[]), at_once(Answer::Icmp(13))),
        ("ICMP echo", ipv4(address(10), address(2), 1, &[], &[8, 0, 0, 0]), at_once(Answer::Icmp(13))),
        ("an ICMP error", ipv4(address(10), address(2), 1, &[], &[3, 1, 0, 0]), at_once(Answer::Nothing)),
        ("IP options", foreign(6, &[1, 1, 1, 0]), at_once(Answer::Icmp(13))),
        ("a later fragment", later_fragment(foreign(17, &[])), at_once(Answer::Nothing)),
        ("UDP to all", ipv4(address(10), [255; 4].into(), 17, &[], &[0; 20]), at_once(Answer::Nothing)),
        ("a SYN to all", tcp().between(address(10), [224, 0, 0, 1].into()).syn().build(), at_once(Answer::Nothing)),
        ("a SYN to an unknown address", to(999).syn().build(), later(Answer::Icmp(13))),
        ("a segment to an unknown address", to(999).build(), at_once(Answer::Reset)),
        ("a SYN without trust", to(4).syn().build(), later(Answer::Icmp(13))),
        ("a SYN to another port", to(2).ports(1, 80).syn().build(), later(Answer::Icmp(13))),
        ("a SYN and FIN", to(4).flags(Flags::SYN | Flags::FIN).build(), later(Answer::Icmp(13))),
        ("a segment without trust", to(4).build(), at_once(Answer::Reset)),
        ("a RST without trust", to(4).flags(Flags::RST).build(), at_once(Answer::Nothing)),
        ("a SYN to no live instance", to(5).syn().build(), later(Answer::Icmp(1))),
        ("a segment to no instance", to(5).build(), at_once(Answer::Reset)),
    ] {
        if what == "UDP from the service" {
            world.send(10, &packet);
            let refusal = world.delivered(10);
            assert_eq!((refusal.len(), refusal[0][21], &refusal[0][16..20]), (1, 13, &address(1).octets()[..]));
            continue;
        }
        assert_eq!(answer(&mut world, &packet), expected, "{what}");
    }
    assert_eq!(world.drops(2), 0, "none of it crossed");
}

#[test]
fn a_connection_cannot_be_opened_from_a_service_address() {
    let mut world = World::new();
    world.send(10, &tcp().between(address(1), address(3)).syn().build());
    assert!(world.is_quiet());
    world.wait(MOMENT);
    let refusal = &world.delivered(10)[0];
    assert_eq!((refusal[20], refusal[21], &refusal[16..20]), (3, 13, &address(1).octets()[..]));
    assert_eq!(world.dropped(1, Reason::OpensFromService), 1);
}

#[test]
fn a_forged_source_is_dropped_in_silence() {
    let mut world = World::new();
    for from in [address(30), address(3), address(20), address(999), [8, 8, 8, 8].into()] {
        world.send(10, &tcp().between(from, address(2)).syn().build());
        world.send(10, &ipv4(from, address(2), 17, &[], &[0; 8]));
    }
    world.wait(MOMENT);
    assert!(world.is_quiet());
    assert_eq!(world.dropped(1, Reason::ForgedSource), 10);
}

#[test]
fn an_interface_without_an_instance_sends_nothing() {
    let mut world = World::new();
    world.engine(1).handle_attach(Port(99), InstanceId(99));
    for port in [98, 99] {
        world.send(port, &call().syn().build());
    }
    world.wait(MOMENT);
    assert!(world.is_quiet());
    assert_eq!(world.dropped(1, Reason::UnknownPort), 2);
}

#[test]
fn the_callees_runner_refuses_with_a_reset() {
    // The caller's runner still has a map with a trust that is gone.
    let mut world = World::of(&[view(1), unrelated(2)]);
    world.attach(1, 10);
    world.attach(2, 20);
    world.send(10, &call().syn().build());
    let answer = world.delivered(10);
    assert_eq!(answer.len(), 1);
    let (reset, tcp) = packet(&answer[0]);
    assert_eq!((reset.source, tcp.source_port, tcp.acknowledgment), (address(2), 5432, 1001));
    assert_eq!(tcp.flags, Flags(Flags::RST | Flags::ACK));
    assert_eq!(world.dropped(2, Reason::NoTrust), 1);
    world.send(10, &call().build());
    assert_eq!(packet(&world.delivered(10)[0]).1.flags, Flags(Flags::RST), "the standing connection is reset, too");
    assert!(world.is_quiet());
}

#[test]
fn the_right_to_call_ends_for_standing_connections() {
    let mut world = World::new();
    world.send(10, &call().syn().build());
    world.send(10, &call().build());
    assert_eq!(world.delivered(20).len(), 2);
    world.map(1, &unrelated(1));
    let (_, reset) = packet(&world.delivered(10)[0]);
    assert_eq!((reset.flags, reset.sequence), (Flags(Flags::RST), 2000), "before it sends anything");
    world.send(10, &call().build());
    assert_eq!(packet(&world.delivered(10)[0]).1.flags, Flags(Flags::RST));
    world.map(2, &unrelated(2));
    world.carry();
    world.read(2, 20, &complete(&reply().build()));
    assert_eq!(packet(&world.delivered(20)[0]).1.flags, Flags(Flags::RST));
    assert!(world.is_quiet());
}

#[test]
fn a_reply_is_no_right_to_call() {
    let mut world = World::new();
    world.send(10, &call().syn().build());
    world.delivered(20);
    // Service 2 may answer service 1, but may not open a connection to it, even from the port that service 1 may call.
    world.read(2, 20, &complete(&tcp().between(address(20), address(1)).ports(5432, 80).syn().build()));
    world.carry();
    assert!(world.is_quiet());
    world.wait(MOMENT);
    assert_eq!(world.delivered(20)[0][20..22], [3, 13]);
    assert_eq!(world.dropped(2, Reason::WrongWay), 1);
}

#[test]
fn drained_instances_and_clients_take_no_connections() {
    for state in [InstanceState::Draining, InstanceState::Client] {
        for to in [2, 20] {
            let mut world = World::new();
            world.map(1, &view(1).instance_that_is(state, 20, 2, 2));
            let syn = tcp().between(address(10), address(to)).syn().build();
            assert_eq!(answer(&mut world, &syn), (Answer::Nothing, Answer::Icmp(1)), "{state:?}");
        }
    }
}

#[test]
fn an_instance_that_has_ended_is_not_there_and_one_that_is_not_back_yet_may_come() {
    let mut world = World::new();
    let syn = tcp().between(address(10), address(3)).syn().build();
    world.detach(1, 30);
    assert_eq!(answer(&mut world, &syn), (Answer::Nothing, Answer::Icmp(1)));
    assert_eq!(answer(&mut world, &tcp().between(address(10), address(3)).build()), (Answer::Reset, Answer::Nothing));
    world.attach(1, 30);
    world.send(10, &syn);
    assert_eq!(world.delivered(30), std::slice::from_ref(&syn));

    let mut world = World::of(&[view(1)]);
    world.attach(1, 10);
    assert_eq!(answer(&mut world, &syn), (Answer::Nothing, Answer::Nothing));
    assert_eq!(answer(&mut world, &tcp().between(address(10), address(3)).build()), (Answer::Nothing, Answer::Nothing));
    assert_eq!(world.dropped(1, Reason::NotAttached), 2);
}

#[test]
fn a_remote_caller_hears_that_an_instance_has_ended() {
    let mut world = World::new();
    world.send(10, &call().syn().build());
    world.delivered(20);
    world.detach(2, 20);
    world.carry();
    assert!(packet(&world.delivered(10)[0]).1.flags.has(Flags::RST), "at once");
    for (segment, reason) in [(call(), Reason::NoConnection), (call().syn().sequence(7), Reason::NoLiveInstance)] {
        world.send(10, &segment.build());
        assert!(packet(&world.delivered(10)[0]).1.flags.has(Flags::RST));
        assert_eq!(world.dropped(2, reason), 1);
    }
}

#[test]
fn a_flood_is_refused_up_to_the_limit_and_retransmissions_always() {
    let mut world = World::new();
    let udp = ipv4(address(10), address(2), 17, &[], &[0; 8]);
    for _ in 0..12_000 {
        world.read(1, 10, &complete(&udp));
    }
    assert_eq!(world.delivered(10).len(), 10_000);
    assert_eq!(world.dropped(1, Reason::RefusalLimited), 2000);
    assert_eq!(world.dropped(1, Reason::NotTcp), 12_000);
    let syn = tcp().between(address(10), address(4)).syn().build();
    for expected in [0, 1, 1] {
        world.send(10, &syn);
        world.with(1, |engine, sink, now| engine.handle_timeout(now + MOMENT, sink));
        assert_eq!(world.delivered(10).len(), expected);
    }
}

#[test]
fn refusals_are_listed() {
    let mut world = World::new();
    for sequence in [1, 2] {
        world.send(10, &tcp().between(address(10), address(4)).sequence(sequence).syn().build());
    }
    world.send(10, &ipv4(address(10), address(999), 17, &[], &[0; 8]));
    let now = world.now + Duration::from_secs(5);
    let denied = world.engine(1).report(now).denied;
    let listed = |reason| denied.iter().find(|d| d.reason == reason).expect("listed");
    let (trust, udp) = (listed(Reason::NoTrust), listed(Reason::NotTcp));
    assert_eq!((trust.caller, trust.callee, trust.port, trust.count), (address(10), address(4), 5432, 2));
    assert_eq!((trust.caller_service, trust.callee_service), (Some(ServiceId(1)), Some(ServiceId(4))));
    assert_eq!((udp.callee_service, udp.port, udp.count, udp.age), (None, 0, 1, Duration::from_secs(5)));
    assert_eq!(denied.len(), 2);
}

#[test]
fn a_refusal_says_when_it_wants_to_be_sent() {
    let mut world = World::new();
    assert_eq!(world.engine(1).next_timeout(), None);
    world.send(10, &tcp().between(address(10), address(4)).syn().build());
    let now = world.now;
    assert_eq!(world.engine(1).next_timeout(), Some((now + MOMENT, "a delayed reject")));
    world.wait(MOMENT);
    assert_eq!(world.engine(1).next_timeout(), None);
}

#[test]
fn a_reject_does_not_reach_the_next_instance_on_the_port() {
    let syn = tcp().between(address(10), address(4)).syn().build();
    for (port, instance) in [(77, 10), (10, 30)] {
        let mut world = World::new();
        world.send(10, &syn);
        world.engine(1).handle_attach(Port(port), InstanceId(instance));
        world.wait(MOMENT);
        assert!(world.is_quiet(), "{instance} at {port}");
    }
}
