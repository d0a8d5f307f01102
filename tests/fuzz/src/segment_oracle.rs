//! How super-packets are cut, beside an implementation that shares nothing with it.

use mesh_engine::split;

/// Cuts a super-packet of any headers: tun-rs gives the very same segments. See the engine's `tests/oracle`.
pub fn run(data: &[u8]) {
    crate::oracle::cutting(data, |octets| {
        let mut segments = vec![];
        split(octets, |segment| segments.push(segment.to_vec()));
        segments
    });
}
