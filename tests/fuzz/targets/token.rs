//! See `mesh_fuzz::token`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mesh_fuzz::token::run(data));
