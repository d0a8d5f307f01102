//! What both programs need as processes: a log that never blocks, secrets that other processes can't read, private
//! files and sockets, output that names can't spoof, retries; and of the machine: its addresses, systemd, changes of its
//! configuration.

pub mod amount;
mod backoff;
pub mod date;
pub mod directory;
pub mod duration;
pub mod edit;
pub mod interfaces;
mod lines;
pub mod log;
pub mod output;
mod recent;
pub mod secrets;
pub mod socket;
pub mod systemd;
pub mod written;

pub use backoff::Backoff;

use std::{fs, io};

/// The identifier of the kernel's current boot (proc(5), `/proc/sys/kernel/random/boot_id`).
///
/// # Errors
/// If `/proc` can't be read.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}
