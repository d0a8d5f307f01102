//! Which segments end a flow.

use super::*;
use crate::packet::Flags;

/// A standing flow. Both ends expect sequence number 2000.
fn established(now: Instant) -> (Flows, Slot) {
    let mut flows = flows(64, now);
    let slot = flows.begin_new(new(1, Phase::Opening, location(0)), now).unwrap();
    let said = [
        (Role::Callee, segment(Role::Callee, 1).flags(Flags::SYN | Flags::ACK).sequence(1999)),
        (Role::Caller, segment(Role::Caller, 1).sequence(2000)),
        (Role::Callee, segment(Role::Callee, 1).sequence(2000)),
    ];
    said.iter().for_each(|(role, segment)| say(&mut flows, *role, segment, now));
    assert_eq!((flows.standing(), flows.get(slot).unwrap().phase()), (1, Phase::Open));
    (flows, slot)
}

fn say(flows: &mut Flows, role: Role, segment: &Segment, now: Instant) {
    let (packet, tcp) = packet(&segment.build());
    let (slot, found) = flows.find(&packet, &tcp).expect("the flow");
    assert_eq!(found, role);
    flows.pass(slot, role, &packet, &tcp, now);
}

fn caller() -> Segment {
    segment(Role::Caller, 1).sequence(2000)
}

fn callee() -> Segment {
    segment(Role::Callee, 1).sequence(2000)
}

#[test]
fn only_a_reset_that_the_other_end_takes_ends_a_connection() {
    let now = Instant::now();
    for stray in [0, 1, 1999, 2001, 2100, 70_000, u32::MAX, 1 << 31] {
        let (mut flows, slot) = established(now);
        say(&mut flows, Role::Caller, &caller().flags(Flags::RST).sequence(stray), now);
        say(&mut flows, Role::Callee, &callee().flags(Flags::RST).sequence(stray), now);
        assert_eq!(flows.get(slot).unwrap().phase(), Phase::Open, "{stray}");
        assert!(flows.tick(now + Duration::from_secs(4 * 24 * 3600)).is_empty());
        assert_eq!(flows.standing(), 1);
    }
    let (mut flows, slot) = established(now);
    say(&mut flows, Role::Callee, &callee().flags(Flags::RST), now);
    assert_eq!(flows.get(slot).unwrap().phase(), Phase::Ended);
}

#[test]
fn a_reset_behind_data_that_is_lost_ends_nothing_if_the_other_end_goes_on() {
    let now = Instant::now();
    for goes_on in [true, false] {
        let (mut flows, _) = established(now);
        say(&mut flows, Role::Callee, &callee().payload(&[7; 100]), now);
        say(&mut flows, Role::Callee, &callee().flags(Flags::RST).sequence(2100), now);
        assert_eq!(flows.standing(), 0, "it may have ended");
        if goes_on {
            // The challenge ACK: the lost data is still missing.
            say(&mut flows, Role::Caller, &caller(), now);
        }
        let later = now + Duration::from_secs(120);
        assert!(flows.tick(later).is_empty());
        assert_eq!(flows.all().count(), usize::from(goes_on));
        if goes_on {
            say(&mut flows, Role::Callee, &callee().flags(Flags::RST), later);
            assert_eq!(flows.standing(), 0);
        }
    }
}

#[test]
fn while_an_attempt_waits_for_its_answer_no_other_reset_ends_it() {
    let now = Instant::now();
    for (reset, ends) in [
        (segment(Role::Callee, 1).flags(Flags::RST | Flags::ACK), false),
        (segment(Role::Callee, 1).flags(Flags::RST), false),
        (Segment { acknowledgment: 1001, ..segment(Role::Callee, 1).flags(Flags::RST | Flags::ACK) }, true),
    ] {
        let mut flows = flows(64, now);
        flows.begin_new(new(1, Phase::Opening, location(0)), now).unwrap();
        say(&mut flows, Role::Callee, &reset, now);
        assert_eq!(flows.standing(), usize::from(!ends), "{reset:?}");
    }
}

#[test]
fn a_connection_that_one_end_has_closed_stands_for_days() {
    let now = Instant::now();
    let (mut flows, _) = established(now);
    let at = |days: u64| now + Duration::from_secs(days * 24 * 3600);
    say(&mut flows, Role::Caller, &caller().flags(Flags::ACK | Flags::FIN), now);
    say(&mut flows, Role::Callee, &Segment { acknowledgment: 2001, ..callee() }, now);
    assert!(flows.tick(at(4)).is_empty());
    assert_eq!(flows.standing(), 1);
    say(&mut flows, Role::Callee, &Segment { acknowledgment: 2001, ..callee().payload(b"late") }, at(4));
    assert!(flows.tick(at(8)).is_empty());
    assert_eq!(flows.standing(), 1);
}

#[test]
fn a_connection_is_over_when_both_ends_have_acknowledged_that() {
    let now = Instant::now();
    let (mut flows, slot) = established(now);
    let minutes = |n: u64| now + Duration::from_secs(60 * n);
    say(&mut flows, Role::Caller, &caller().flags(Flags::ACK | Flags::FIN), now);
    let last = Segment { acknowledgment: 2001, ..callee().flags(Flags::ACK | Flags::FIN).payload(&[7; 50]) };
    // Retransmissions don't arrive.
    for minute in [0, 1, 3, 5] {
        say(&mut flows, Role::Callee, &last, minutes(minute));
        assert!(flows.tick(minutes(minute)).is_empty());
        assert_eq!(flows.standing(), 1, "{minute}");
    }
    // A partial acknowledgment is not enough.
    say(&mut flows, Role::Caller, &Segment { acknowledgment: 2050, ..caller().sequence(2001) }, minutes(5));
    assert_eq!(flows.standing(), 1);
    say(&mut flows, Role::Caller, &Segment { acknowledgment: 2051, ..caller().sequence(2001) }, minutes(5));
    assert_eq!((flows.standing(), flows.get(slot).unwrap().phase()), (0, Phase::Ended));
    assert!(flows.tick(minutes(6)).is_empty());
    assert_eq!(flows.all().count(), 0);
    // A flow that is never acknowledged ends some time.
    let (mut flows, _) = established(now);
    say(&mut flows, Role::Caller, &caller().flags(Flags::ACK | Flags::FIN), now);
    say(&mut flows, Role::Callee, &last, now);
    assert_eq!(flows.tick(minutes(130)).len(), 1);
}
