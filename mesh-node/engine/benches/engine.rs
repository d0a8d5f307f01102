//! The time of each part of the path for a super-packet of 45 segments: `cargo bench -p mesh-engine --features bench`.
//!
//! `scripts/bench` measures the whole path, with system calls and the kernel's TCP.

#![allow(missing_docs, reason = "criterion's macros make public functions")]

#[path = "../tests/lab/mod.rs"]
mod lab;

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use lab::{Crowd, Wire, World, map, read};
use mesh_engine::{
    Port, VNET,
    bench::{Coalescing, verdict},
    split,
};

/// Segments in a super-packet, and the bytes of payload in each: MTU 1408 with 20 bytes of IPv4 and 20 of TCP.
const SEGMENTS: usize = 45;
const SIZE: u16 = 1368;

/// A mesh in which nearly nothing is related to the connection.
const CROWD: Crowd = Crowd { runners: 1000, callers: 10 };

const ACK: u8 = 0x10;

fn super_packet() -> Vec<u8> {
    read(ACK, 6, SEGMENTS * usize::from(SIZE), SIZE)
}

fn segments() -> Vec<Vec<u8>> {
    let (mut packet, mut segments) = (super_packet(), vec![]);
    split(&mut packet, |segment| segments.push(segment[VNET..].to_vec()));
    segments
}

fn segment(c: &mut Criterion) {
    let packet = super_packet();
    let mut group = c.benchmark_group("segment");
    group.throughput(Throughput::Elements(SEGMENTS as u64));
    group.bench_function("45 segments", |b| {
        let copy = || packet.clone();
        b.iter_batched_ref(
            copy,
            |packet| {
                split(packet, |segment| {
                    black_box(segment.len());
                })
            },
            BatchSize::SmallInput,
        );
    });
}

fn coalesce(c: &mut Criterion) {
    let (segments, mut wire, mut coalescing) = (segments(), Wire::new(), Coalescing::new());
    let mut group = c.benchmark_group("coalesce");
    group.throughput(Throughput::Elements(SEGMENTS as u64));
    group.bench_function("45 segments, with a copy of each", |b| {
        b.iter(|| {
            assert!(segments.iter().all(|segment| coalescing.take(0, segment, &mut wire)));
            coalescing.flush(&mut wire);
        });
    });
    assert_eq!(wire.packets * SEGMENTS as u64 * u64::from(SIZE), wire.delivered - wire.packets * 40);
}

fn decide(c: &mut Criterion) {
    let packet = super_packet();
    let address = |at: usize| <[u8; 4]>::try_from(&packet[VNET + at..VNET + at + 4]).expect("four bytes").into();
    let (from, to) = ((address(12), 1), (address(16), 80));
    for (name, crowd) in [("among 2 runners", Crowd::default()), ("among 1000 runners and 10000 rules", CROWD)] {
        let map = map(1, crowd);
        assert!(verdict(&map, from, to, false));
        c.bench_function(&format!("verdict/{name}"), |b| {
            b.iter(|| verdict(black_box(&map), black_box(from), black_box(to), false));
        });
    }
}

/// The engine's own work for a super-packet that stays on its runner: parsing, routing, verdict, flow table.
fn local(c: &mut Criterion) {
    for (name, crowd) in [("among 2 runners", Crowd::default()), ("among 1000 runners and 10000 rules", CROWD)] {
        let (mut world, mut packet) = (World::local(crowd), super_packet());
        let mut wire = Wire::new();
        world.engines[0].handle_tun(Port(1), &mut read(0x02, 6, 0, 0), world.now, &mut wire);
        assert_eq!(wire.packets, 1, "a SYN");
        c.bench_function(&format!("local/{name}"), |b| {
            b.iter(|| world.engines[0].handle_tun(Port(1), &mut packet, world.now, &mut wire));
        });
        assert!(wire.packets > 1 && world.engines[0].dropped(mesh_engine::Reason::NoTrust) == 0);
    }
}

fn tunnel(c: &mut Criterion) {
    let packet = super_packet();
    for (name, crowd) in [("among 2 runners", Crowd::default()), ("among 1000 runners and 10000 rules", CROWD)] {
        let mut group = c.benchmark_group("tunnel");
        group.throughput(Throughput::Elements(SEGMENTS as u64));
        let mut world = World::new(crowd);
        world.turn(&mut read(0x02, 6, 0, 0));
        assert_eq!(world.wires[1].packets, 1, "a SYN");
        group.bench_function(format!("send, {name}"), |b| {
            let copy = || packet.clone();
            let send = |packet: &mut Vec<u8>| {
                world.wires[0].clear();
                world.engines[0].handle_tun(Port(1), packet, world.now, &mut world.wires[0]);
                world.engines[0].flush(&mut world.wires[0]);
            };
            b.iter_batched_ref(copy, send, BatchSize::SmallInput);
        });
        let mut world = World::new(crowd);
        world.turn(&mut read(0x02, 6, 0, 0));
        group.bench_function(format!("send and receive, {name}"), |b| {
            let copy = || packet.clone();
            let both = |packet: &mut Vec<u8>| {
                world.engines[0].handle_tun(Port(1), packet, world.now, &mut world.wires[0]);
                world.engines[0].flush(&mut world.wires[0]);
                world.carry(0);
            };
            b.iter_batched_ref(copy, both, BatchSize::SmallInput);
        });
        assert!(world.wires[1].packets > 1);
    }
}

criterion_group!(benches, segment, coalesce, decide, local, tunnel);
criterion_main!(benches);
