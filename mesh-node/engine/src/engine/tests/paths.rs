//! Paths by relays, and direct ones that are found from there.

use mesh_proto::{Record, RelayId, relay::Relayed, view::Runner};

use super::*;
use crate::Event;

/// The views of runners 1 and 2, which both have an allocation at these relays. Neither knows an address of the other one
/// unless `direct`.
fn views(relays: &[u64], direct: bool) -> [Builder; 2] {
    [1, 2].map(|runner| {
        let mut view = view(runner).able();
        for id in [1, 2] {
            let known = view.0.runner(mesh_proto::RunnerId(id)).expect("a runner").clone();
            let relayed =
                relays.iter().map(|relay| Relayed { relay: RelayId(*relay), address: relayed(*relay, id) }).collect();
            let endpoints = if direct { known.endpoints.clone() } else { vec![] };
            view.0.put(Record::Runner(Runner { relayed, endpoints, ..Runner::clone(&known) }.into()));
        }
        view
    })
}

fn world(relays: &[u64], direct: bool) -> World {
    let mut world = World::of(&views(relays, direct));
    for (runner, instance) in [(1, 10), (1, 30), (2, 20), (2, 40)] {
        world.attach(runner, instance);
    }
    for runner in [1, 2] {
        let (now, relays): (_, Vec<RelayId>) = (world.now, relays.iter().map(|relay| RelayId(*relay)).collect());
        world.engine(runner).handle_relays(&relays, now);
        world.engine(runner).handle_own_addresses(&[endpoint(runner)], now);
    }
    world
}

/// No datagram without a relay.
fn relayed_only(datagrams: &Datagrams) -> bool {
    !datagrams.from.is_relayed()
}

/// No datagram by a relay.
fn direct_only(datagrams: &Datagrams) -> bool {
    datagrams.from.is_relayed()
}

fn everything(_: &Datagrams) -> bool {
    true
}

fn connect(world: &mut World) {
    world.send(10, &call().syn().build());
    world.read(2, 20, &complete(&reply().flags(SYN_ACK).build()));
    world.carry();
    assert_eq!((world.delivered(20).len(), world.delivered(10).len()), (1, 1));
}

/// Each instance sends something, and the other one gets it.
fn crosses(world: &mut World, sequence: u32) -> bool {
    world.read(1, 10, &call().sequence(sequence).payload(b"x").build_read());
    world.read(2, 20, &reply().sequence(sequence).payload(b"y").build_read());
    world.carry();
    (world.delivered(20).len(), world.delivered(10).len()) == (1, 1)
}

/// The path that a runner uses to the other one.
fn path(world: &mut World, runner: u64) -> Option<Hop> {
    let now = world.now;
    world.engine(runner).report(now).peers[0].path.map(|path| path.hop)
}

fn by(relay: u64, runner: u64) -> Option<Hop> {
    Some(Hop::Relayed { relay: RelayId(relay), peer: relayed(relay, runner) })
}

#[test]
fn runners_without_addresses_talk_by_a_relay_from_the_first_syn_on() {
    let mut world = world(&[1], false);
    world.lost = relayed_only;
    connect(&mut world);
    assert_eq!([path(&mut world, 1), path(&mut world, 2)], [by(1, 2), by(1, 1)]);
    let initiations = world.sinks.iter().flat_map(|sink| &sink.events).count();
    assert_eq!(initiations, 0, "no endpoint to remember");
    for second in 0..60 {
        assert!(crosses(&mut world, second), "{second}");
        world.wait(Duration::from_secs(1));
    }
    let drops = [world.drops(1), world.drops(2)];
    assert_eq!(drops, [0, 0]);
}

#[test]
fn a_super_packet_by_a_relay_is_one_batch_with_room_for_headers() {
    let mut world = world(&[1], false);
    world.lost = relayed_only;
    connect(&mut world);
    world.wait(Duration::from_secs(1));
    let payload: Vec<u8> = (0..40_000u32).map(|i| ((i * i) >> 7) as u8).collect();
    world.read(1, 10, &call().sequence(2000).payload(&payload).read(1304));
    assert_eq!((world.wire.len(), world.wire[0].stride), (1, HEADROOM + 1344 + crate::tunnel::OVERHEAD));
    world.carry();
    let crossed: Vec<u8> = world.delivered_bytes(20);
    assert!(crossed == payload);
}

#[test]
fn a_direct_path_is_found_from_the_relay_and_the_relay_is_left() {
    let mut world = world(&[1], false);
    connect(&mut world);
    // The addresses were told by the relay; both sides are pinged in the same moment.
    world.wait(Duration::from_secs(1));
    assert_eq!([path(&mut world, 1), path(&mut world, 2)], [1, 2].map(|runner| Some(endpoint(3 - runner).into())));
    let found = Event::Endpoint { runner: mesh_proto::RunnerId(2), endpoint: endpoint(2) };
    assert!(world.sinks[0].events.contains(&found));
    world.lost = direct_only;
    for second in 0..60 {
        assert!(crosses(&mut world, second), "{second}");
        world.wait(Duration::from_secs(1));
    }
}

#[test]
fn a_direct_path_that_dies_is_replaced_by_the_relay_within_the_bound() {
    let mut world = world(&[1], true);
    connect(&mut world);
    world.wait(Duration::from_secs(1));
    assert_eq!(path(&mut world, 1), Some(endpoint(2).into()));
    world.lost = relayed_only;
    let died = world.now;
    let mut crossed = None;
    for step in 0..100 {
        if crosses(&mut world, 100 + step) {
            crossed = Some(world.now - died);
            break;
        }
        world.wait(Duration::from_millis(50));
    }
    assert!(crossed.is_some_and(|after| after <= Duration::from_millis(1600)), "{crossed:?}");
    assert_eq!([path(&mut world, 1), path(&mut world, 2)], [by(1, 2), by(1, 1)]);
    assert_eq!(world.engine(1).report(died).peers[0].failing, None);
    // It is back.
    world.lost = |_| false;
    for step in 0..40 {
        assert!(crosses(&mut world, 300 + step));
        world.wait(Duration::from_millis(500));
    }
    assert_eq!(path(&mut world, 1), Some(endpoint(2).into()));
}

#[test]
fn a_direct_path_that_dies_in_one_direction_is_replaced_in_both() {
    for lost in [(|d: &Datagrams| d.from == endpoint(1).into()) as fn(&Datagrams) -> bool, |d: &Datagrams| {
        d.from == endpoint(2).into()
    }] {
        let mut world = world(&[1], true);
        connect(&mut world);
        world.wait(Duration::from_secs(1));
        world.lost = lost;
        let mut crossed = 0;
        for step in 0..120 {
            crossed += u32::from(crosses(&mut world, 100 + step));
            world.wait(Duration::from_millis(100));
        }
        assert!(crossed > 80, "{crossed}");
        assert_eq!([path(&mut world, 1), path(&mut world, 2)], [by(1, 2), by(1, 1)]);
    }
}

#[test]
fn one_relay_dies_and_the_other_one_carries_on() {
    let mut world = world(&[1, 2], false);
    world.lost = |d| !matches!(d.from, Hop::Relayed { .. });
    connect(&mut world);
    let used = path(&mut world, 1);
    world.lost = match used {
        Some(Hop::Relayed { relay: RelayId(1), .. }) => |d| !matches!(d.from, Hop::Relayed { relay: RelayId(2), .. }),
        _ => |d| !matches!(d.from, Hop::Relayed { relay: RelayId(1), .. }),
    };
    let mut crossed = vec![];
    for step in 0..40 {
        crossed.push(crosses(&mut world, 100 + step));
        world.wait(Duration::from_millis(50));
    }
    assert!(crossed[33..].iter().all(|crossed| *crossed), "{crossed:?}");
    // The owner notices as well, and the loss of an allocation moves data at once.
    world.lost = relayed_only;
    let (now, left) = (world.now, if path(&mut world, 1) == by(1, 2) { 2 } else { 1 });
    for runner in [1, 2] {
        world.engine(runner).handle_relays(&[RelayId(left)], now);
    }
    assert!(crosses(&mut world, 1000));
    assert_eq!(path(&mut world, 1), by(left, 2));
}

#[test]
fn a_relay_that_works_is_no_reason_to_choose_another_runner() {
    let mut world = world(&[1], true);
    connect(&mut world);
    world.wait(Duration::from_secs(1));
    world.lost = relayed_only;
    for step in 0..60 {
        crosses(&mut world, 100 + step);
        world.wait(Duration::from_millis(100));
        let now = world.now;
        let core = &world.engine(1).core;
        let runner = core.map.route.runner(mesh_proto::RunnerId(2)).expect("it is in the map");
        assert!(!core.peers.is_demoted(runner, now), "{step}");
    }
}

#[test]
fn a_remembered_address_has_a_moment_before_the_relay_is_tried() {
    let mut world = world(&[1], false);
    world.engine(1).handle_known_endpoint(mesh_proto::RunnerId(2), endpoint(2));
    world.read(1, 10, &call().syn().build_read());
    let first: Vec<Hop> = world.wire.iter().map(|d| d.to).collect();
    assert_eq!(first, [endpoint(2).into()]);
    world.lost = relayed_only;
    world.carry();
    world.wait(Duration::from_millis(250));
    assert_eq!(world.delivered(20).len(), 1, "by the relay");
    assert_eq!(path(&mut world, 1), by(1, 2));
}

#[test]
fn a_relayed_address_that_has_changed_is_learned_by_the_tunnel() {
    let mut world = world(&[1], false);
    world.lost = relayed_only;
    connect(&mut world);
    // Runner 2 gets another one: its datagrams come from there.
    let other = Hop::Relayed { relay: RelayId(1), peer: ([198, 51, 100, 1], 60_000).into() };
    world.engine(2).handle_address_change();
    let now = world.now;
    world.with(2, |engine, sink, _| engine.handle_timeout(now, sink));
    world.read(2, 20, &reply().payload(b"y").build_read());
    for datagrams in &mut world.wire {
        datagrams.from = other;
    }
    while let Some(datagrams) = world.wire.pop_front() {
        world.receive(1, datagrams.from, &datagrams.batch, datagrams.stride);
        world.wire.retain(|d| d.from == other);
    }
    assert_eq!(path(&mut world, 1), Some(other));
}

#[test]
fn relays_that_only_the_other_one_has_are_asked_for_one_after_another() {
    let mut world = world(&[1, 2], false);
    let now = world.now;
    world.engine(1).handle_relays(&[RelayId(7)], now);
    world.send(10, &call().syn().build());
    let wanted = |world: &World| {
        let relays = world.sinks[0].events.iter().filter_map(|event| match event {
            Event::NeedRelay { runner: mesh_proto::RunnerId(2), relay } => Some(relay.0),
            _ => None,
        });
        relays.collect::<Vec<_>>()
    };
    assert_eq!(wanted(&world), [1]);
    // That one is out of reach.
    world.wait(Duration::from_millis(1250));
    assert_eq!(wanted(&world), [1, 1, 2]);
    assert!(world.delivered(20).is_empty());
    // It gets an allocation at the other one: what waits goes out.
    let now = world.now;
    world.engine(1).handle_relays(&[RelayId(7), RelayId(2)], now);
    world.wait(Duration::from_secs(1));
    assert_eq!(world.delivered(20).len(), 1);
}

#[test]
fn a_ping_from_outside_is_answered_with_the_path() {
    let mut world = world(&[1], false);
    world.lost = relayed_only;
    world.with(1, |engine, sink, now| engine.handle_ping(mesh_proto::RunnerId(2), 7, now, sink));
    world.carry();
    world.wait(Duration::from_secs(1));
    let pings: Vec<_> = world.sinks[0].events.iter().filter(|event| matches!(event, Event::Ping { .. })).collect();
    assert!(matches!(pings[..], [Event::Ping { ticket: 7, path, .. }] if Some(*path) == by(1, 2)), "{pings:?}");
    world.lost = everything;
    world.with(1, |engine, sink, now| engine.handle_ping(mesh_proto::RunnerId(2), 8, now, sink));
    world.wait(Duration::from_secs(10));
    assert_eq!(world.sinks[0].events.iter().filter(|event| matches!(event, Event::Ping { .. })).count(), 1);
}

#[test]
fn a_runner_that_cannot_use_relays_gets_nothing_by_one() {
    let [mut first, second] = views(&[1], true);
    let known = first.0.runner(mesh_proto::RunnerId(2)).expect("a runner").clone();
    first.0.put(Record::Runner(Runner { can: mesh_proto::Abilities::NONE, ..Runner::clone(&known) }.into()));
    let mut world = World::of(&[first, second]);
    let now = world.now;
    world.engine(1).handle_relays(&[RelayId(1)], now);
    world.attach(1, 10);
    world.lost = everything;
    for _ in 0..20 {
        world.read(1, 10, &call().syn().build_read());
        assert!(world.wire.iter().all(|d| !d.from.is_relayed()));
        world.wait(Duration::from_secs(1));
    }
}

#[test]
fn a_nat_gets_no_datagram_before_the_meeting() {
    // The second is in an office, with the relay.
    for outside in [[203, 0, 113, 50], [10, 0, 5, 2]].map(|address| SocketAddr::from((address, 51820))) {
        let mut views = views(&[1], false);
        let known = views[0].0.runner(mesh_proto::RunnerId(2)).expect("a runner").clone();
        let within: SocketAddr = ([192, 168, 1, 5], 51820).into();
        // The coordinator has seen it there.
        let endpoints = vec![within, outside];
        let runner = Runner { endpoints, reflexive: vec![outside], ..Runner::clone(&known) };
        views[0].0.put(Record::Runner(runner.into()));
        let mut world = World::of(&views);
        world.attach(1, 10);
        let now = world.now;
        world.engine(1).handle_relays(&[RelayId(1)], now);
        world.read(1, 10, &call().syn().build_read());
        let to: Vec<Hop> = world.wire.drain(..).map(|d| d.to).collect();
        assert!(to.len() == 2 && to.contains(&within.into()) && to.contains(&by(1, 2).expect("a hop")), "{to:?}");
        // The relay doesn't answer.
        world.wait(Duration::from_millis(800));
        assert!(world.wire.is_empty());
        world.with(1, |engine, sink, now| engine.handle_timeout(now + Duration::from_millis(300), sink));
        assert!(world.wire.iter().any(|d| d.to == outside.into()), "now everything is tried");
    }
}

#[test]
fn a_relayed_address_that_changes_while_a_direct_path_is_used_is_learned_as_well() {
    let mut world = world(&[1], true);
    connect(&mut world);
    world.wait(Duration::from_secs(1));
    assert_eq!(path(&mut world, 1), Some(endpoint(2).into()));
    world.engine(2).handle_address_change();
    world.with(2, |engine, sink, now| engine.handle_timeout(now, sink));
    let other = Hop::Relayed { relay: RelayId(1), peer: ([198, 51, 100, 1], 60_000).into() };
    let greeting = world.wire.iter_mut().find(|d| d.from.is_relayed()).expect("one by the relay");
    greeting.from = other;
    world.carry();
    // The direct path dies: runner 1 asks by the new address.
    world.lost = everything;
    world.read(1, 10, &call().sequence(5000).payload(b"x").build_read());
    world.wire.clear();
    world.lost = |_| false;
    let mut asked = false;
    for _ in 0..8 {
        world.now += Duration::from_millis(250);
        world.with(1, |engine, sink, now| engine.handle_timeout(now, sink));
        asked |= world.wire.drain(..).any(|d| d.to == other);
    }
    assert!(asked);
}
