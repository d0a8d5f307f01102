use super::*;
use crate::{HEADROOM, testing::ipv4};
use proptest::prelude::*;

/// A world in which runner 1 has a map that allows everything.
fn lawless() -> World {
    let everything =
        Builder::new(1).runner(1).runner(2).deployment(1, "acme").service(1, 1).service(2, 1).service(3, 1);
    let everything = everything.service(4, 1).service(999, 1).instance(10, 1, 1).instance(20, 2, 2).instance(40, 4, 2);
    let mut world = World::of(&[everything, view(2)]);
    world.attach(1, 10);
    world.attach(2, 20);
    world.attach(2, 40);
    world.send(10, &call().syn().build());
    assert_eq!(world.delivered(20).len(), 1);
    world
}

/// Sends a packet by runner 1's tunnel, past the checks of its engine.
fn smuggle(world: &mut World, packet: &[u8]) {
    world.with(1, |engine, sink, now| {
        let mut drops = crate::drop::Drops::new();
        let mut cx = crate::cx::Cx { now, sink, drops: &mut drops };
        engine.core.peers.answer(crate::index::RunnerIx(0), &mut packet.to_vec(), &mut cx).expect("a session");
    });
    world.carry();
}

#[test]
fn a_runner_sends_only_for_its_own_instances() {
    let mut world = lawless();
    for (from, reason) in [
        (address(40), Reason::ForeignSource),
        (address(4), Reason::ForeignSource),
        (address(777), Reason::UnknownSource),
        ([8, 8, 8, 8].into(), Reason::UnknownSource),
    ] {
        let before = world.dropped(2, reason);
        smuggle(&mut world, &tcp().between(from, address(2)).syn().build());
        smuggle(&mut world, &tcp().between(from, address(2)).build());
        assert_eq!(world.dropped(2, reason), before + 2, "{from}");
        assert!(world.is_quiet(), "in silence");
    }
    smuggle(&mut world, &tcp().between(address(1), address(2)).syn().build());
    assert_eq!(world.dropped(2, Reason::OpensFromService), 1);
    assert!(world.is_quiet());
}

#[test]
fn a_runner_gets_nothing_forwarded() {
    let mut world = lawless();
    for to in [address(3), address(30), address(999), [8, 8, 8, 8].into()] {
        smuggle(&mut world, &tcp().between(address(10), to).syn().build());
    }
    assert!(world.is_quiet());
    assert_eq!(world.dropped(2, Reason::NotLocal), 4);
}

#[test]
fn what_is_not_tcp_is_not_taken_from_runners_either() {
    let mut world = lawless();
    let mut fragment = ipv4(address(10), address(20), 6, &[], &[0; 20]);
    fragment[6] = 0x20;
    for (packet, reason) in [
        (ipv4(address(10), address(20), 17, &[], &[0; 8]), Reason::NotTcp),
        (ipv4(address(10), address(20), 1, &[], &[3, 13, 0, 0]), Reason::NotTcp),
        (ipv4(address(10), address(20), 6, &[1; 4], &[0; 20]), Reason::IpOptions),
        (ipv4(address(10), address(20), 6, &[], &[0; 8]), Reason::Malformed),
        (fragment, Reason::Fragment),
        ([&[0x60, 0, 0, 0, 0, 0][..], &[0; 34]].concat(), Reason::NotIpv4),
        (vec![1; 9], Reason::Malformed),
        // Without length, like a keepalive.
        ([&[0x45, 0, 0, 0][..], &[0; 36]].concat(), Reason::Malformed),
    ] {
        smuggle(&mut world, &packet);
        assert_eq!(world.dropped(2, reason), world.drops(2), "{reason}");
        assert!(world.is_quiet());
        world.engines[1].drops = crate::drop::Drops::new();
    }
}

#[test]
fn what_is_not_allowed_is_refused_by_the_callee_within_a_limit() {
    let mut world = lawless();
    for port in 0..1500 {
        smuggle(&mut world, &tcp().between(address(10), address(4)).source_port(port).syn().build());
    }
    assert_eq!(world.dropped(2, Reason::NoTrust), 1500);
    assert_eq!(world.dropped(2, Reason::RefusalLimited), 500);
    assert!(world.delivered(40).is_empty());
}

#[test]
fn datagrams_of_any_length_to_a_live_session_are_counted() {
    let mut world = World::new();
    world.read(1, 10, &complete(&call().syn().build()));
    world.carry();
    world.read(1, 10, &complete(&call().build()));
    let genuine = world.wire.pop_front().expect("data");
    let before = world.drops(2);
    let lengths = [0, 1, 8, 31, 32, 33, 1000, 65535, 65536, 200_000];
    for len in lengths {
        let mut forged = genuine.batch[..8].to_vec();
        forged.resize(len.max(8), 0xff);
        forged.truncate(len);
        world.receive(2, genuine.from, &forged, len.max(1));
    }
    assert_eq!(world.drops(2), before + lengths.len() as u64 - 1, "an empty datagram isn't counted");
    world.delivered(20);
    world.receive(2, genuine.from, &genuine.batch, genuine.stride);
    assert_eq!(world.delivered(20).len(), 1, "the genuine datagram still arrives");
    world.receive(2, genuine.from, &genuine.batch, 0);
    assert!(world.delivered(20).is_empty());
}

#[test]
fn strangers_are_not_answered() {
    let mut world = World::of(&[view(1), view(2), view(3)]);
    world.attach(2, 20);
    // No map has runner 3's key.
    world.with(3, |engine, _, _| engine.handle_attach(Port(10), InstanceId(10)));
    let mut theirs = view(3);
    theirs = theirs.instance(10, 1, 3);
    world.map(3, &theirs);
    world.read(3, 10, &complete(&call().syn().build()));
    assert_eq!(world.wire.len(), 1);
    world.carry();
    assert_eq!(world.dropped(2, Reason::UnknownRunner), 1);
    assert!(world.is_quiet());
}

/// Bytes that resemble real packets.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let noise = prop::collection::vec(any::<u8>(), 0..300);
    let real = prop::sample::select(vec![
        call().syn().read(9000),
        call().payload(&[7; 900]).read(100),
        tcp().between(address(10), address(3)).payload(&[7; 900]).read(100),
        tcp().between(address(10), address(4)).syn().read(9000),
        complete(&ipv4(address(10), address(2), 17, &[], &[0; 30])),
        complete(&ipv4(address(10), address(2), 1, &[1, 1, 1, 1], &[8; 30])),
    ]);
    let changed = (real, prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), 0usize..2000)
        .prop_map(|(mut bytes, changes, len)| {
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            bytes.truncate(len);
            bytes
        });
    prop_oneof![noise, changed]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 300 } else { 3000 }))]

    #[test]
    fn nothing_that_an_instance_sends_panics(reads in prop::collection::vec(bytes(), 1..40)) {
        let mut world = World::new();
        for read in &reads {
            world.read(1, 10, read);
        }
        world.wait(Duration::from_millis(500));
        let out: u64 = world.sinks.iter().map(|sink| sink.delivered.len() as u64).sum();
        prop_assert!(world.drops(1) + out > 0 || reads.iter().all(Vec::is_empty), "nothing vanishes");
    }

    #[test]
    fn nothing_that_a_runner_sends_panics(packets in prop::collection::vec(bytes(), 1..40)) {
        let mut world = lawless();
        for packet in &packets {
            if packet.len() > VNET {
                smuggle(&mut world, &packet[VNET..]);
            }
        }
        world.wait(Duration::from_millis(500));
    }

    #[test]
    fn nothing_from_the_wire_panics(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), 0usize..400, 1usize..200), 1..60),
        noise in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..10),
    ) {
        let mut world = World::new();
        world.read(1, 10, &call().payload(&[7; 900]).read(100));
        // An initiation, a response, a keepalive and data.
        let mut seen = vec![];
        while let Some(datagrams) = world.wire.pop_front() {
            seen.push(datagrams.batch.clone());
            let to = if datagrams.to == endpoint(1).into() { 1 } else { 2 };
            world.receive(to, datagrams.from, &datagrams.batch, datagrams.stride);
        }
        for (which, at, value, len, stride) in changes {
            let mut bytes = which.get(&seen).clone();
            let at = at.index(bytes.len());
            bytes[at] = value;
            bytes.truncate(len);
            for runner in [1, 2] {
                world.receive(runner, endpoint(9), &bytes, stride);
            }
        }
        for bytes in noise {
            world.receive(1, endpoint(9), &bytes, 100);
        }
        world.carry();
    }
}

#[test]
fn an_instance_that_writes_to_its_interface_by_itself_gets_no_more_sent_than_tcp_could() {
    let mut world = lawless();
    let much = call().payload(&[7; 60_000]);
    let malformed = |world: &mut World| world.engine(1).dropped(Reason::Malformed);
    let before = malformed(&mut world);
    for size in [1, 7] {
        world.read(1, 10, &much.read(size));
        world.carry();
        assert!(world.delivered(20).is_empty(), "{size}");
    }
    assert_eq!(malformed(&mut world) - before, 2);
    // No more segments than Linux makes at its least MSS.
    world.read(1, 10, &much.read(43));
    assert_eq!(world.dropped(1, Reason::TinySegments), 1);
    for (size, payload) in [(44, 60_000), (8, 10_000)] {
        world.read(1, 10, &call().payload(&vec![7; payload]).read(size));
    }
    assert_eq!((world.dropped(1, Reason::TinySegments), malformed(&mut world) - before), (1, 2));
}

#[test]
fn what_an_instance_sends_costs_by_its_segments() {
    let mut world = lawless();
    let mut cost = |packet: Vec<u8>| {
        world.with(1, |engine, sink, now| engine.handle_tun(Port(10), &mut packet.clone(), now, sink))
    };
    assert_eq!(cost(call().payload(&[7; 60_000]).read(1292)), 47);
    assert_eq!(cost(call().payload(&[7; 60_000]).read(48)), 1250);
    assert_eq!(cost(call().payload(&[7; 9]).read(1292)), 1);
    assert_eq!(cost(call().payload(&[7; 60_000]).read(8)), 1, "a dropped packet costs one");
}

#[test]
fn a_relays_header_is_skipped_and_so_is_what_has_nothing_behind_it() {
    let mut world = World::new();
    world.read(1, 10, &complete(&call().syn().build()));
    let initiation = world.wire.pop_front().expect("a handshake").batch;
    let from = Hop::Relayed { relay: mesh_proto::RelayId(1), peer: ([203, 0, 113, 1], 50_000).into() };
    let headed = [&[0x40, 0, 0, 148][..], &initiation].concat();
    for (bytes, skip) in [(&headed[..3], 4), (&headed[..4], 4), (&headed[..], 4)] {
        let received = crate::Datagrams { from, local: None, bytes, stride: bytes.len(), skip };
        world.with(2, |engine, sink, now| engine.handle_udp(&received, now, sink));
    }
    assert_eq!(world.dropped(2, Reason::NotWireGuard), 2);
    assert_eq!(world.wire.len(), 1);
    assert_eq!((world.wire[0].to, world.wire[0].stride), (from, HEADROOM + 92), "the answer goes by the relay");
}
