//! The connections with relays that no datagram reaches.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
};

use mesh_link::{Carrier, Sent, Wire};
use mesh_proto::RelayId;

use crate::sys::{epoll::Poll, tcp};

/// The first token of connections, above all ports.
const TOKENS: u64 = 1 << 32;
/// How many unsent bytes a connection takes: what finds more is dropped, so that inner connections see loss, and not seconds
/// of queue.
const UNSENT: u32 = 128 << 10;
/// The most requests to a relay that wait.
const WAITING: usize = 64;

/// A connection with a relay.
#[derive(Debug)]
struct Stream {
    wire: Wire,
    token: u64,
    /// Requests that the connection didn't take yet. They aren't dropped, as they aren't repeated either.
    waiting: VecDeque<Vec<u8>>,
    /// Whether it is waited for until it takes more.
    awaited: bool,
    failed: bool,
}

impl Stream {
    fn send(&mut self, message: &[u8]) -> Sent {
        self.wire.send(message).unwrap_or_else(|_| {
            self.failed = true;
            Sent::Full
        })
    }

    /// Sends what waits, as far as that goes.
    fn push(&mut self) {
        self.failed |= self.wire.flush().is_err();
        while let Some(message) = self.waiting.pop_front() {
            if self.send(&message) == Sent::Full {
                self.waiting.push_front(message);
                return;
            }
        }
    }
}

/// All connections with relays.
#[derive(Debug, Default)]
pub(super) struct Streams {
    open: BTreeMap<RelayId, Stream>,
    next: u64,
}

impl Streams {
    /// Uses a connection.
    ///
    /// # Errors
    /// If it can't be waited for.
    pub(super) fn open(&mut self, relay: RelayId, carrier: Carrier, poll: &Poll) -> io::Result<()> {
        tcp::limit_unsent(&carrier.socket, UNSENT)?;
        let (wire, token) = (Wire::new(carrier), TOKENS + self.next);
        poll.add(&wire, token)?;
        self.next += 1;
        let stream = Stream { wire, token, waiting: VecDeque::new(), awaited: false, failed: false };
        self.open.insert(relay, stream);
        Ok(())
    }

    /// Closes a connection, if there is one.
    pub(super) fn close(&mut self, relay: RelayId) {
        self.open.remove(&relay);
    }

    /// Whose connection has this token.
    pub(super) fn at(&self, token: u64) -> Option<RelayId> {
        self.open.iter().find(|(_, stream)| stream.token == token).map(|(relay, _)| *relay)
    }

    /// Reads what the relay has sent; `None`: nothing is there now.
    ///
    /// # Errors
    /// If the connection is over.
    pub(super) fn read(&mut self, relay: RelayId, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        self.open.get_mut(&relay).map_or(Ok(None), |stream| stream.wire.read(buffer))
    }

    /// Sends datagrams to peers. They are dropped if the connection is full.
    pub(super) fn send(&mut self, relay: RelayId, message: &[u8]) -> Sent {
        match self.open.get_mut(&relay) {
            Some(stream) if stream.waiting.is_empty() => stream.send(message),
            _ => Sent::Full,
        }
    }

    /// Sends a request to the relay itself, which waits if the connection is full.
    pub(super) fn ask(&mut self, relay: RelayId, message: Vec<u8>) {
        if let Some(stream) = self.open.get_mut(&relay) {
            stream.failed |= stream.waiting.len() >= WAITING;
            stream.waiting.push_back(message);
            stream.push();
        }
    }

    /// Sends what is held back. Returns the connections that have failed, which are closed.
    pub(super) fn tend(&mut self, poll: &Poll) -> Vec<RelayId> {
        for stream in self.open.values_mut() {
            stream.push();
            let held_back = stream.wire.wants_write() || !stream.waiting.is_empty();
            if held_back != stream.awaited {
                stream.awaited = held_back;
                stream.failed |= poll.set_writable(&stream.wire, stream.token, held_back).is_err();
            }
        }
        let failed: Vec<_> = self.open.iter().filter(|(_, s)| s.failed).map(|(relay, _)| *relay).collect();
        failed.iter().for_each(|relay| self.close(*relay));
        failed
    }
}
