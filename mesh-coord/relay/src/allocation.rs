//! One allocation (RFC 8656 §3.2) with its channels. Times are in seconds since the relay's start.

use std::net::SocketAddr;

use mesh_proto::relay::Pseudonym;
use stun_types::message::TransactionId;

use crate::{limits::FIRST_PORT, share::Spent, way::Way};

/// What a client has at the relay.
#[derive(Debug)]
pub(crate) struct Allocation {
    pub(crate) name: Pseudonym,
    pub(crate) way: Way,
    /// The virtual address.
    pub(crate) relayed: SocketAddr,
    /// The request that made it, which may come twice.
    pub(crate) made_by: TransactionId,
    pub(crate) until: u32,
    /// Until when clients of this relay may send to it. One permission does for all, as TURN's are by IP address.
    pub(crate) permitted: u32,
    pub(crate) channels: Channels,
    pub(crate) spent: Spent,
}

impl Allocation {
    pub(crate) fn owner(&self) -> Owner {
        Owner::of(self.name)
    }

    /// Whether others may send to it.
    pub(crate) fn takes(&self, seconds: u32) -> bool {
        self.until > seconds && self.permitted > seconds
    }
}

/// Whose an address is, so that a channel to it leads to no other client when the port has another owner one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner(u64);

impl Owner {
    /// Pseudonyms are values of a keyed hash: half of one tells them apart as well.
    pub(crate) fn of(name: Pseudonym) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = name.to_bytes();
        Self(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }

    /// The port that it gets if that is free.
    pub(crate) fn port(self) -> u16 {
        let ports = u64::from(u16::MAX - FIRST_PORT) + 1;
        FIRST_PORT + u16::try_from(self.0 % ports).unwrap_or_default()
    }
}

/// A channel.
#[derive(Debug, Clone, Copy)]
struct Channel {
    number: u16,
    port: u16,
    until: u32,
    owner: Owner,
}

/// The channels of an allocation, by number and by peer.
#[derive(Debug, Default)]
pub(crate) struct Channels {
    /// In the order of their numbers.
    all: Vec<Channel>,
    /// The port and the number, in the order of the ports.
    by_peer: Vec<(u16, u16)>,
}

/// Why a channel can't be bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unbound {
    /// The number has another peer, or the peer another number (RFC 8656 §12.2).
    Conflict,
    /// There are as many as may be.
    Full,
}

impl Channels {
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// The peer of a number: its port, and whose that was.
    pub(crate) fn peer(&self, number: u16, seconds: u32) -> Option<(u16, Owner)> {
        let at = self.all.binary_search_by_key(&number, |channel| channel.number).ok()?;
        let channel = self.all.get(at).filter(|channel| channel.until > seconds)?;
        Some((channel.port, channel.owner))
    }

    /// The number for a peer.
    pub(crate) fn number(&self, port: u16, owner: Owner, seconds: u32) -> Option<u16> {
        let at = self.by_peer.binary_search_by_key(&port, |(port, _)| *port).ok()?;
        let (_, number) = *self.by_peer.get(at)?;
        (self.peer(number, seconds) == Some((port, owner))).then_some(number)
    }

    /// Binds a channel, or renews it, if no more than `room` are there then.
    pub(crate) fn bind(
        &mut self,
        (number, port, owner): (u16, u16, Owner),
        (seconds, until): (u32, u32),
        room: usize,
    ) -> Result<(), Unbound> {
        let found = self.all.binary_search_by_key(&number, |channel| channel.number);
        if let Ok(at) = found
            && let Some(channel) = self.all.get_mut(at)
            && channel.port == port
        {
            (channel.owner, channel.until) = (owner, until);
            return Ok(());
        }
        self.forget(seconds);
        let by_number = self.all.binary_search_by_key(&number, |channel| channel.number);
        let by_peer = self.by_peer.binary_search_by_key(&port, |(port, _)| *port);
        let (Err(by_number), Err(by_peer)) = (by_number, by_peer) else { return Err(Unbound::Conflict) };
        if self.all.len() >= room {
            return Err(Unbound::Full);
        }
        self.all.insert(by_number, Channel { number, port, until, owner });
        self.by_peer.insert(by_peer, (port, number));
        Ok(())
    }

    /// Forgets what has run out.
    fn forget(&mut self, seconds: u32) {
        self.all.retain(|channel| channel.until > seconds);
        if self.all.len() < self.by_peer.len() {
            let all = &self.all;
            self.by_peer.retain(|(_, number)| all.binary_search_by_key(number, |channel| channel.number).is_ok());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Owner = Owner(1);
    const B: Owner = Owner(2);

    #[test]
    fn a_channel_has_one_peer_and_a_peer_one_channel() {
        let mut channels = Channels::default();
        assert_eq!(channels.bind((0x4000, 2000, A), (0, 600), 2), Ok(()));
        assert_eq!(channels.bind((0x4000, 2001, B), (0, 600), 2), Err(Unbound::Conflict));
        assert_eq!(channels.bind((0x4001, 2000, A), (0, 600), 2), Err(Unbound::Conflict));
        assert_eq!(channels.bind((0x4001, 2001, B), (0, 600), 2), Ok(()));
        assert_eq!(channels.bind((0x4002, 2002, B), (0, 600), 2), Err(Unbound::Full));
        assert_eq!(channels.bind((0x4000, 2000, A), (500, 1100), 2), Ok(()), "renewed");
        assert_eq!(channels.peer(0x4000, 700), Some((2000, A)));
        assert_eq!(channels.peer(0x4001, 700), None, "run out");
        assert_eq!(channels.number(2001, B, 599), Some(0x4001));
        assert_eq!(channels.number(2001, B, 600), None);
        assert_eq!(channels.bind((0x4002, 2001, B), (700, 1300), 2), Ok(()), "what has run out is in no one's way");
        assert_eq!(channels.number(2001, B, 700), Some(0x4002));
        assert_eq!(channels.len(), 2);
    }

    #[test]
    fn a_channel_is_not_the_next_owners_of_its_port() {
        let mut channels = Channels::default();
        channels.bind((0x4000, 2000, A), (0, 600), 9).unwrap();
        assert_eq!(channels.number(2000, B, 0), None);
        channels.bind((0x4000, 2000, B), (0, 600), 9).unwrap();
        assert_eq!((channels.number(2000, B, 0), channels.number(2000, A, 0)), (Some(0x4000), None));
    }
}
