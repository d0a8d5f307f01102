//! Once a tunnel stands, packets cross without any allocation.

mod heap;
mod lab;

use mesh_engine::{Port, Reason, Switches, TUN_BUFFER};

use crate::lab::{Crowd, Wire, World, back, from_port, read};

/// How many there are meanwhile.
fn allocations(act: impl FnOnce()) -> u64 {
    let before = heap::allocations();
    act();
    heap::allocations() - before
}

const SYN: u8 = 0x02;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// Sends `bytes` from the instance of an end. They are not changed.
fn send(world: &mut World, end: usize, bytes: &[u8], buffer: &mut [u8]) {
    let buffer = &mut buffer[..bytes.len()];
    buffer.copy_from_slice(bytes);
    world.turn_of(end, buffer);
}

#[test]
fn packets_cross_without_allocation() {
    let (mut world, mut buffer) = (World::new(Crowd::default()), vec![0; TUN_BUFFER]);
    world.turn(&mut read(SYN, 6, 0, 0));
    assert_eq!((world.wires[1].packets, world.wires[1].delivered), (1, 40), "the tunnel stands");

    let (bulk, small) = (read(ACK, 6, 60_000, 1292), read(ACK | PSH, 6, 3, 1292));
    let kinds = [(0, bulk.clone()), (1, back(bulk)), (0, small.clone()), (1, back(small)), (0, read(0, 17, 20, 1292))];
    let mut all = |world: &mut World, times: u64| {
        for (end, bytes) in (0..times).flat_map(|_| &kinds) {
            send(world, *end, bytes, &mut buffer);
        }
    };
    // The first packet of each kind may allocate room for the others.
    all(&mut world, 1);
    let before = [0, 1].map(|end| (world.wires[end].packets, world.wires[end].delivered));
    assert_eq!(allocations(|| all(&mut world, 50)), 0);
    for (wire, (packets, delivered)) in world.wires.iter().zip(before) {
        assert!(wire.packets - packets >= 100 && wire.delivered - delivered >= 50 * (60_040 + 43));
    }
    assert_eq!(world.wires[1].packets - before[1].0, 100, "joined");
    assert_eq!(world.engines[0].dropped(Reason::NotTcp), 51);

    // Without batches.
    for engine in &mut world.engines {
        engine.handle_switches(Switches { tun_gso: false, udp_gso: false, ..Switches::default() });
    }
    world.wires[0].sends.reserve(1000);
    world.wires[1].sends.reserve(1000);
    let before = world.wires[1].packets;
    assert_eq!(allocations(|| all(&mut world, 5)), 0);
    assert_eq!(world.wires[1].packets - before, 5 * (60_000u64.div_ceil(1292) + 1));
}

#[test]
fn packets_of_a_thousand_connections_cross_without_allocation() {
    const CONNECTIONS: u16 = 1000;
    let (mut world, mut buffer) = (World::new(Crowd { runners: 100, callers: 10 }), vec![0; TUN_BUFFER]);
    let ports = 10_000..10_000 + CONNECTIONS;
    for port in ports.clone() {
        send(&mut world, 0, &from_port(port, read(SYN, 6, 0, 0)), &mut buffer);
        send(&mut world, 1, &back(from_port(port, read(SYN | ACK, 6, 0, 0))), &mut buffer);
        send(&mut world, 0, &from_port(port, read(ACK, 6, 0, 0)), &mut buffer);
    }
    let packets = [0, 1].map(|end| world.wires[end].packets);
    assert_eq!(packets, [u64::from(CONNECTIONS), 2 * u64::from(CONNECTIONS)]);

    let there: Vec<_> = ports.clone().map(|port| from_port(port, read(ACK | PSH, 6, 5000, 1292))).collect();
    let back: Vec<_> = ports.map(|port| back(from_port(port, read(ACK | PSH, 6, 700, 1292)))).collect();
    let mut all = |world: &mut World, connections: usize| {
        for (there, back) in there.iter().zip(&back).take(connections) {
            send(world, 0, there, &mut buffer);
            send(world, 1, back, &mut buffer);
        }
    };
    // The tunnel may allocate room for its first padded packet.
    all(&mut world, 1);
    let packets = packets.map(|count| count + 1);
    assert_eq!(allocations(|| all(&mut world, there.len())), 0);
    let more = [0, 1].map(|end| world.wires[end].packets - packets[end]);
    assert_eq!(more, [u64::from(CONNECTIONS); 2], "each arrives as one");
}

#[test]
fn packets_within_a_runner_pass_without_allocation() {
    let (mut world, mut wire) = (World::local(Crowd::default()), Wire::new());
    let mut buffer = vec![0; TUN_BUFFER];
    let mut pass = |port: u32, bytes: &[u8]| {
        let buffer = &mut buffer[..bytes.len()];
        buffer.copy_from_slice(bytes);
        world.engines[0].handle_tun(Port(port), buffer, world.now, &mut wire);
        world.engines[0].flush(&mut wire);
    };
    let bulk = read(ACK, 6, 60_000, 1292);
    let bulk_back = back(bulk.clone());
    pass(1, &read(SYN, 6, 0, 0));
    pass(2, &back(read(SYN | ACK, 6, 0, 0)));
    let passing = allocations(|| {
        for _ in 0..50 {
            pass(1, &bulk);
            pass(2, &bulk_back);
        }
    });
    assert_eq!(passing, 0);
    assert_eq!((wire.packets, wire.delivered), (102, 100 * 60_040 + 80));
}
