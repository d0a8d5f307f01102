//! Faces to container runtimes that follow the OCI runtime specification: a wrapper around runc, and hooks.

mod argv;
mod attach;
mod caller;
mod content;
mod docker;
mod go;
mod hook;
mod image;
mod spec;
mod storage;
mod wrapper;

pub(crate) use attach::{agent, detach};
pub(crate) use hook::{Stage, note, run as hook, settle};
pub(crate) use wrapper::{is_called, main as wrapper};

use mesh_proto::message::Refusal;

/// A refusal on one line, as it comes into a runtime's own errors.
fn line(refusal: &Refusal) -> String {
    format!("mesh: {}", text(refusal))
}

/// The same without saying who speaks.
fn text(refusal: &Refusal) -> String {
    match &refusal.hint {
        Some(hint) => format!("{} ({hint})", refusal.error),
        None => refusal.error.clone(),
    }
}
