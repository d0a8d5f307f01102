//! See `mesh_fuzz::pins`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mesh_fuzz::pins::run(data));
