//! What both programs do as processes: a log that stalls nothing, secrets that no other process reads, private files and sockets,
//! output that no name can spoof, retries.

mod backoff;
pub mod directory;
mod lines;
pub mod log;
pub mod output;
pub mod secrets;
pub mod socket;

pub use backoff::Backoff;

use std::{fs, io};

/// The identifier of the kernel's current run (proc(5), `/proc/sys/kernel/random/boot_id`).
///
/// # Errors
/// If `/proc` can't be read.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}
