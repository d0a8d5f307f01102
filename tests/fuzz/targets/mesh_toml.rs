//! See `mesh_fuzz::mesh_toml`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mesh_fuzz::mesh_toml::run(data));
