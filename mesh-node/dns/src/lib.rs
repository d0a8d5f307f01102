//! The resolver of instances: it answers questions of DNS from the view of the runner, by who asks. Pure: packets and
//! time in, packets out.
//!
//! [`Directory`] holds what a view says, [`answer()`] makes an answer of it, and [`Asker`] is the resolver as one instance
//! sees it: its packets by UDP and TCP, and its share.
#![forbid(unsafe_code)]

mod answer;
mod asker;
mod bucket;
mod directory;
mod find;
mod packet;
mod tcp;
#[cfg(test)]
mod testing;
mod zone;

pub use answer::{Transport, answer};
pub use asker::{Asker, Outcome};
pub use directory::Directory;

/// The port of the resolver (RFC 1035 §4.2).
pub const PORT: u16 = 53;
