//! A relay and its clients, as TURN (RFC 8656) without its bytes: what is asked and answered, and after how many round
//! trips, as `mesh-node/relay` does. Datagrams pass from allocation to allocation only.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

mod client;

pub(crate) use self::client::Client;

/// How a client is connected, as the relay sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Access {
    Udp(SocketAddr),
    /// A connection of the client with this number.
    Tcp {
        client: usize,
        connection: u32,
    },
}

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// An Allocate that can't be right yet: its answer has the nonce.
    Challenge,
    Allocate,
    /// Asks for the permission for the relay's own address.
    Permit,
    Refresh,
    /// A datagram for the allocation with this address.
    Data {
        to: SocketAddr,
        bytes: Vec<u8>,
    },
}

/// What a relay sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Challenged,
    /// The address of the allocation, and that of the client as the relay sees it.
    Allocated {
        relayed: SocketAddr,
        seen: Option<SocketAddr>,
    },
    Permitted,
    Refreshed,
    /// There is no such allocation (437).
    Mismatch,
    /// There is no such connection.
    Closed,
    /// A datagram of the allocation with this address.
    Data {
        from: SocketAddr,
        bytes: Vec<u8>,
    },
}

/// A request or an answer with its serial number, which an answer has from its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Numbered<T> {
    pub(crate) serial: u32,
    pub(crate) what: T,
}

#[derive(Debug)]
struct Allocation {
    client: usize,
    relayed: SocketAddr,
    permitted: bool,
}

/// One relay.
#[derive(Debug)]
pub(crate) struct Relay {
    address: IpAddr,
    pub(crate) is_up: bool,
    /// A client that doesn't reach it.
    pub(crate) barred: Option<usize>,
    allocations: BTreeMap<Access, Allocation>,
    next_port: u16,
    /// How many datagrams it has passed on.
    pub(crate) passed: u64,
}

impl Relay {
    pub(crate) const fn new(address: IpAddr) -> Self {
        Self { address, is_up: true, barred: None, allocations: BTreeMap::new(), next_port: 49_152, passed: 0 }
    }

    /// Its process dies, with all allocations.
    pub(crate) fn die(&mut self) {
        self.is_up = false;
        self.allocations.clear();
    }

    /// Its process is started again.
    pub(crate) const fn rise(&mut self) {
        self.is_up = true;
    }

    /// Whether a client has an allocation to which others can send.
    pub(crate) fn serves(&self, client: usize) -> bool {
        self.is_up && self.allocations.values().any(|allocation| allocation.client == client && allocation.permitted)
    }

    /// Handles what a client sends. Returns what is sent for it, and to whom.
    pub(crate) fn handle(
        &mut self,
        client: usize,
        from: Access,
        request: Numbered<Request>,
    ) -> Option<(Access, Numbered<Answer>)> {
        if !self.is_up || self.barred == Some(client) {
            return None;
        }
        let Numbered { serial, what } = request;
        let answer = |what| Some((from, Numbered { serial, what }));
        let known = self.allocations.get_mut(&from);
        match (what, known) {
            (Request::Challenge, None) => answer(Answer::Challenged),
            (Request::Allocate, None) => {
                // One for each client: the newest.
                self.allocations.retain(|_, allocation| allocation.client != client);
                self.next_port = self.next_port.wrapping_add(1).max(49_152);
                let relayed = (self.address, self.next_port).into();
                self.allocations.insert(from, Allocation { client, relayed, permitted: false });
                let seen = if let Access::Udp(seen) = from { Some(seen) } else { None };
                answer(Answer::Allocated { relayed, seen })
            }
            (Request::Permit, Some(allocation)) => {
                allocation.permitted = true;
                answer(Answer::Permitted)
            }
            (Request::Refresh, Some(_)) => answer(Answer::Refreshed),
            (Request::Data { to, bytes }, Some(Allocation { relayed, permitted: true, .. })) => {
                let relayed = *relayed;
                let (access, _) = self.allocations.iter().find(|(_, other)| other.relayed == to && other.permitted)?;
                self.passed += 1;
                Some((*access, Numbered { serial: 0, what: Answer::Data { from: relayed, bytes } }))
            }
            // Of the client's own earlier process, or of another one behind the same NAT.
            (Request::Challenge | Request::Allocate, Some(_)) => {
                self.allocations.remove(&from);
                answer(Answer::Mismatch)
            }
            (_, None) if matches!(from, Access::Tcp { .. }) => answer(Answer::Closed),
            (Request::Permit | Request::Refresh, None) => answer(Answer::Mismatch),
            (Request::Data { .. }, _) => None,
        }
    }
}

#[cfg(test)]
mod tests;
