//! Sends super-packets through two engines and does nothing else, so that instructions can be counted. Their number doesn't
//! depend on the load of the machine:
//!
//! ```text
//! export CARGO_PROFILE_BENCH_DEBUG=line-tables-only
//! cargo bench -p mesh-engine --features bench --bench turns --no-run
//! valgrind --tool=callgrind --dump-line=yes --collect-atstart=no --toggle-collect='*turns::send*' \
//!     target/release/deps/turns-* crowd 50
//! callgrind_annotate callgrind.out.*
//! ```
//!
//! Count in `send`, `receive` or `local`. The arguments are the size of the mesh, `pair` or `crowd`, and the number of
//! turns.

#[path = "../tests/lab/mod.rs"]
mod lab;

use lab::{Crowd, Wire, World, read};
use mesh_engine::Port;

/// As in `engine.rs`.
const SEGMENTS: usize = 45;
const SIZE: u16 = 1368;
const ACK: u8 = 0x10;
const CROWD: Crowd = Crowd { runners: 1000, callers: 10 };

#[inline(never)]
fn send(world: &mut World, packet: &mut [u8]) {
    world.engines[0].handle_tun(Port(1), packet, world.now, &mut world.wires[0]);
    world.engines[0].flush(&mut world.wires[0]);
}

#[inline(never)]
fn receive(world: &mut World) {
    world.carry(0);
}

#[inline(never)]
fn local(world: &mut World, packet: &mut [u8], wire: &mut Wire) {
    world.engines[0].handle_tun(Port(1), packet, world.now, wire);
    world.engines[0].flush(wire);
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let crowd = match arguments.next().as_deref() {
        Some("crowd") => CROWD,
        _ => Crowd::default(),
    };
    let turns: u64 = arguments.next().and_then(|turns| turns.parse().ok()).unwrap_or(10);
    let (mut syn, whole) = (read(0x02, 6, 0, 0), read(ACK, 6, SEGMENTS * usize::from(SIZE), SIZE));
    let mut buffer = whole.clone();

    let mut far = World::new(crowd);
    far.turn(&mut syn.clone());
    let (mut near, mut wire) = (World::local(crowd), Wire::new());
    local(&mut near, &mut syn, &mut wire);
    for _ in 0..turns {
        buffer.copy_from_slice(&whole);
        send(&mut far, &mut buffer);
        receive(&mut far);
        buffer.copy_from_slice(&whole);
        local(&mut near, &mut buffer, &mut wire);
    }
    assert_eq!((far.wires[1].packets, wire.packets), (1 + turns, 1 + turns), "each arrives as one");
    println!("{turns} turns, {} bytes across, {} within", far.wires[1].delivered, wire.delivered);
}
