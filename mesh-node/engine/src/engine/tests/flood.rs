//! Floods of handshakes and of other datagrams.

use super::*;
use crate::tunnel::{CONTROL, Identity, Tunnel};

/// Authentic initiations of this runner to runner 2.
fn initiations(runner: u64, count: u32) -> Vec<[u8; CONTROL]> {
    let (identity, now) = (Identity::new(&key(runner)), Instant::now());
    let initiation = |index| {
        let mut message = [0; CONTROL];
        let len = Tunnel::new(&identity, &key(2).public(), index, now).initiate(&mut message, now);
        assert_eq!(len, Some(CONTROL));
        message
    };
    (0..count).map(crate::tunnel::TunnelIx).map(initiation).collect()
}

/// The `n`th address at which no runner is known.
fn elsewhere(n: usize) -> SocketAddr {
    let [a, b] = (n as u16).to_be_bytes();
    ([198, 18, a, b], 4000).into()
}

/// Runner 2 receives these, ten thousand a second, the `n`th from `from(n)`. Its answers are lost.
fn flood(world: &mut World, messages: &[[u8; CONTROL]], from: impl Fn(usize) -> SocketAddr) {
    for (n, message) in messages.iter().enumerate() {
        world.receive(2, from(n), message, CONTROL);
        world.now += Duration::from_micros(100);
    }
    world.wire.clear();
}

/// A world with a third runner, which has instance 50 of the calling service.
fn three() -> World {
    let view = |runner| view(runner).runner(3).instance(50, 1, 3);
    let mut world = World::of(&[view(1), view(2), view(3)]);
    for (runner, instance) in [(1, 10), (1, 30), (2, 20), (2, 40), (3, 50)] {
        world.attach(runner, instance);
    }
    world
}

/// Checks that instance 50 opens a connection at once.
fn connects(world: &mut World) {
    let syn = tcp().between(address(50), address(2)).syn().build();
    world.read(3, 50, &complete(&syn));
    world.carry();
    assert_eq!(world.delivered(20), [syn]);
}

#[test]
fn strangers_cost_little_and_keep_no_runner_out() {
    let mut world = three();
    let messages = initiations(9, 3000);
    flood(&mut world, &messages, elsewhere);
    let (looked_into, asked) = (world.dropped(2, Reason::UnknownRunner), world.dropped(2, Reason::UnderLoad));
    assert!(looked_into <= 250 + 75, "{looked_into} Diffie-Hellmans in 0.3 s");
    assert_eq!(looked_into + asked, 3000);
    connects(&mut world);
    // A runner at an unknown address isn't kept out either: it has to prove its address, which takes a round trip.
    flood(&mut world, &messages[..500], elsewhere);
    world.from[0] = elsewhere(60_000);
    world.send(10, &call().syn().build());
    assert_eq!(world.delivered(20).len(), 1, "at once");
}

/// A NAT or a stateful firewall lets no cookie through that comes from another address.
#[test]
fn a_cookie_leaves_from_the_address_that_was_asked() {
    for (asked, from) in [("10.19.0.100", "198.18.0.7:4000"), ("fd00:19::100", "[fd00:18::7]:4000")] {
        let mut world = three();
        let (asked, from): (_, SocketAddr) = (asked.parse().unwrap(), from.parse().unwrap());
        for message in initiations(9, 1000) {
            let received =
                crate::Datagrams { from: from.into(), local: Some(asked), bytes: &message, stride: CONTROL, skip: 0 };
            world.with(2, |engine, sink, now| engine.handle_udp(&received, now, sink));
        }
        let cookies = world.dropped(2, Reason::UnderLoad);
        let sources = std::mem::take(&mut world.sinks[1].sources);
        assert!(cookies > 0 && sources.len() as u64 == cookies, "{cookies} of {}", sources.len());
        assert!(sources.iter().all(|source| *source == Some(asked)), "{sources:?}");
    }
}

#[test]
fn a_runner_that_floods_is_limited_and_keeps_no_other_out() {
    let mut world = three();
    let messages = initiations(1, 1500);
    flood(&mut world, &messages, |n| if n % 2 == 0 { endpoint(1) } else { elsewhere(n) });
    let limited = world.dropped(2, Reason::HandshakeLimited);
    assert!(limited >= 200, "of the 250 that were decrypted and more, 50 a second are answered: {limited}");
    assert_eq!(world.drops(2), limited + world.dropped(2, Reason::UnderLoad));
    connects(&mut world);
}

#[test]
fn copies_of_an_initiation_are_recognized_without_decryption() {
    let mut world = three();
    let [old, new] = initiations(1, 2)[..] else { unreachable!() };
    flood(&mut world, &[new; 1000], elsewhere);
    assert_eq!((world.dropped(2, Reason::HandshakeRejected), world.drops(2)), (991, 991), "no cookies are sent either");
    // An older copy has to be decrypted, but uses up none of the runner's limit.
    flood(&mut world, &[old; 200], elsewhere);
    assert_eq!(world.dropped(2, Reason::HandshakeRejected), 1191);
    world.send(10, &call().syn().build());
    assert_eq!(world.delivered(20).len(), 1);
}

#[test]
fn responses_to_an_intercepted_initiation_are_limited() {
    let mut world = World::new();
    world.read(1, 10, &complete(&call().syn().build()));
    world.carry();
    world.delivered(20);
    // Another session begins. Its response arrives a thousand times.
    world.with(1, |engine, sink, now| {
        let mut cx = crate::cx::Cx { now, sink, drops: &mut engine.drops };
        engine.core.peers.recall(mesh_proto::RunnerId(2), endpoint(2), now);
        engine.core.peers.tick(&mut cx);
    });
    let initiation = world.wire.pop_front().expect("an initiation");
    world.receive(2, initiation.from, &initiation.batch, initiation.stride);
    let response = world.wire.pop_front().expect("a response");
    for _ in 0..1000 {
        world.receive(1, response.from, &response.batch, response.stride);
        world.wire.clear();
    }
    assert!(world.dropped(1, Reason::HandshakeLimited) >= 980);
    world.send(10, &call().build());
    assert_eq!(world.delivered(20).len(), 1, "by the standing session");
}

#[test]
fn garbage_of_every_kind_and_length_is_counted_and_changes_nothing() {
    let mut world = World::new();
    world.send(10, &call().syn().build());
    world.delivered(20);
    world.read(1, 10, &complete(&call().build()));
    let genuine = world.wire.pop_front().expect("data");
    let index = genuine.batch[4..8].to_vec();
    let mut sent = 0;
    for kind in 0..=6 {
        for len in (1..=200).chain([500, 1500, 9000, 65_507]) {
            let mut bytes = [&[kind, 0, 0, 0], &index[..], &[0xa5; 8]].concat();
            bytes.resize(len.max(16), kind);
            bytes.truncate(len);
            world.receive(2, endpoint(1), &bytes, len);
            sent += 1;
            assert_eq!(world.drops(2), sent, "kind {kind}, length {len}");
        }
    }
    assert!(world.is_quiet());
    world.receive(2, genuine.from, &genuine.batch, genuine.stride);
    assert_eq!(world.delivered(20).len(), 1);
}

#[test]
fn guessed_indices_lead_nowhere() {
    let mut world = World::new();
    world.send(10, &call().syn().build());
    world.delivered(20);
    for index in 0..20_000u32 {
        let bytes = [&[4, 0, 0, 0], &index.wrapping_mul(0x9e37_79b1).to_le_bytes()[..], &[0; 40]].concat();
        world.receive(2, elsewhere(index as usize), &bytes, bytes.len());
    }
    assert_eq!(world.drops(2), 20_000);
    assert!(world.dropped(2, Reason::UnknownSession) >= 19_900);
    world.send(10, &call().build());
    assert_eq!(world.delivered(20).len(), 1);
}

#[test]
fn the_largest_datagram_to_a_tunnel_that_has_no_session_yet() {
    let mut world = World::new();
    world.read(1, 10, &complete(&call().syn().build()));
    let index = world.wire[0].batch[4..8].to_vec();
    for kind in [4, 1, 2, 3] {
        let mut bytes = [&[kind, 0, 0, 0], &index[..]].concat();
        bytes.resize(65_507, 0xff);
        world.receive(1, endpoint(66), &bytes, bytes.len());
    }
    assert_eq!((world.dropped(1, Reason::UnknownSession), world.dropped(1, Reason::NotWireGuard)), (1, 3));
    world.carry();
    assert_eq!(world.delivered(20).len(), 1);
}

#[test]
fn reordered_datagrams_arrive_and_replayed_ones_are_counted() {
    let mut world = World::new();
    world.send(10, &call().syn().build());
    world.delivered(20);
    for _ in 0..1500 {
        world.read(1, 10, &complete(&call().build()));
    }
    let datagrams: Vec<Vec<u8>> = world.wire.drain(..).map(|datagrams| datagrams.batch).collect();
    assert_eq!(datagrams.len(), 1500);
    for datagram in datagrams.iter().skip(600).rev().chain(&datagrams) {
        world.receive(2, endpoint(1), datagram, datagram.len());
    }
    // The last 900 in reverse order, then all of them. The earlier ones are new, but most of them too late.
    let arrived = world.delivered(20).len() as u64;
    assert_eq!(arrived + world.dropped(2, Reason::Replayed), 2400);
    assert!((1000..1100).contains(&arrived), "boringtun's window is about 1024 wide: {arrived}");
    assert_eq!(world.drops(2), world.dropped(2, Reason::Replayed));
}
