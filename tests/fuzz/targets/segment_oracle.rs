//! See `mesh_fuzz::segment_oracle`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mesh_fuzz::segment_oracle::run(data));
