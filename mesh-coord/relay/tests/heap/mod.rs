//! Counts the bytes that a thread holds.
#![allow(unsafe_code, reason = "a global allocator can't be written without")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

struct Counting;

thread_local! {
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

/// How many bytes this thread has allocated and not freed.
pub(crate) fn bytes() -> usize {
    BYTES.get()
}

fn change(before: usize, after: usize) {
    // A thread that is ending has no counter any more.
    let _ = BYTES.try_with(|bytes| bytes.set(bytes.get().wrapping_add(after).wrapping_sub(before)));
}

// SAFETY: all calls are passed to the system's allocator, which keeps the contract. Counting doesn't allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        change(0, layout.size());
        // SAFETY: the caller keeps the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        change(layout.size(), 0);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        change(layout.size(), size);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;
