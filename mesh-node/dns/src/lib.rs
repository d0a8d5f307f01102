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

/// The seed after this one (Knuth's linear congruential generator).
#[must_use]
pub const fn next_seed(seed: u64) -> u64 {
    seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f)
}

/// The port of the resolver (RFC 1035 §4.2).
pub const PORT: u16 = 53;
