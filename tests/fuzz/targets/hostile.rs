//! See `mesh_fuzz::hostile`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mesh_fuzz::hostile::run(data));
