//! See `mesh_fuzz::warp_config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mesh_fuzz::warp_config::run(data));
