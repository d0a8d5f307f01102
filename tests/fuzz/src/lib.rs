//! What is fuzzed: one function for each kind of thing that comes from outside, which panics if a promise is broken.
//!
//! `scripts/fuzz` hands them to libFuzzer. What that has found worth keeping stands in `corpus/`, and is replayed by
//! `cargo test`.
#![forbid(unsafe_code)]

mod files;
mod mesh;
mod packet;
mod sink;
mod world;

pub mod datagram;
pub mod mesh_toml;
pub mod messages;
pub mod pins;
pub mod token;
pub mod tun;
pub mod view;
pub mod warp_config;

/// What a target does with an input.
pub type Target = fn(&[u8]);

/// Every target, by the name that it has everywhere.
pub const TARGETS: &[(&str, Target)] = &[
    ("datagram", datagram::run),
    ("mesh_toml", mesh_toml::run),
    ("messages", messages::run),
    ("pins", pins::run),
    ("token", token::run),
    ("tun", tun::run),
    ("view", view::run),
    ("warp_config", warp_config::run),
];
