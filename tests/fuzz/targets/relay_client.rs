//! See `mesh_fuzz::relay_client`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mesh_fuzz::relay_client::run(data));
