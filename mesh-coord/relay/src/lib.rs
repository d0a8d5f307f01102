//! A relay: a TURN server (RFC 8656) between the runners of a mesh. Messages and the time go in; answers, and batches
//! of datagrams for other clients, come out. No sockets, no clock.
//!
//! It is closed: relayed addresses are numbers that it gives out and has no sockets for, so that what one client sends
//! reaches other clients of the same relay and no one else. It knows a client by a pseudonym, and sees nothing but
//! sealed datagrams.
//!
//! What comes often needs no `&mut`: [`Relay::carry`] and [`Relay::ask`] can run in many threads at once under a shared
//! lock. Only what [`Relay::ask`] has found to be authentic changes anything ([`Relay::change`]).
//!
//! It reads and writes messages by the codecs of stun-types and turn-types, not by turn-server-proto: that one looks
//! for a client among all of them for each request, holds a nonce for each address that asks, and has no limits.

mod allocation;
mod answer;
mod counters;
mod kind;
mod limits;
mod message;
mod nonce;
mod relay;
mod share;
mod strangers;
mod stream;
mod table;
mod time;
mod way;

pub use counters::{Counted, Counters};
pub use kind::{Kind, run};
pub use limits::Limits;
pub use relay::{Asked, Change, Changed, Relay, Settings};
pub use share::Turn;
pub use stream::{Malformed, Stream, framed};
pub use time::Now;
pub use way::{Client, Sink, Way};

#[cfg(test)]
mod tests;
