mod pairs;
mod track;
mod usage;

use std::time::{Duration, Instant};

use mesh_proto::{InstanceId, RunnerId, ServiceId};
use proptest::prelude::*;

use super::{
    due::*,
    kept_syns::{KEPT_BYTES, MOST},
    usage::Tenant,
    *,
};
use crate::{
    Reason,
    index::{DeploymentIx, InstanceIx, RunnerIx, ServiceIx, TeamIx},
    route::Route,
    testing::{Builder, Segment, address, packet, tcp},
};

/// Service 1 has the local instance 10. Service 2 has the local instances 20 and 21, and 22 on runner 2. All are of one
/// deployment.
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

/// A flow to be followed.
struct New {
    pin: Pin,
    resolved: Resolved,
    payer: Role,
}

impl Flows {
    fn begin_new(&mut self, new: New, now: Instant) -> Result<Slot, Reason> {
        self.begin(new.pin, new.resolved, new.payer, now)
    }
}

fn new(port: u16, phase: Phase, callee: Location) -> New {
    let map = builder().map();
    let target = match callee {
        Location::Here(id) => Target::Instance(map.route.local(id).unwrap()),
        Location::There(id) => Target::Runner(map.route.runner(id).unwrap()),
    };
    let pin = Pin {
        phase,
        caller: end(10, port),
        callee: end(2, 5432),
        caller_is: InstanceId(10),
        caller_location: Location::Here(InstanceId(10)),
        callee_location: callee,
        isn: 1000,
        progress: Progress::default(),
    };
    let targets = [Target::Instance(InstanceIx(0)), target];
    let services = [ServiceIx(0), ServiceIx(1)];
    let resolved = Resolved { services, preferred: None, targets, deployments: [DeploymentIx(0); 2] };
    New { pin, resolved, payer: Role::Caller }
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
        4 => (port.clone(), any::<bool>(), 0..3u8).prop_map(|(p, open, location)| Step::Begin(p, open, location)),
        8 => (port.clone(), any::<bool>(), any::<u8>(), any::<u32>()).prop_map(|(p, r, f, a)| Step::Pass(p, r, f & 0x17, a)),
        1 => (port.clone(), 0..3u8).prop_map(|(p, location)| Step::Repin(p, location)),
        1 => port.prop_map(Step::End),
        1 => (0..100u16).prop_map(Step::Wait),
        1 => Just(Step::Map),
    ]
}

fn location(number: u8) -> Location {
    match number {
        0 => Location::Here(InstanceId(20)),
        1 => Location::Here(InstanceId(21)),
        _ => Location::There(RunnerId(2)),
    }
}

/// Compares the counts with a recount.
fn check(flows: &Flows, route: &Route) {
    let standing = || flows.all().filter(|(_, flow)| flow.phase().stands());
    assert_eq!(flows.standing(), standing().filter(|(_, flow)| flow.phase() != Phase::Claimed).count());
    for (index, instance) in route.instances.iter() {
        let at = Location::Here(instance.id);
        let counted = standing().filter(|(_, flow)| flow.location(Role::Callee) == at).count();
        assert_eq!(flows.open_here(index) as usize, counted, "{}", instance.id);
    }
    let there = standing().filter(|(_, flow)| flow.location(Role::Callee) == Location::There(RunnerId(2))).count();
    assert_eq!(flows.open_there(ServiceIx(1), None, RunnerIx(0)) as usize, there);
    let tenant = Tenant { team: TeamIx(0), deployment: DeploymentIx(0), leaf: Target::Instance(InstanceIx(0)) };
    let paid = standing().filter(|(_, flow)| flow.payer == Role::Caller).count();
    assert_eq!(flows.counts.all_of(tenant) as usize, paid);
}

fn contents(flows: &Flows) -> Vec<Pin> {
    let mut all: Vec<Pin> = flows.all().map(|(_, flow)| flow.pin).collect();
    all.sort_by_key(|pin| pin.caller.port);
    all
}

/// Memory that a test can read after the engine has dropped it.
struct Window(std::sync::Arc<std::sync::Mutex<Vec<u8>>>, Vec<u8>);

impl PinMemory for Window {
    fn bytes(&mut self) -> &mut [u8] {
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
                    prop_assert!(flows.begin_new(new(port, phase, location(at)), now).is_ok());
                }
                Step::Pass(port, callee, flags, ack) => {
                    let role = if callee { Role::Callee } else { Role::Caller };
                    let bytes = Segment { acknowledgment: ack, ..segment(role, port).flags(flags) }.build();
                    let (packet, tcp) = packet(&bytes);
                    if let Some((slot, found)) = flows.find(&packet, &tcp) {
                        prop_assert_eq!(found, role);
                        flows.pass(slot, role, &packet, &tcp, now);
                    }
                }
                Step::Repin(port, at) => {
                    if let Some(slot) = find(&flows, port).filter(|s| flows.get(*s).unwrap().phase() == Phase::Opening) {
                        let resolved = new(port, Phase::Opening, location(at)).resolved;
                        flows.repin(slot, location(at), resolved, None, now);
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
    let slot = flows.begin_new(new(1, Phase::Open, location(0)), now).unwrap();
    flows.begin_new(new(2, Phase::Open, location(1)), now).unwrap();
    flows.begin_new(new(3, Phase::Opening, location(1)), now).unwrap();
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
    assert_eq!(wait(&mut flows, 2 * 24 * 3600), (1, 1), "its ends need a RST");
}

#[test]
fn what_ends_one_after_another_is_forgotten_in_one_go() {
    let begun = Instant::now();
    let mut flows = flows(4096, begun);
    for port in 0..1000 {
        let now = begun + Duration::from_millis(port.into());
        let slot = flows.begin_new(new(port, Phase::Opening, location(0)), now).unwrap();
        flows.end(slot, Phase::Ended, now);
    }
    let mut ticks = 0;
    while let Some(at) = flows.next_tick() {
        assert!(flows.tick(at).is_empty());
        ticks += 1;
    }
    assert_eq!(flows.all().count(), 0);
    assert!(ticks <= 4, "{ticks}: each wakes the data plane");
}

#[test]
fn what_has_ended_makes_room_and_what_stands_does_not() {
    let now = Instant::now();
    // One caller gets a quarter of all at most.
    let mut flows = flows(8, now);
    let slot = flows.begin_new(new(1, Phase::Open, location(0)), now).unwrap();
    flows.begin_new(new(2, Phase::Open, location(0)), now).unwrap();
    assert_eq!(flows.begin_new(new(3, Phase::Opening, location(0)), now), Err(Reason::TooManyConnections));
    flows.end(slot, Phase::Ended, now);
    for port in 3..20 {
        let slot = flows.begin_new(new(port, Phase::Open, location(0)), now).unwrap();
        flows.end(slot, Phase::Ended, now);
    }
    flows.begin_new(new(30, Phase::Opening, location(0)), now).unwrap();
    assert_eq!((flows.standing(), flows.slots.len()), (2, 8));
}

#[test]
fn only_so_many_syns_are_kept() {
    let now = Instant::now();
    let mut flows = flows(8 * MOST, now);
    for port in 0..MOST as u16 + 5 {
        let slot = flows.begin_new(new(port, Phase::Opening, location(0)), now).unwrap();
        flows.keep(slot, vec![0; 50]);
    }
    let kept = flows.all().filter(|(_, flow)| flow.attempt.is_some()).count();
    assert_eq!(kept, MOST);
    assert!(flows.take_attempt(Slot(0)).is_none() && flows.take_attempt(Slot(MOST as u32)).is_some());
}

#[test]
fn a_syn_that_carries_much_is_not_kept() {
    let now = Instant::now();
    let mut flows = flows(16, now);
    for (port, len) in [(0, KEPT_BYTES), (1, KEPT_BYTES + 1)] {
        let slot = flows.begin_new(new(port, Phase::Opening, location(0)), now).unwrap();
        flows.keep(slot, vec![0; len]);
        assert_eq!(flows.take_attempt(slot).is_some(), len == KEPT_BYTES);
    }
}

#[test]
fn opening_the_same_connection_again_and_again_fills_nothing() {
    let now = Instant::now();
    let mut flows = flows(4, now);
    for isn in 0..100_000 {
        let slot = flows
            .begin_new(
                {
                    let mut new = new(1, Phase::Opening, location(0));
                    new.pin.isn = isn;
                    new
                },
                now,
            )
            .unwrap();
        flows.keep(slot, vec![0; 50]);
        if isn % 2 == 0 {
            flows.end(slot, Phase::Ended, now);
        }
    }
    let most = 4 * 4 + SLACK + 1;
    assert!(flows.opening.len() <= most && flows.ended.len() <= most && flows.kept.len() <= MOST);
    // Due flows are forgotten nevertheless.
    assert_eq!(flows.all().count(), 1);
    assert!(flows.tick(now + ATTEMPT).is_empty());
    assert_eq!((flows.all().count(), flows.next_tick()), (0, None));
}
