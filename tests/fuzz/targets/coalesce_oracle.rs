//! See `mesh_fuzz::coalesce_oracle`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mesh_fuzz::coalesce_oracle::run(data));
