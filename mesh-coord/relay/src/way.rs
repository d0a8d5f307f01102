//! How messages come from clients, and how they go to them.

use std::net::{IpAddr, SocketAddr};

/// How a client is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By datagrams.
    Udp {
        /// Its address.
        remote: SocketAddr,
        /// Which of the machine's addresses it talks to.
        local: Option<IpAddr>,
    },
    /// By a TCP or TLS connection.
    Stream {
        /// The connection's number, never used again.
        id: u64,
        /// Its address.
        remote: SocketAddr,
    },
}

impl Way {
    /// The client's address.
    #[must_use]
    pub const fn remote(&self) -> SocketAddr {
        match self {
            Self::Udp { remote, .. } | Self::Stream { remote, .. } => *remote,
        }
    }

    /// Whose messages come that way.
    #[must_use]
    pub const fn client(&self) -> Client {
        match self {
            Self::Udp { remote, .. } => Client::Udp(*remote),
            Self::Stream { id, .. } => Client::Stream(*id),
        }
    }
}

/// Who sends something: TURN's 5-tuple (RFC 8656 §3.2), as far as it tells clients apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Client {
    /// A UDP address.
    Udp(SocketAddr),
    /// A connection's number.
    Stream(u64),
}

/// Where data for clients goes.
pub trait Sink {
    /// Sends messages one after another to a client: each has `stride` bytes, the last may be shorter. On a stream they
    /// still have to be padded ([`framed`](crate::framed)).
    fn send(&mut self, to: &Way, batch: &[u8], stride: usize);
}
