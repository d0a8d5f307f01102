use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use mesh_proto::InstanceId;
use proptest::prelude::*;

use crate::{
    AdminCommand, Change, Record, Refusal, RunnerCommand, limits,
    testing::{World, declared, file, label, refused, whole},
};

#[test]
fn services_get_addresses_from_the_low_end_and_instances_from_the_high_end() {
    let mut world = World::new();
    world.apply(vec![whole("shop: db app")]).unwrap();
    assert_eq!(
        world.address("shop/app"),
        Ipv4Addr::new(100, 112, 0, 1),
        "by name, from the first that is no network's"
    );
    assert_eq!(world.address("shop/db"), Ipv4Addr::new(100, 112, 0, 2));
    let runner = world.join("r1");
    assert_eq!(world.attach(runner, "shop/db").1, Ipv4Addr::new(100, 127, 255, 253));
    assert_eq!(world.attach(runner, "shop/db").1, Ipv4Addr::new(100, 127, 255, 252));
}

#[test]
fn a_service_keeps_its_address_until_it_is_deleted_and_the_next_gets_a_fresh_one() {
    let mut world = World::new();
    world.apply(vec![whole("shop: db")]).unwrap();
    let first = world.address("shop/db");
    world.apply(vec![whole("shop: app db")]).unwrap();
    assert_eq!(world.address("shop/db"), first);
    world.order(AdminCommand::Delete { deployment: label("shop"), force: false }).unwrap();
    world.now = world.now.plus(1_000_000);
    world.apply(vec![whole("shop: db")]).unwrap();
    assert_eq!(world.address("shop/db"), Ipv4Addr::new(100, 112, 0, 3), "freed ones come last");
}

/// In a range of 253 addresses, freed ones come back in the order of freeing, each after its quarantine.
#[test]
fn when_nothing_is_fresh_the_address_freed_longest_ago_comes_first_and_only_after_its_rest() {
    let mut world = World::with_range("10.0.0.0/24");
    let services: Vec<String> = (0..253).map(|n| format!("s{n:03}")).collect();
    let all = |but: &[usize]| {
        let kept = services.iter().enumerate().filter(|(n, _)| !but.contains(n)).map(|(_, s)| &**s);
        vec![file(declared("shop", None, kept))]
    };
    world.apply(all(&[])).unwrap();
    let (seventh, third) = (world.address("shop/s007"), world.address("shop/s003"));
    assert_eq!(
        refused(world.apply(vec![whole("other: x")])),
        "Conflict: other.toml: the range 10.0.0.0/24 has no free address | `mesh-coord instances` and \
         `services` show what has them, and freed ones can be used again after 10 minutes; a larger range needs a new coordinator (`serve --range`)"
    );

    world.apply(all(&[7])).unwrap();
    world.now = world.now.plus(1);
    world.apply(all(&[7, 3])).unwrap();
    world.now = world.now.plus(598);
    assert!(refused(world.apply(vec![whole("other: x")])).contains("has no free address"));
    world.now = world.now.plus(1);
    world.apply(vec![whole("other: x")]).unwrap();
    assert_eq!(world.address("other/x"), seventh);
    assert!(world.apply(vec![whole("other: x y")]).is_err(), "the other one rests a second longer");
    world.now = world.now.plus(1);
    world.apply(vec![whole("other: x y")]).unwrap();
    assert_eq!(world.address("other/y"), third);
}

#[test]
fn a_clock_that_jumps_ends_no_rest_and_lengthens_none() {
    let mut world = World::with_range("10.0.0.0/24");
    let services: Vec<String> = (0..253).map(|n| format!("s{n:03}")).collect();
    world.apply(vec![file(declared("shop", None, services.iter().map(|s| &**s)))]).unwrap();
    world.apply(vec![file(declared("shop", None, services[1..].iter().map(|s| &**s)))]).unwrap();
    for off in [-500_000, 0, 1_000_000_000] {
        world.off = off;
        assert!(world.apply(vec![whole("other: x")]).is_err(), "{off}");
    }
    // A restarted coordinator goes on from the latest time that its records know.
    assert_eq!(world.state.running(), crate::RunningSeconds(world.now.0));
    world.off = -999_999;
    world.now = world.now.plus(599);
    assert!(world.apply(vec![whole("other: x")]).is_err());
    world.now = world.now.plus(1);
    world.apply(vec![whole("other: x")]).unwrap();
}

#[test]
fn instances_use_what_has_rested_once_enough_has_gathered() {
    let mut world = World::new();
    world.apply(vec![whole("shop: db")]).unwrap();
    let runner = world.join("r1");
    let mut seen = BTreeSet::new();
    for _ in 0..limits::INSTANCE_ADDRESSES_RESTING {
        let (instance, address) = world.attach(runner, "shop/db");
        assert!(seen.insert(address), "a fresh one each");
        world.detach(runner, instance);
    }
    assert!(seen.insert(world.attach(runner, "shop/db").1), "none has rested yet");
    world.now = world.now.plus(600);
    assert_eq!(world.attach(runner, "shop/db").1, Ipv4Addr::new(100, 127, 255, 253), "the first of all");
    assert!(seen.insert(world.attach(runner, "shop/db").1), "what is kept of freed ones stays bounded, not empty");
}

/// An instance gets a service's freed address only if there is no other.
#[test]
fn instances_and_services_share_what_is_left_at_the_very_end() {
    let mut world = World::with_range("10.0.0.0/24");
    let services: Vec<String> = (0..252).map(|n| format!("s{n:03}")).collect();
    world.apply(vec![file(declared("shop", None, services.iter().map(|s| &**s)))]).unwrap();
    let runner = world.join("r1");
    let (instance, last) = world.attach(runner, "shop/s000");
    assert_eq!(last, Ipv4Addr::new(10, 0, 0, 253));
    world.apply(vec![file(declared("shop", None, services[..251].iter().map(|s| &**s)))]).unwrap();
    world.detach(runner, instance);
    world.now = world.now.plus(600);
    assert_eq!(world.attach(runner, "shop/s000").1, last, "another instance's");
    assert_eq!(world.attach(runner, "shop/s000").1, Ipv4Addr::new(10, 0, 0, 252), "the service's");
    let wish = RunnerCommand::Attach { service: "shop/s000".parse().unwrap(), client: false, release: None };
    assert!(matches!(world.request(runner, wish), Err(Refusal::RangeExhausted { used: 253, resting: 0, .. })));
}

/// In a database of version 0.2 the first instance has the address that is the resolver's now.
#[test]
fn the_resolvers_address_is_given_to_nothing_and_not_again_where_it_was() {
    let mut world = World::with_range("10.0.0.0/24");
    world.apply(vec![whole("shop: db")]).unwrap();
    let runner = world.join("r1");
    let (instance, _) = world.attach(runner, "shop/db");
    let resolver = Ipv4Addr::new(10, 0, 0, 254);
    let mut old = mesh_proto::view::Instance::clone(world.state.instances_on(runner).last().unwrap());
    old.address = resolver;
    world.commit(&[Change::Put(Record::Instance(old.into()))]);
    assert_eq!(world.state.instances_on(runner).last().unwrap().address, resolver, "it stays where it is");
    world.detach(runner, instance);
    world.now = world.now.plus(100_000);
    // More than there are, so that those that have rested are given again.
    for _ in 0..300 {
        let (instance, address) = world.attach(runner, "shop/db");
        assert_ne!(address, resolver);
        world.detach(runner, instance);
        world.now = world.now.plus(600);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    /// A small range under heavy use, compared with a list of when each address was freed.
    #[test]
    fn no_address_returns_before_its_rest_or_before_its_turn(
        steps in prop::collection::vec((0..3u8, any::<prop::sample::Index>(), 0..40u64), 600..900)
    ) {
        let mut world = World::with_range("10.0.0.0/24");
        world.apply(vec![whole("shop: a b c d e f g h")]).unwrap();
        let runner = world.join("r1");
        let services = ["a", "b", "c", "d", "e", "f", "g", "h"].map(|name| format!("shop/{name}"));
        let mut live: Vec<(InstanceId, Ipv4Addr)> = Vec::new();
        let mut freed: Vec<(u64, Ipv4Addr)> = Vec::new();
        let mut had: BTreeMap<Ipv4Addr, usize> = BTreeMap::new();
        for (what, which, after) in steps {
            world.now = world.now.plus(after);
            if what == 0 && !live.is_empty() {
                let (instance, address) = live.swap_remove(which.index(live.len()));
                world.detach(runner, instance);
                freed.push((world.now.0, address));
                continue;
            }
            let wish = RunnerCommand::Attach { service: services[which.index(8)].parse().unwrap(), client: false, release: None };
            if world.request(runner, wish).is_err() {
                prop_assert_eq!(had.len(), 245, "there is nothing fresh");
                prop_assert!(freed.first().is_none_or(|(at, _)| world.now.0 - at < 600), "nothing has rested");
                // To make room, the oldest half ends.
                for (instance, address) in live.drain(..live.len() / 2) {
                    world.detach(runner, instance);
                    freed.push((world.now.0, address));
                }
                continue;
            }
            let instance = world.state.instances_on(runner).last().unwrap();
            let (id, address) = (instance.id, instance.address);
            if *had.entry(address).and_modify(|n| *n += 1).or_insert(1) > 1 {
                prop_assert_eq!(had.len(), 245, "fresh ones come first");
                let (at, first) = freed.remove(0);
                prop_assert_eq!(first, address, "the one freed longest ago");
                prop_assert!(world.now.0 - at >= 600, "after its rest");
            }
            live.push((id, address));
        }
    }
}
