//! `warp.config.js`.

/// See `files::apply`.
pub fn run(data: &[u8]) {
    crate::files::apply("warp.config.js", data);
}
