//! The fuzz targets: one function for each kind of input from outside, which panics if a promise is broken.
//!
//! `scripts/fuzz` passes them to libFuzzer. Its interesting inputs are in `corpus/`, which `cargo test` replays.
#![forbid(unsafe_code)]

mod files;
mod mesh;
#[path = "../../../mesh-node/engine/tests/oracle/mod.rs"]
mod oracle;
mod packet;
#[expect(dead_code, reason = "the model's own tests use the rest")]
#[path = "../../../mesh-coord/model/tests/properties/reference.rs"]
mod reference;
mod sink;
mod world;

pub mod coalesce_oracle;
pub mod datagram;
pub mod dns;
pub mod hello;
pub mod hostile;
pub mod mesh_toml;
pub mod messages;
pub mod pins;
pub mod relay;
pub mod relay_client;
pub mod segment_oracle;
pub mod token;
pub mod tun;
pub mod view;
pub mod warp_config;

/// A target's function.
pub type Target = fn(&[u8]);

/// Every target, by its name.
pub const TARGETS: &[(&str, Target)] = &[
    ("coalesce_oracle", coalesce_oracle::run),
    ("datagram", datagram::run),
    ("dns", dns::run),
    ("hello", hello::run),
    ("hostile", hostile::run),
    ("mesh_toml", mesh_toml::run),
    ("messages", messages::run),
    ("pins", pins::run),
    ("relay", relay::run),
    ("relay_client", relay_client::run),
    ("segment_oracle", segment_oracle::run),
    ("token", token::run),
    ("tun", tun::run),
    ("view", view::run),
    ("warp_config", warp_config::run),
];
