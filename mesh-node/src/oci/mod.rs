//! The ways in for runtimes that follow the OCI runtime specification: a wrapper around runc, and hooks.

mod argv;
mod attach;
mod caller;
mod content;
mod docker;
mod error;
mod go;
mod hook;
mod image;
mod libpod;
mod read;
mod spec;
mod storage;
mod wrapper;

pub(crate) use attach::{agent, detach};
pub(crate) use error::OciError;
pub(crate) use hook::{Stage, note, run as hook, settle};
pub(crate) use wrapper::{is_called, main as wrapper};

use crate::hint::Hint;

/// An error with its hint on one line, for a runtime's own error message.
fn line(error: &dyn Hint) -> String {
    format!("mesh: {}", text(error))
}

/// An error with its hint, without a prefix.
fn text(error: &dyn Hint) -> String {
    match error.hint() {
        Some(hint) => format!("{error} ({hint})"),
        None => error.to_string(),
    }
}
