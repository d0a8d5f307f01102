//! Once a tunnel stands, packets cross without a single allocation.
#![allow(unsafe_code, reason = "a global allocator can't be written without")]

mod lab;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use mesh_engine::Reason;

use crate::lab::{Crowd, World, read};

/// Counts the allocations of the thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending has no counter any more, and nobody to read it.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: everything is left to the system's allocator, which keeps the promises; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are the same ones.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn packets_cross_without_allocation() {
    const ACK: u8 = 0x10;
    let mut world = World::new(Crowd::default());
    world.turn(&mut read(0x02, 6, 0, 0));
    assert_eq!((world.wires[1].packets, world.wires[1].delivered), (1, 40), "the tunnel stands");

    let bulk = read(ACK, 6, 60_000, 1292);
    let (small, udp) = (read(ACK, 6, 3, 1292), read(0, 17, 20, 1292));
    let mut buffer = vec![0; bulk.len()];
    // The first of each kind may make room for the others.
    let mut kinds = |world: &mut World| {
        for octets in [&bulk, &small, &udp] {
            let buffer = &mut buffer[..octets.len()];
            buffer.copy_from_slice(octets);
            world.turn(buffer);
        }
    };
    kinds(&mut world);
    let (before, delivered) = (ALLOCATIONS.get(), world.wires[1].delivered);
    for _ in 0..50 {
        kinds(&mut world);
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
    assert_eq!(world.wires[1].delivered - delivered, 50 * (60_040 + 43));
    assert_eq!(world.engines[0].dropped(Reason::NotTcp), 51);
}
