//! Cuts super-packets, in comparison with an independent implementation.

use mesh_engine::split;

/// Cuts a super-packet with any headers into the same segments as tun-rs. See the engine's `tests/oracle`.
pub fn run(data: &[u8]) {
    crate::oracle::cutting(data, |bytes| {
        let mut segments = vec![];
        split(bytes, |segment| segments.push(segment.to_vec()));
        segments
    });
}
