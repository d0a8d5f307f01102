use super::*;
use crate::{Event, Switches, tunnel::OVERHEAD};
use mesh_proto::RunnerId;

#[test]
fn the_first_syn_makes_the_tunnel_and_arrives_once() {
    let mut world = World::new();
    let syn = call().syn().build();
    world.send(10, &syn);
    assert_eq!(world.delivered(20), std::slice::from_ref(&syn));
    assert_eq!(world.sinks[0].events, [Event::Endpoint { runner: RunnerId(2), endpoint: endpoint(2) }]);
    assert_eq!(world.sinks[1].events, [Event::Endpoint { runner: RunnerId(1), endpoint: endpoint(1) }]);
    let answer = reply().flags(SYN_ACK).build();
    world.read(2, 20, &complete(&answer));
    world.carry();
    assert_eq!(world.delivered(10), [answer]);
    assert!(world.is_quiet());
    assert_eq!((world.drops(1), world.drops(2)), (0, 0));
}

#[test]
fn super_packets_cross_as_they_were_but_for_the_identification() {
    let mut world = World::new();
    world.send(10, &call().syn().build());
    world.delivered(20);
    let payload: Vec<u8> = (0..60_000u32).map(|i| ((i * i) >> 3) as u8).collect();
    for options in [&[][..], &[1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]] {
        for (size, flags) in [(1292, Flags::ACK), (1280, Flags::ACK | Flags::PSH), (1001, Flags::ACK | Flags::FIN)] {
            let read = call().options(options).flags(flags).payload(&payload).read(size);
            world.read(1, 10, &read);
            let strides: Vec<usize> = world.wire.iter().map(|d| d.stride).collect();
            assert!(strides.iter().all(|stride| *stride == (40 + options.len() + size).next_multiple_of(16) + 32));
            world.carry();
            let delivered: Vec<_> = world.sinks[1].delivered.drain(..).collect();
            assert_eq!(delivered, [(Port(20), read)]);
        }
    }
    assert_eq!((world.drops(1), world.drops(2)), (0, 0));
}

#[test]
fn a_checksum_left_to_the_hardware_is_completed() {
    let mut world = World::new();
    let syn = call().syn();
    world.read(1, 10, &syn.read(9000));
    world.carry();
    assert_eq!(world.delivered(20), [syn.build()], "after it has waited");
    let data = call().payload(b"hello");
    world.read(1, 10, &data.read(9000));
    world.carry();
    assert_eq!(world.delivered(20), [data.build()]);
}

#[test]
fn a_checksum_that_is_wrong_does_not_become_right_on_the_way() {
    let mut world = World::new();
    world.send(10, &call().syn().build());
    world.delivered(20);
    let data = call().payload(b"hello").build();
    let mut damaged = data.clone();
    damaged[44] ^= 0x10;
    world.send(10, &damaged);
    assert_eq!((world.dropped(1, Reason::BadChecksum), world.drops(1)), (1, 1));
    assert!(world.is_quiet());
    // The kernel may have verified it (VIRTIO_NET_HDR_F_DATA_VALID).
    for (flags, packet) in [(0, &data), (2, &data), (2, &damaged)] {
        let mut bytes = complete(packet);
        bytes[0] = flags;
        world.read(1, 10, &bytes);
        world.carry();
        assert_eq!(world.delivered(20), std::slice::from_ref(packet));
    }
    assert_eq!(world.drops(1), 1);
}

#[test]
fn within_a_runner_packets_go_as_they_came() {
    let mut world = World::new();
    let to_service = tcp().between(address(10), address(3));
    let back = tcp().between(address(3), address(10));
    for (from, to, segment) in
        [(10, 30, to_service.clone().syn()), (30, 10, back), (10, 30, to_service.payload(&[7; 5000]))]
    {
        let read = segment.read(1292);
        world.read(1, from, &read);
        assert_eq!(world.sinks[0].delivered.drain(..).collect::<Vec<_>>(), [(Port(to), read)]);
    }
    assert!(world.is_quiet(), "nothing left the machine");
}

#[test]
fn an_instance_that_calls_its_own_service_reaches_itself() {
    let mut world = World::new();
    let syn = tcp().between(address(10), address(1)).syn();
    world.read(1, 10, &syn.read(9000));
    assert_eq!(world.sinks[0].delivered.drain(..).collect::<Vec<_>>(), [(Port(10), syn.read(9000))]);
}

#[test]
fn instances_can_be_dialled_by_their_own_addresses() {
    let mut world = World::new();
    let syn = tcp().between(address(10), address(20)).syn().build();
    world.send(10, &syn);
    assert_eq!(world.delivered(20), [syn]);
    let answer = tcp().between(address(20), address(10)).ports(5432, 40000).flags(SYN_ACK).build();
    world.read(2, 20, &complete(&answer));
    world.carry();
    assert_eq!(world.delivered(10), [answer]);
}

#[test]
fn offloads_can_be_switched_off() {
    let mut world = World::new();
    world.send(10, &call().syn().build());
    world.delivered(20);
    let off = Switches { tun_gso: false, udp_gso: false, udp_gro: false };
    world.engine(1).handle_switches(off);
    world.engine(2).handle_switches(off);
    let payload = [7; 5000];
    world.read(1, 10, &call().payload(&payload).read(1000));
    assert_eq!(world.wire.len(), 5, "datagrams by themselves");
    assert!(world.wire.iter().all(|d| d.batch.len() == d.stride));
    world.carry();
    assert_eq!(world.delivered(20).len(), 5, "segments by themselves");
    world.read(1, 10, &tcp().between(address(10), address(3)).payload(&payload).read(1000));
    assert_eq!(world.delivered(30).len(), 5, "within the runner too");
}

#[test]
fn acknowledgments_share_a_send() {
    let mut world = World::new();
    world.send(10, &call().syn().build());
    world.with(1, |engine, sink, now| {
        for sequence in 0..10 {
            engine.handle_tun(Port(10), &mut complete(&call().sequence(sequence).build()), now, sink);
        }
    });
    assert_eq!(world.wire.len(), 1);
    assert_eq!(world.wire[0].batch.len(), 10 * world.wire[0].stride);
}

#[test]
fn a_packet_that_no_datagram_can_carry_is_dropped() {
    let mut world = World::new();
    world.send(10, &call().syn().build());
    world.delivered(20);
    world.read(1, 10, &complete(&call().payload(&vec![0; crate::MAX_BATCH - OVERHEAD - 40]).build()));
    world.carry();
    assert_eq!(world.dropped(1, Reason::TooLarge), 0, "the longest possible packet");
    world.delivered(20);
    world.read(1, 10, &complete(&call().payload(&vec![0; crate::MAX_BATCH - OVERHEAD - 39]).build()));
    assert_eq!(world.dropped(1, Reason::TooLarge), 1);
    assert!(world.is_quiet());
}

#[test]
fn the_report_names_peers_and_every_reason() {
    let mut world = World::new();
    let now = world.now;
    let before = world.engine(1).report(now);
    assert_eq!((before.peers.len(), before.peers[0].endpoint, before.peers[0].handshake_age), (1, None, None));
    assert_eq!(before.drops.len(), Reason::ALL.len());
    let syn = call().syn().build();
    world.send(10, &syn);
    let (ours, theirs) = (world.engine(1).report(now), world.engine(2).report(now));
    assert_eq!(ours.peers[0].endpoint, Some(endpoint(2)));
    assert!(ours.peers[0].handshake_age.is_some() && theirs.peers[0].handshake_age.is_some());
    assert_eq!((ours.peers[0].tx_bytes, theirs.peers[0].rx_bytes), (syn.len() as u64, syn.len() as u64));
}
