//! What both programs do to be measured: numbers in Prometheus' text format, those of the process among them, and a
//! small HTTP server for an address of their own.

mod cache;
mod process;
mod server;
mod snapshot;

pub use cache::EachSecond;
pub use process::add as add_process;
pub use prometheus_client;
pub use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;
pub use server::{Page, Pages, listen, serve};
pub use snapshot::{Labels, Snapshot, Value, at_most};

use prometheus_client::{encoding::prometheus_text::encode, registry::Registry};

/// The text of all metrics of these registries (Prometheus' text format, version 0.0.4).
#[must_use]
pub fn text(registries: &[&Registry]) -> String {
    let mut text = String::new();
    for registry in registries {
        // Only a collector's own error could fail, and ours have none.
        let _ = encode(&mut text, registry);
    }
    text
}
