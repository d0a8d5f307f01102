//! What is counted for each pair of services.

use super::*;
use crate::{PairReport, Side, packet::Flags};

fn say(flows: &mut Flows, role: Role, segment: &Segment, now: Instant) {
    let (packet, tcp) = packet(&segment.build());
    let (slot, _) = flows.find(&packet, &tcp).expect("the flow");
    flows.pass(slot, role, &packet, &tcp, now);
}

/// A flow whose caller's first byte has the sequence number 1001, and whose callee's has 2001.
fn open(flows: &mut Flows, port: u16, at: u8, now: Instant) -> Slot {
    let slot = flows.begin_new(new(port, Phase::Opening, location(at)), now).unwrap();
    let accepted = segment(Role::Callee, port).flags(Flags::SYN | Flags::ACK).sequence(2000);
    say(flows, Role::Callee, &accepted, now);
    say(flows, Role::Caller, &segment(Role::Caller, port).sequence(1001), now);
    slot
}

fn only(flows: &Flows) -> PairReport {
    let all: Vec<PairReport> = flows.pairs().collect();
    assert_eq!(all.len(), 1, "{all:?}");
    all[0]
}

fn attempts(pair: PairReport) -> [u64; 5] {
    [pair.opened, pair.refused, pair.unanswered, pair.reset, pair.open.into()]
}

#[test]
fn bytes_are_payload_and_what_is_sent_again_counts_once() {
    let (mut flows, now) = (flows(64, Instant::now()), Instant::now());
    open(&mut flows, 1, 0, now);
    let caller = segment(Role::Caller, 1);
    say(&mut flows, Role::Caller, &caller.clone().sequence(1001).payload(&[7; 100]), now);
    say(&mut flows, Role::Caller, &caller.clone().sequence(1001).payload(&[7; 100]), now);
    // One that overlaps, one that comes early, and the one before it.
    say(&mut flows, Role::Caller, &caller.clone().sequence(1051).payload(&[7; 100]), now);
    say(&mut flows, Role::Caller, &caller.clone().sequence(1251).payload(&[7; 100]), now);
    say(&mut flows, Role::Caller, &caller.clone().sequence(1151).payload(&[7; 100]), now);
    say(&mut flows, Role::Callee, &segment(Role::Callee, 1).sequence(2001).payload(&[7; 30]), now);
    let fin = caller.flags(Flags::ACK | Flags::FIN).sequence(1351).payload(&[7; 5]);
    say(&mut flows, Role::Caller, &fin, now);
    say(&mut flows, Role::Caller, &fin, now);
    let pair = only(&flows);
    assert_eq!((pair.sent, pair.received), (355, 30));
    assert_eq!((pair.services, pair.side), (Some((ServiceId(1), ServiceId(2))), Side::Both));
    assert_eq!(attempts(pair), [1, 0, 0, 0, 1]);
}

#[test]
fn attempts_are_opened_refused_or_unanswered_and_connections_may_be_reset() {
    let (mut flows, now) = (flows(64, Instant::now()), Instant::now());
    let begin = |flows: &mut Flows, port| flows.begin_new(new(port, Phase::Opening, location(0)), now).unwrap();
    begin(&mut flows, 1);
    let refusal = Segment { acknowledgment: 1001, ..segment(Role::Callee, 1).flags(Flags::RST | Flags::ACK) };
    say(&mut flows, Role::Callee, &refusal, now);
    assert_eq!(attempts(only(&flows)), [0, 1, 0, 0, 0]);
    // The caller gives up by itself.
    begin(&mut flows, 2);
    say(&mut flows, Role::Caller, &segment(Role::Caller, 2).flags(Flags::RST).sequence(1001), now);
    assert_eq!(attempts(only(&flows)), [0, 1, 0, 0, 0]);
    begin(&mut flows, 3);
    assert!(flows.tick(now + ATTEMPT).is_empty());
    assert_eq!(attempts(only(&flows)), [0, 1, 1, 0, 0]);
    open(&mut flows, 4, 0, now);
    let slot = open(&mut flows, 5, 0, now);
    assert_eq!(attempts(only(&flows)), [2, 1, 1, 0, 2]);
    say(&mut flows, Role::Callee, &segment(Role::Callee, 4).flags(Flags::RST).sequence(2001), now);
    flows.end(slot, Phase::Reset, now);
    assert_eq!(attempts(only(&flows)), [2, 1, 1, 2, 0]);
}

#[test]
fn a_new_map_changes_no_count() {
    let (mut flows, now) = (flows(64, Instant::now()), Instant::now());
    open(&mut flows, 1, 0, now);
    open(&mut flows, 2, 2, now);
    let sides = |flows: &Flows| flows.pairs().map(|pair| (pair.side, attempts(pair))).collect::<Vec<_>>();
    let before = sides(&flows);
    assert_eq!(before, [(Side::Both, [1, 0, 0, 0, 1]), (Side::From, [1, 0, 0, 0, 1])]);
    let map = builder().map();
    assert!(flows.resolve(&map.route, &map.filter).is_empty());
    assert_eq!(sides(&flows), before);
}

#[test]
fn an_engine_that_goes_on_with_the_flows_of_another_one_counts_from_there() {
    let now = Instant::now();
    let memory = std::sync::Arc::<std::sync::Mutex<Vec<u8>>>::default();
    let window = Window(std::sync::Arc::clone(&memory), vec![0; 64 + 64 * 8]);
    let map = builder().map();
    let mut first = Flows::new(Box::new(window), 7, now);
    first.resolve(&map.route, &map.filter);
    open(&mut first, 1, 0, now);
    say(&mut first, Role::Caller, &segment(Role::Caller, 1).sequence(1001).payload(&[7; 100]), now);
    let acknowledged = Segment { acknowledgment: 1101, ..segment(Role::Callee, 1).sequence(2001) };
    say(&mut first, Role::Callee, &acknowledged, now);
    drop(first);
    let left = std::mem::take(&mut *memory.lock().unwrap());
    let mut second = Flows::new(Box::new(left), 7, now);
    second.resolve(&map.route, &map.filter);
    assert_eq!((attempts(only(&second)), only(&second).sent), ([0, 0, 0, 0, 1], 0));
    // What was acknowledged before comes again.
    say(&mut second, Role::Caller, &segment(Role::Caller, 1).sequence(1001).payload(&[7; 100]), now);
    say(&mut second, Role::Caller, &segment(Role::Caller, 1).sequence(1101).payload(&[7; 50]), now);
    assert_eq!(only(&second).sent, 50);
}
