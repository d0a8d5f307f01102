//! The client of a relay: TURN (RFC 8656) with long-term credentials (RFC 8489 §9.2), as a state machine. Datagrams, bytes
//! and time in; datagrams, events and the datagrams of peers out. It opens nothing, reads no clock, spawns nothing and
//! locks nothing. It is the only crate of the agent that knows how a STUN message is written.
//!
//! An [`Allocation`] is one address at one relay. It is asked for, kept, and asked for again when it is lost, by itself;
//! its owner hands over what arrives from the relay, sends what [`Allocation::poll_transmit`] returns, and calls
//! [`Allocation::handle_timeout`] at [`Allocation::next_timeout`].
//!
//! Peers are the allocations of other runners at the same relay, so that one permission (for the relay's own address) is
//! enough, and the first datagram to a peer needs no round trip: it goes as a Send indication until its channel is bound.
//! After that every datagram has four bytes in front of it ([`HEADER`], RFC 8656 §12.4), which [`Allocation::wrap`] writes
//! in place, into a whole batch; [`Allocation::unwrap`] finds the batches in what arrived.
//!
//! The same machine works over UDP and over a stream (TCP or TLS, [`Transport`]); [`Inflow`] finds the messages in a
//! stream.

mod allocation;
mod auth;
mod channels;
mod data;
mod dropped;
mod frame;
mod homes;
mod inflow;
mod look;
mod mapping;
mod message;
mod relays;
mod request;
mod rng;

pub use allocation::{Allocation, Event, Standing};
pub use auth::Login;
pub use data::{Run, Wrapped};
pub use dropped::Dropped;
pub use frame::HEADER;
pub use homes::{Distance, Homes};
pub use inflow::{Inflow, Malformed};
pub use look::{Look, Seen};
pub use mapping::mapping;
pub use relays::{Config, RelayReport, Relays, To, Wish};

/// What carries the messages between this runner and the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// UDP: a message is a datagram, and may be lost.
    Datagram,
    /// TCP or TLS: messages follow each other, padded to four bytes.
    Stream,
}

#[cfg(test)]
mod tests;
