//! What was dropped.

/// Datagrams that were dropped, by counts.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Dropped {
    /// Received from the relay's address, and nothing that the relay sends: neither an answer to a request nor a datagram
    /// of a peer.
    pub foreign: u64,
    /// To be sent, while there was no allocation, or to a peer that it can't reach.
    pub unsent: u64,
}

impl Dropped {
    /// Adds what others have dropped.
    pub(crate) fn add(&mut self, more: Self) {
        self.foreign += more.foreign;
        self.unsent += more.unsent;
    }
}
