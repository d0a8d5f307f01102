//! How many flows each tenant gets, and what that leaves to others.

use super::{super::pins::Pins, *};
use crate::{index::Ix as _, map::Map};

/// A flow table of this capacity, and a map in which deployment `n` has service `n` with the local instances `100 n` to
/// `100 n + 19`, and as many from `100 n + 50` on runner 2. Deployments 1 to 20 are team acme's; each other deployment is
/// of another team.
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
    let service = ServiceIx::new(map.route.services.values().position(|s| s.id.0 == instance / 100).unwrap());
    let at = InstanceIx::new(map.route.instances.values().position(|i| i.id.0 == instance).unwrap());
    let (location, target) = match instance % 100 {
        0..50 => (Location::Here(InstanceId(instance)), Target::Instance(at)),
        _ => (Location::There(RunnerId(2)), Target::Runner(map.route.runner(RunnerId(2)).unwrap())),
    };
    let callee = instance / 100 * 100 + 19;
    let to = Target::Instance(map.route.local(InstanceId(callee)).unwrap());
    let deployment = map.filter.deployment(service);
    let pin = Pin {
        phase,
        caller: end(instance, port),
        callee: end(instance / 100, 5432),
        caller_is: InstanceId(instance),
        caller_location: location,
        callee_location: Location::Here(InstanceId(callee)),
        isn: 1000,
        progress: Progress::default(),
    };
    let services = [service; 2];
    let resolved = Resolved { services, preferred: None, targets: [target, to], deployments: [deployment; 2] };
    New { pin, resolved, payer: Role::Caller }
}

/// How many of `most` connections an instance opens until it is refused.
fn open(flows: &mut Flows, map: &Map, instance: u64, phase: Phase, most: u16, now: Instant) -> usize {
    (0..most).take_while(|port| flows.begin_new(of(map, instance, *port, phase), now).is_ok()).count()
}

/// Opens as many connections as these instances get, in turn.
fn fill(flows: &mut Flows, map: &Map, instances: &[u64], phase: Phase, now: Instant) {
    let mut willing = instances.to_vec();
    for port in 0..=u16::MAX {
        willing.retain(|instance| flows.begin_new(of(map, *instance, port, phase), now).is_ok());
        if willing.is_empty() {
            return;
        }
    }
}

/// The usual capacity, and the divisor for tests that fill the table often.
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
                let opened =
                    from.filter(|port| flows.begin_new(of(&map, tenant, *port, Phase::Open), now).is_ok()).count();
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
        // Many callers of one deployment leave room for another deployment's callers on the same runner.
        fill(&mut flows, &map, &(151..170).collect::<Vec<_>>(), Phase::Open, now);
        assert!(flows.standing() <= ALL / 4 + ALL / 16, "{phase:?} {}", flows.standing());
        assert_eq!(open(&mut flows, &map, 250, Phase::Open, 1000, now), 1000, "{phase:?}");
    }
}

#[test]
fn unanswered_attempts_make_room_for_tenants_with_less() {
    let now = Instant::now();
    let (mut flows, map) = crowd(4096, now);
    let greedy: Vec<u64> = (21..40).flat_map(|deployment| [100 * deployment, 100 * deployment + 1]).collect();
    fill(&mut flows, &map, &greedy, Phase::Opening, now);
    assert_eq!(open(&mut flows, &map, 100, Phase::Open, 150, now), 150, "of 4096, all wanted by 20 teams");
    // Standing flows make no room.
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
        let slot = flows.begin_new(of(&map, instance, port, Phase::Opening), now).unwrap();
        flows.keep(slot, vec![0; 40]);
        slot
    };
    let ours: Vec<Slot> = (0..100).map(|port| keep(&mut flows, 100, port)).collect();
    for (port, instance) in (0..10_000).zip([2100, 2101, 200, 201, 2250].into_iter().cycle()) {
        keep(&mut flows, instance, port);
    }
    assert_eq!(flows.kept.len(), MOST);
    // A new map changes nothing.
    flows.resolve(&map.route, &map.filter);
    assert!(ours.into_iter().all(|slot| flows.take_attempt(slot).is_some()));
}

#[test]
fn what_one_end_only_claims_counts_for_it_and_not_for_long() {
    let now = Instant::now();
    let (mut flows, map) = crowd(ALL, now);
    let claim = |flows: &mut Flows, port| {
        let new = of(&map, 100, port, Phase::Claimed);
        flows.begin_new(New { payer: Role::Callee, ..new }, now).is_ok()
    };
    let claimed = (0..=u16::MAX).take_while(|port| claim(&mut flows, *port)).count();
    assert_eq!(claimed, ALL / 4, "as many as its callee may have");
    assert_eq!(flows.standing(), 0, "claims don't count as standing");
    let caller = Target::Instance(map.route.local(InstanceId(100)).unwrap());
    let caller = Tenant { team: TeamIx(0), deployment: DeploymentIx(0), leaf: caller };
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
        let (caller_is, caller_location) = (InstanceId(100), Location::Here(InstanceId(100)));
        let (callee, callee_location) = (end(1, 5432), Location::Here(InstanceId(119)));
        let (phase, progress) = (Phase::Open, Progress { acks: [ack, Some(7)], ..Progress::default() });
        let pin = Pin { phase, caller, callee, caller_is, caller_location, callee_location, isn, progress };
        pins.write(Slot(slot), &pin);
    }
    drop(pins);
    let left = std::mem::take(&mut *memory.lock().unwrap());
    let mut flows = Flows::new(Box::new(left), 7, now);
    assert_eq!((flows.all().count(), flows.standing()), (3, 2));
    assert!(flows.tick(now + ATTEMPT).is_empty());
    assert_eq!(flows.all().count(), 2);
}
