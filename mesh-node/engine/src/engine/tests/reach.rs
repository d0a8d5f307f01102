//! How far paths reach, by pings.

use super::*;
use crate::{Switches, tunnel::OVERHEAD};

/// The MTU of the mesh in these tests.
const MTU: usize = 1344;

/// Both engines can answer pings, and the SYN has crossed.
fn connected(longest: usize) -> World {
    let mut world = World::of(&[view(1).able(), view(2).able()]);
    for (runner, instance) in [(1, 10), (1, 30), (2, 20), (2, 40)] {
        world.attach(runner, instance);
    }
    world.longest = longest;
    world.send(10, &call().syn().build());
    world.read(2, 20, &complete(&reply().flags(SYN_ACK).build()));
    world.carry();
    world.wait(Duration::from_secs(2));
    world.delivered(20);
    world.delivered(10);
    world
}

/// A datagram as long as a packet of `len` bytes makes it.
fn datagram(len: usize) -> usize {
    len + OVERHEAD
}

/// What a super-packet of the caller from `sequence` on puts on the wire: the longest datagram.
fn longest_of(world: &mut World, sequence: u32, payload: &[u8]) -> usize {
    world.read(1, 10, &call().sequence(sequence).payload(payload).read(1304));
    world.wire.iter().map(|d| d.stride).max().expect("datagrams")
}

/// The bytes that were delivered to the callee.
fn bytes_delivered(world: &mut World) -> Vec<u8> {
    let delivered = world.sinks[1].delivered.drain(..);
    delivered.flat_map(|(_, bytes)| bytes[VNET + 40..].to_vec()).collect()
}

#[test]
fn a_path_that_carries_the_mtu_is_used_to_the_full_and_carries_no_pings_any_more() {
    let mut world = connected(usize::MAX);
    let payload: Vec<u8> = (0..60_000u32).map(|i| ((i * i) >> 7) as u8).collect();
    assert_eq!(longest_of(&mut world, 1000, &payload), datagram(MTU));
    world.carry();
    assert!(bytes_delivered(&mut world) == payload);
    world.wait(Duration::from_secs(5));
    for second in 0..30u32 {
        world.read(1, 10, &call().sequence(100_000 + second).payload(b"x").build_read());
        world.read(2, 20, &reply().sequence(second).payload(b"x").build_read());
        assert_eq!(world.wire.len(), 2, "nothing but data");
        world.carry();
        world.wait(Duration::from_secs(1));
    }
    assert_eq!((world.drops(1), world.drops(2)), (0, 0), "pings are no drops");
}

#[test]
fn a_path_with_a_smaller_mtu_gets_what_it_carries_from_the_first_segment_on() {
    for (most, cut) in [(1340, 1312), (1220, 1184), (1064, 1024), (600, 576)] {
        let mut world = connected(datagram(most));
        let payload: Vec<u8> = (0..60_000u32).map(|i| ((i * i) >> 7) as u8).collect();
        assert_eq!(longest_of(&mut world, 1000, &payload), datagram(cut));
        world.carry();
        assert!(bytes_delivered(&mut world) == payload, "{most}");
        // A single segment.
        world.read(1, 10, &call().sequence(61_000).payload(&payload[..1304]).build_read());
        world.carry();
        assert!(bytes_delivered(&mut world) == payload[..1304], "{most}");
        world.engine(1).handle_switches(Switches { udp_gso: false, tun_gso: false, ..Switches::default() });
        assert_eq!(longest_of(&mut world, 70_000, &payload), datagram(cut));
    }
}

#[test]
fn a_path_that_shrinks_under_a_standing_connection_carries_what_is_sent_again() {
    let mut world = connected(usize::MAX);
    let payload = vec![7; 1304];
    assert_eq!(longest_of(&mut world, 1000, &payload), datagram(MTU));
    world.carry();
    bytes_delivered(&mut world);
    world.longest = datagram(1220);
    assert_eq!(longest_of(&mut world, 2304, &payload), datagram(MTU));
    world.carry();
    // TCP sends again after 0.2 s, 0.6 s; the second one crosses.
    world.wait(Duration::from_millis(200));
    longest_of(&mut world, 2304, &payload);
    world.carry();
    assert!(bytes_delivered(&mut world).is_empty());
    world.wait(Duration::from_millis(400));
    assert_eq!(longest_of(&mut world, 2304, &payload), datagram(1184));
    world.carry();
    assert!(bytes_delivered(&mut world) == payload);
    // Also while the other direction goes on.
    world.longest = usize::MAX;
    for second in 0..62 {
        longest_of(&mut world, 10_000 + second, b"x");
        world.carry();
        world.wait(Duration::from_secs(1));
    }
    bytes_delivered(&mut world);
    assert_eq!(longest_of(&mut world, 20_000, &payload), datagram(MTU), "longer ones are tried again");
}

#[test]
fn a_path_that_shrinks_is_noticed_while_other_packets_arrive() {
    let mut world = connected(usize::MAX);
    let payload = vec![7; 1304];
    longest_of(&mut world, 1000, &payload);
    world.carry();
    world.longest = datagram(1100);
    let mut crossed = None;
    for tenth in 0..14u32 {
        if [2, 6].contains(&tenth) {
            bytes_delivered(&mut world);
            longest_of(&mut world, 2304, &payload);
            world.carry();
            crossed = (bytes_delivered(&mut world) == payload).then_some(tenth).or(crossed);
        } else if tenth == 0 {
            longest_of(&mut world, 2304, &payload);
            world.carry();
        }
        // The callee has something to say all the time.
        world.read(2, 20, &reply().sequence(tenth).payload(b"x").build_read());
        world.carry();
        world.wait(Duration::from_millis(100));
    }
    assert_eq!(crossed, Some(6));
}

#[test]
fn what_tcp_never_splits_is_sent_as_it_is() {
    let mut world = connected(datagram(1220));
    for flags in [Flags::SYN, Flags::ACK | Flags::URG] {
        world.read(1, 10, &call().source_port(7).flags(flags).payload(&[1; 1300]).build_read());
        let lengths: Vec<usize> = world.wire.drain(..).map(|d| d.stride).collect();
        assert!(lengths.iter().all(|len| *len >= datagram(1340)), "{flags}: {lengths:?}");
    }
}

#[test]
fn syns_both_ways_name_a_size_that_the_path_carries() {
    const SIZE: [u8; 4] = [2, 4, 0x05, 0x18];
    let lowered = |cut: u16| [&[2, 4][..], &(cut - 40).to_be_bytes()].concat();
    for (most, options) in [(MTU, SIZE.to_vec()), (1220, lowered(1184))] {
        let mut world = connected(datagram(most));
        let (syn, answer) = (call().source_port(50_000).options(&SIZE).syn(), reply().ports(5432, 50_000));
        world.send(10, &syn.build());
        assert_eq!(world.delivered(20), [call().source_port(50_000).options(&options).syn().build()]);
        world.read(2, 20, &complete(&answer.clone().options(&SIZE).flags(SYN_ACK).build()));
        world.carry();
        assert_eq!(world.delivered(10), [answer.options(&options).flags(SYN_ACK).build()]);
    }
    // Before anything is known, nothing is lowered: it would last as long as the connection.
    let mut world = World::of(&[view(1).able(), view(2).able()]);
    world.attach(1, 10);
    world.attach(2, 20);
    world.longest = datagram(1220);
    let syn = call().options(&SIZE).syn().build();
    world.send(10, &syn);
    assert_eq!(world.delivered(20), [syn]);
}

#[test]
fn a_runner_that_cannot_answer_gets_no_pings_and_packets_as_before() {
    // Only the one that the other's view says can.
    for views in [[view(1).able(), view(2)], [view(1), view(2).able()]] {
        let mut world = World::of(&views);
        world.attach(1, 10);
        world.attach(2, 20);
        world.send(10, &call().syn().build());
        world.wait(Duration::from_secs(1));
        assert_eq!(longest_of(&mut world, 1000, &[7; 5000]), datagram(MTU));
        world.carry();
        // Sent again, as after a loss.
        longest_of(&mut world, 1000, &[7; 5000]);
        world.carry();
        assert_eq!((world.dropped(1, Reason::NotTcp), world.dropped(2, Reason::NotTcp)), (0, 0));
    }
}

#[test]
fn an_engine_that_pinged_falls_asleep() {
    let mut world = connected(datagram(1220));
    longest_of(&mut world, 1000, &[7; 5000]);
    world.carry();
    longest_of(&mut world, 1000, &[7; 5000]);
    world.carry();
    world.wait(Duration::from_secs(30));
    for _ in 0..10 {
        world.wait(Duration::from_secs(10));
        assert!(world.wire.is_empty());
    }
}

#[test]
fn a_new_address_is_another_path() {
    let mut world = connected(datagram(MTU));
    assert_eq!(longest_of(&mut world, 1000, &[7; 5000]), datagram(MTU));
    world.carry();
    // The callee moves, and is reached by a path that carries less.
    world.from[1] = ([203, 0, 113, 9], 9).into();
    world.longest = datagram(1220);
    world.read(2, 20, &reply().payload(b"x").build_read());
    world.carry();
    let longest = longest_of(&mut world, 10_000, &[7; 5000]);
    assert_eq!(longest, datagram(1184), "nothing longer before a ping has come back");
    world.carry();
    world.wait(Duration::from_secs(1));
    assert_eq!(longest_of(&mut world, 20_000, &[7; 5000]), datagram(1184));
}

#[test]
fn another_mtu_of_the_mesh_is_followed() {
    let mut world = connected(usize::MAX);
    for (mtu, runner) in [(8920, 1), (8920, 2)] {
        let mut view = view(runner).able();
        view.0.network.mtu = mtu;
        world.map(runner, &view);
    }
    world.carry();
    let payload = vec![7; 30_000];
    world.read(1, 10, &call().sequence(1000).payload(&payload).read(8880));
    world.carry();
    world.wait(Duration::from_secs(62));
    for second in 0..62 {
        longest_of(&mut world, 40_000 + second, b"x");
        world.carry();
        world.wait(Duration::from_secs(1));
    }
    world.read(1, 10, &call().sequence(50_000).payload(&payload).read(8880));
    assert_eq!(world.wire.iter().map(|d| d.stride).max(), Some(datagram(8920)));
    world.longest = datagram(1440);
    world.carry();
    world.wait(Duration::from_millis(300));
    let again = call().sequence(50_000).payload(&payload).read(8880);
    world.read(1, 10, &again);
    world.carry();
    world.wait(Duration::from_millis(400));
    bytes_delivered(&mut world);
    // The work is counted by what is sent.
    let (mut sink, now) = (Recorder::default(), world.now);
    let segments = world.engine(1).handle_tun(Port(10), &mut again.clone(), now, &mut sink);
    assert_eq!(segments, payload.len().div_ceil(1408 - 40));
    world.engine(1).flush(&mut sink);
    world.read(1, 10, &again);
    world.carry();
    assert!(bytes_delivered(&mut world) == payload);
}
