//! One relay, and what is going on with it.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{
    config::{Config, RelayReport, To},
    holding::Holding,
};
use crate::{Allocation, Look, Seen, Standing, Transport};

/// One relay.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) config: Config,
    /// Which of the addresses is in use.
    pub(super) at: usize,
    pub(super) work: Work,
    /// What the latest look has found.
    pub(super) seen: Option<Seen>,
}

/// What is going on with one relay.
#[derive(Debug)]
pub(super) enum Work {
    Nothing,
    Looking(Look),
    Holding(Box<Holding>),
}

impl Entry {
    pub(super) fn new(config: Config) -> Self {
        Self { config, at: 0, work: Work::Nothing, seen: None }
    }

    /// Where a message goes by this transport.
    pub(super) fn to(&self, transport: Transport) -> Option<To> {
        match transport {
            Transport::Datagram => self.address().map(To::Address),
            Transport::Stream => Some(To::Stream(self.config.id)),
        }
    }

    /// Whether its messages go by a connection.
    pub(super) fn is_by_stream(&self) -> bool {
        self.transport() == Transport::Stream
    }

    /// Goes on with the next address.
    pub(super) fn ask_elsewhere(&mut self, seed: u64, now: Instant) {
        self.at = (self.at + 1) % self.config.addresses.len().max(1);
        if let Work::Holding(holding) = &mut self.work {
            holding.ask_elsewhere(&self.config, seed, now);
        }
    }

    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.config.addresses.get(self.at).copied()
    }

    pub(super) fn allocation(&self) -> Option<&Allocation> {
        if let Work::Holding(holding) = &self.work { Some(holding.used()) } else { None }
    }

    /// Whether an allocation was asked for, and the relay doesn't answer or refuses.
    pub(super) fn is_vain(&self) -> bool {
        let standing = self.allocation().map(Allocation::standing);
        matches!(standing, Some(Standing::Unanswered | Standing::Refused(_)))
    }

    pub(super) fn transport(&self) -> Transport {
        self.allocation().map_or(Transport::Datagram, Allocation::transport)
    }

    pub(super) fn rtt(&self) -> Option<Duration> {
        let looked = self.seen.and_then(|seen| if let Seen::There { rtt, .. } = seen { rtt } else { None });
        match self.allocation() {
            Some(allocation) if allocation.standing() == Standing::Unanswered => None,
            Some(allocation) => allocation.rtt().or(looked),
            None => looked,
        }
    }

    pub(super) fn reflexive(&self) -> Option<SocketAddr> {
        match (self.allocation(), self.seen) {
            // What is seen of a connection is no address for datagrams.
            (Some(allocation), _) => allocation.reflexive().filter(|_| self.transport() == Transport::Datagram),
            (None, Some(Seen::There { reflexive, .. })) => reflexive,
            (None, _) => None,
        }
    }

    pub(super) fn report(&self) -> RelayReport {
        RelayReport {
            id: self.config.id,
            address: self.address(),
            transport: self.transport(),
            standing: self.allocation().map(Allocation::standing),
            rtt: self.rtt(),
            reflexive: self.reflexive(),
        }
    }

    pub(super) fn hold(&mut self, seed: u64, now: Instant) {
        self.work = Work::Holding(Box::new(Holding::new(&self.config, seed, now)));
    }
}
