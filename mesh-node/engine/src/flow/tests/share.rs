//! Who has how many of the flows, and what that leaves to others.

use super::*;
use crate::map::Map;

/// Flows of this capacity, and a map in which deployment `n` has service `n` with the instances `100 n` to `100 n + 19`
/// here and the same from 50 on on runner 2. Deployments 1 to 20 are team acme's, from 21 on each is a team's of its own.
fn crowd(records: usize, now: Instant) -> (Flows, Map) {
    let mut builder = Builder::new(1).runner(1).runner(2).runner(3);
    for deployment in 1..=40u64 {
        let team = if deployment <= 20 { "acme".to_owned() } else { format!("team{deployment}") };
        builder = builder.deployment(deployment, &team).service(deployment, deployment);
        for instance in 0..20 {
            builder = builder.instance(100 * deployment + instance, deployment, 1);
            builder = builder.instance(100 * deployment + 50 + instance, deployment, 2);
        }
    }
    let map = builder.map();
    let mut flows = Flows::new(Box::new(vec![0; 64 + 64 * records]), 7, now);
    assert!(flows.resolve(&map.route, &map.filter).is_empty());
    (flows, map)
}

/// A connection of an instance to its own deployment's service.
fn of(map: &Map, instance: u64, port: u16, phase: Phase) -> New {
    let service = map.route.services.iter().position(|s| s.id.0 == instance / 100).unwrap() as u32;
    let at = map.route.instances.iter().position(|i| i.id.0 == instance).unwrap() as u32;
    let (seat, way) = match instance % 100 {
        0..50 => (Seat::Here(InstanceId(instance)), Way::Instance(at)),
        _ => (Seat::There(RunnerId(2)), Way::Runner(map.route.runner(RunnerId(2)).unwrap())),
    };
    let callee = instance / 100 * 100 + 19;
    let to = Way::Instance(map.route.here(InstanceId(callee)).unwrap());
    let deployment = map.filter.deployment(service);
    New {
        phase,
        caller: end(instance, port),
        callee: end(instance / 100, 5432),
        caller_is: InstanceId(instance),
        caller_seat: seat,
        callee_seat: Seat::Here(InstanceId(callee)),
        isn: 1000,
        resolved: Resolved { service, ways: [way, to], deployments: [deployment; 2] },
        payer: Role::Caller,
    }
}

/// How many connections an instance opens until it is refused, of so many.
fn open(flows: &mut Flows, map: &Map, instance: u64, phase: Phase, most: u16, now: Instant) -> usize {
    (0..most).take_while(|port| flows.begin(of(map, instance, *port, phase), now).is_ok()).count()
}

/// As many connections as these instances get, each in turn.
fn fill(flows: &mut Flows, map: &Map, instances: &[u64], phase: Phase, now: Instant) {
    let mut willing = instances.to_vec();
    for port in 0..=u16::MAX {
        willing.retain(|instance| flows.begin(of(map, *instance, port, phase), now).is_ok());
        if willing.is_empty() {
            return;
        }
    }
}

/// What there is room for, and by how much less a test has that fills it often.
const ALL: usize = 1 << 18;
const SCALE: u16 = 8;

#[test]
fn a_caller_by_itself_has_every_port_to_one_destination() {
    let now = Instant::now();
    for instance in [100, 150] {
        let (mut flows, map) = crowd(ALL, now);
        fill(&mut flows, &map, &[instance], Phase::Open, now);
        assert_eq!(flows.standing(), ALL / 4, "{instance}");
    }
}

#[test]
fn a_tenant_that_asks_for_little_gets_it_however_greedy_the_others_are() {
    let now = Instant::now();
    let twelve = |deployment: u64, first: u64| (0..12).map(|n| 100 * deployment + first + n).collect::<Vec<u64>>();
    let spread = |first: u64, at: u64| (0..12).map(|n| 100 * (first + n) + at).collect::<Vec<u64>>();
    for (what, greedy) in [
        ("of another team", twelve(21, 0)),
        ("of another deployment of the team", twelve(2, 0)),
        ("of many deployments of the team", spread(2, 0)),
        ("of many teams", spread(21, 0)),
        ("of another team, on another runner", twelve(21, 50)),
        ("of another deployment, on another runner", twelve(2, 50)),
        ("of many deployments of the team, on another runner", spread(2, 50)),
        ("of many teams, on another runner", spread(21, 50)),
        ("of many deployments of the team, on both", [spread(2, 0), spread(2, 50)].concat()),
    ] {
        for tenant in [100, 150] {
            for before in [0, 1000 / SCALE] {
                let (mut flows, map) = crowd(ALL / usize::from(SCALE), now);
                assert_eq!(open(&mut flows, &map, tenant, Phase::Open, before, now), usize::from(before));
                fill(&mut flows, &map, &greedy, Phase::Open, now);
                let from = before..before + 1000 / SCALE;
                let opened = from.filter(|port| flows.begin(of(&map, tenant, *port, Phase::Open), now).is_ok()).count();
                assert_eq!(opened, usize::from(1000 / SCALE), "beside twelve {what}, of {tenant} that has {before}");
            }
        }
    }
}

#[test]
fn a_caller_that_has_all_leaves_some_to_others_of_its_deployment_on_its_runner() {
    let now = Instant::now();
    for phase in [Phase::Claimed, Phase::Open] {
        let (mut flows, map) = crowd(ALL, now);
        fill(&mut flows, &map, &[150], phase, now);
        for sibling in 151..160 {
            assert_eq!(open(&mut flows, &map, sibling, Phase::Open, 1000, now), 1000, "{phase:?} {sibling}");
        }
        // However many there are, not all that another deployment's callers there get.
        fill(&mut flows, &map, &(151..170).collect::<Vec<_>>(), Phase::Open, now);
        assert!(flows.standing() <= ALL / 4 + ALL / 16, "{phase:?} {}", flows.standing());
        assert_eq!(open(&mut flows, &map, 250, Phase::Open, 1000, now), 1000, "{phase:?}");
    }
}

#[test]
fn what_nobody_has_answered_gives_way_to_who_has_less() {
    let now = Instant::now();
    let (mut flows, map) = crowd(4096, now);
    let greedy: Vec<u64> = (21..40).flat_map(|deployment| [100 * deployment, 100 * deployment + 1]).collect();
    fill(&mut flows, &map, &greedy, Phase::Opening, now);
    assert_eq!(open(&mut flows, &map, 100, Phase::Open, 150, now), 150, "of 4096, of which 20 teams want all");
    // But not what stands.
    let (mut flows, map) = crowd(4096, now);
    fill(&mut flows, &map, &greedy, Phase::Open, now);
    let standing = flows.standing();
    let opened = open(&mut flows, &map, 100, Phase::Open, 150, now);
    assert!(opened > 20 && opened < 150, "{opened}");
    assert_eq!(flows.standing(), standing + opened);
}

#[test]
fn a_flood_of_attempts_takes_no_others_kept_syn() {
    let now = Instant::now();
    let (mut flows, map) = crowd(ALL, now);
    let keep = |flows: &mut Flows, instance, port| {
        let slot = flows.begin(of(&map, instance, port, Phase::Opening), now).unwrap();
        flows.keep(slot, vec![0; 40]);
        slot
    };
    let ours: Vec<u32> = (0..100).map(|port| keep(&mut flows, 100, port)).collect();
    for (port, instance) in (0..10_000).zip([2100, 2101, 200, 201, 2250].into_iter().cycle()) {
        keep(&mut flows, instance, port);
    }
    assert_eq!(flows.kept.len(), MOST);
    // Also by another map.
    flows.resolve(&map.route, &map.filter);
    assert!(ours.into_iter().all(|slot| flows.take_attempt(slot).is_some()));
}

#[test]
fn what_one_end_only_claims_counts_for_it_and_not_for_long() {
    let now = Instant::now();
    let (mut flows, map) = crowd(ALL, now);
    let claim = |flows: &mut Flows, port| {
        let new = of(&map, 100, port, Phase::Claimed);
        flows.begin(New { payer: Role::Callee, ..new }, now).is_ok()
    };
    let claimed = (0..=u16::MAX).take_while(|port| claim(&mut flows, *port)).count();
    assert_eq!(claimed, ALL / 4, "as many as its callee may have");
    assert_eq!(flows.standing(), 0, "which are none yet");
    let caller = Tenant { team: 0, deployment: 0, leaf: Way::Instance(map.route.here(InstanceId(100)).unwrap()) };
    assert_eq!(flows.counts.all_of(caller), 0);
    assert!(flows.tick(now + ATTEMPT).is_empty());
    assert_eq!(flows.all().count(), 0);
}

#[test]
fn what_an_earlier_version_left_of_mere_claims_does_not_stand_for_days() {
    let now = Instant::now();
    let memory = std::sync::Arc::<std::sync::Mutex<Vec<u8>>>::default();
    let (mut pins, _) = Pins::open(Box::new(Window(std::sync::Arc::clone(&memory), vec![0; 64 + 64 * 4])));
    for (slot, isn, ack) in [(0, 0, None), (1, 0, Some(1)), (2, 1000, None)] {
        let caller = end(100, slot as u16);
        let (caller_is, caller_seat) = (InstanceId(100), Seat::Here(InstanceId(100)));
        let (callee, callee_seat) = (end(1, 5432), Seat::Here(InstanceId(119)));
        let (phase, fins, fin_acks, acks) = (Phase::Open, 0, [None; 2], [ack, Some(7)]);
        let pin = Pin { phase, caller, callee, caller_is, caller_seat, callee_seat, fins, fin_acks, isn, acks };
        pins.write(slot, &pin);
    }
    drop(pins);
    let left = std::mem::take(&mut *memory.lock().unwrap());
    let mut flows = Flows::new(Box::new(left), 7, now);
    assert_eq!((flows.all().count(), flows.standing()), (3, 2));
    assert!(flows.tick(now + ATTEMPT).is_empty());
    assert_eq!(flows.all().count(), 2);
}
