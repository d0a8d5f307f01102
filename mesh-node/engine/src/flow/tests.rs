mod share;
mod track;

use mesh_proto::{InstanceId, RunnerId};
use proptest::prelude::*;

use super::{due::*, kept::MOST, share::Tenant, *};
use crate::testing::{Builder, Segment, address, packet, tcp};

/// Service 1 with instance 10 here, service 2 with 20 and 21 here and 22 on runner 2, all of one deployment.
fn builder() -> Builder {
    let builder = Builder::new(1).runner(1).runner(2).deployment(1, "acme").service(1, 1).service(2, 1);
    builder.instance(10, 1, 1).instance(20, 2, 1).instance(21, 2, 1).instance(22, 2, 2)
}

fn end(number: u64, port: u16) -> End {
    End { address: address(number), port }
}

fn flows(records: usize, now: Instant) -> Flows {
    let mut flows = Flows::new(Box::new(vec![0; 64 + 64 * records]), 7, now);
    let map = builder().map();
    assert!(flows.resolve(&map.route, &map.filter).is_empty());
    flows
}

fn new(port: u16, phase: Phase, callee: Seat) -> New {
    let map = builder().map();
    let way = match callee {
        Seat::Here(id) => Way::Instance(map.route.here(id).unwrap()),
        Seat::There(id) => Way::Runner(map.route.runner(id).unwrap()),
    };
    New {
        phase,
        payer: Role::Caller,
        caller: end(10, port),
        callee: end(2, 5432),
        caller_is: InstanceId(10),
        caller_seat: Seat::Here(InstanceId(10)),
        callee_seat: callee,
        isn: 1000,
        resolved: Resolved { service: 1, ways: [Way::Instance(0), way], deployments: [0, 0] },
    }
}

fn segment(role: Role, port: u16) -> Segment {
    match role {
        Role::Caller => tcp().between(address(10), address(2)).ports(port, 5432),
        Role::Callee => tcp().between(address(2), address(10)).ports(5432, port),
    }
}

#[derive(Debug, Clone)]
enum Step {
    Begin(u16, bool, u8),
    Pass(u16, bool, u8, u32),
    Repin(u16, u8),
    End(u16),
    Wait(u16),
    Map,
}

fn step() -> impl Strategy<Value = Step> {
    let port = 0..6u16;
    prop_oneof![
        4 => (port.clone(), any::<bool>(), 0..3u8).prop_map(|(p, open, seat)| Step::Begin(p, open, seat)),
        8 => (port.clone(), any::<bool>(), any::<u8>(), any::<u32>()).prop_map(|(p, r, f, a)| Step::Pass(p, r, f & 0x17, a)),
        1 => (port.clone(), 0..3u8).prop_map(|(p, seat)| Step::Repin(p, seat)),
        1 => port.prop_map(Step::End),
        1 => (0..100u16).prop_map(Step::Wait),
        1 => Just(Step::Map),
    ]
}

fn seat(number: u8) -> Seat {
    match number {
        0 => Seat::Here(InstanceId(20)),
        1 => Seat::Here(InstanceId(21)),
        _ => Seat::There(RunnerId(2)),
    }
}

/// Counted over.
fn check(flows: &Flows, route: &Route) {
    let standing = || flows.all().filter(|(_, flow)| flow.phase().stands());
    assert_eq!(flows.standing(), standing().filter(|(_, flow)| flow.phase() != Phase::Claimed).count());
    for (index, instance) in (0..).zip(&route.instances) {
        let at = Seat::Here(instance.id);
        let counted = standing().filter(|(_, flow)| flow.seat(Role::Callee) == at).count();
        assert_eq!(flows.open_here(index) as usize, counted, "{}", instance.id);
    }
    let there = standing().filter(|(_, flow)| flow.seat(Role::Callee) == Seat::There(RunnerId(2))).count();
    assert_eq!(flows.open_there(1, 0) as usize, there);
    let tenant = Tenant { team: 0, deployment: 0, leaf: Way::Instance(0) };
    let paid = standing().filter(|(_, flow)| flow.payer == Role::Caller).count();
    assert_eq!(flows.counts.all_of(tenant) as usize, paid);
}

fn contents(flows: &Flows) -> Vec<Pin> {
    let mut all: Vec<Pin> = flows.all().map(|(_, flow)| flow.pin).collect();
    all.sort_by_key(|pin| pin.caller.port);
    all
}

/// Memory that can be looked at while it is lent.
struct Window(std::sync::Arc<std::sync::Mutex<Vec<u8>>>, Vec<u8>);

impl PinMemory for Window {
    fn octets(&mut self) -> &mut [u8] {
        &mut self.1
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        *self.0.lock().unwrap() = std::mem::take(&mut self.1);
    }
}

proptest! {
    #[test]
    fn counts_are_right_and_memory_holds_what_the_table_does(steps in proptest::collection::vec(step(), 0..80)) {
        let mut now = Instant::now();
        let map = builder().map();
        let left = std::sync::Arc::default();
        let mut flows = Flows::new(Box::new(Window(std::sync::Arc::clone(&left), vec![0; 64 * 65])), 7, now);
        flows.resolve(&map.route, &map.filter);
        for step in steps {
            let find = |flows: &Flows, port| {
                let (packet, tcp) = packet(&segment(Role::Caller, port).build());
                flows.find(&packet, &tcp).map(|(slot, _)| slot)
            };
            match step {
                Step::Begin(port, open, at) => {
                    let phase = if open { Phase::Open } else { Phase::Opening };
                    prop_assert!(flows.begin(new(port, phase, seat(at)), now).is_ok());
                }
                Step::Pass(port, callee, flags, ack) => {
                    let role = if callee { Role::Callee } else { Role::Caller };
                    let octets = Segment { acknowledgment: ack, ..segment(role, port).flags(flags) }.build();
                    let (packet, tcp) = packet(&octets);
                    if let Some((slot, found)) = flows.find(&packet, &tcp) {
                        prop_assert_eq!(found, role);
                        flows.pass(slot, role, &packet, &tcp, now);
                    }
                }
                Step::Repin(port, at) => {
                    if let Some(slot) = find(&flows, port).filter(|s| flows.get(*s).unwrap().phase() == Phase::Opening) {
                        let resolved = new(port, Phase::Opening, seat(at)).resolved;
                        flows.repin(slot, seat(at), resolved, None, now);
                    }
                }
                Step::End(port) => {
                    if let Some(slot) = find(&flows, port) {
                        flows.end(slot, Phase::Reset, now);
                    }
                }
                Step::Wait(seconds) => {
                    now += Duration::from_secs(seconds.into());
                    let silent = flows.tick(now);
                    prop_assert!(silent.is_empty());
                    prop_assert!(flows.next_tick().is_none_or(|at| at > now));
                }
                Step::Map => prop_assert!(flows.resolve(&map.route, &map.filter).is_empty()),
            }
            check(&flows, &map.route);
        }
        let before = contents(&flows);
        drop(flows);
        let memory = std::mem::take(&mut *left.lock().unwrap());
        let mut again = Flows::new(Box::new(memory), 8, now);
        again.resolve(&map.route, &map.filter);
        check(&again, &map.route);
        prop_assert_eq!(contents(&again), before);
    }
}

#[test]
fn what_has_ended_is_remembered_for_a_minute_and_what_is_open_for_days() {
    let mut now = Instant::now();
    let mut flows = flows(32, now);
    let slot = flows.begin(new(1, Phase::Open, seat(0)), now).unwrap();
    flows.begin(new(2, Phase::Open, seat(1)), now).unwrap();
    flows.begin(new(3, Phase::Opening, seat(1)), now).unwrap();
    flows.end(slot, Phase::Ended, now);
    let mut wait = |flows: &mut Flows, seconds| {
        now += Duration::from_secs(seconds);
        let silent = flows.tick(now);
        (flows.all().count(), silent.len())
    };
    assert_eq!(wait(&mut flows, 59), (3, 0));
    assert_eq!(wait(&mut flows, 1), (2, 0));
    assert_eq!(wait(&mut flows, 10), (1, 0));
    assert_eq!(wait(&mut flows, 4 * 24 * 3600), (1, 0));
    assert_eq!(wait(&mut flows, 2 * 24 * 3600), (1, 1), "its ends have to be told");
}

#[test]
fn what_has_ended_makes_room_and_what_stands_does_not() {
    let now = Instant::now();
    // A quarter of all is what one caller has at most.
    let mut flows = flows(8, now);
    let slot = flows.begin(new(1, Phase::Open, seat(0)), now).unwrap();
    flows.begin(new(2, Phase::Open, seat(0)), now).unwrap();
    assert_eq!(flows.begin(new(3, Phase::Opening, seat(0)), now), Err(Reason::TooManyConnections));
    flows.end(slot, Phase::Ended, now);
    for port in 3..20 {
        let slot = flows.begin(new(port, Phase::Open, seat(0)), now).unwrap();
        flows.end(slot, Phase::Ended, now);
    }
    flows.begin(new(30, Phase::Opening, seat(0)), now).unwrap();
    assert_eq!((flows.standing(), flows.slots.len()), (2, 8));
}

#[test]
fn only_so_many_syns_are_kept() {
    let now = Instant::now();
    let mut flows = flows(8 * MOST, now);
    for port in 0..MOST as u16 + 5 {
        let slot = flows.begin(new(port, Phase::Opening, seat(0)), now).unwrap();
        flows.keep(slot, vec![0; 50]);
    }
    let kept = flows.all().filter(|(_, flow)| flow.attempt.is_some()).count();
    assert_eq!(kept, MOST);
    assert!(flows.take_attempt(0).is_none() && flows.take_attempt(MOST as u32).is_some());
}

#[test]
fn a_syn_that_carries_much_is_not_kept() {
    let now = Instant::now();
    let mut flows = flows(16, now);
    for (port, len) in [(0, KEPT_OCTETS), (1, KEPT_OCTETS + 1)] {
        let slot = flows.begin(new(port, Phase::Opening, seat(0)), now).unwrap();
        flows.keep(slot, vec![0; len]);
        assert_eq!(flows.take_attempt(slot).is_some(), len == KEPT_OCTETS);
    }
}

#[test]
fn who_opens_the_same_again_and_again_fills_nothing() {
    let now = Instant::now();
    let mut flows = flows(4, now);
    for isn in 0..100_000 {
        let slot = flows.begin(New { isn, ..new(1, Phase::Opening, seat(0)) }, now).unwrap();
        flows.keep(slot, vec![0; 50]);
        if isn % 2 == 0 {
            flows.end(slot, Phase::Ended, now);
        }
    }
    let most = 4 * 4 + SLACK + 1;
    assert!(flows.opening.len() <= most && flows.ended.len() <= most && flows.kept.len() <= MOST);
    // What is due is done nevertheless.
    assert_eq!(flows.all().count(), 1);
    assert!(flows.tick(now + ATTEMPT).is_empty());
    assert_eq!((flows.all().count(), flows.next_tick()), (0, None));
}
