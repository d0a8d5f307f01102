//! One relay, and what is going on with it.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use mesh_proto::RelayId;

use crate::{Allocation, Login, Look, Seen, Standing, Transport};

/// A relay that may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The relay.
    pub id: RelayId,
    /// Where it takes datagrams, in the order in which these are tried.
    pub addresses: Vec<SocketAddr>,
    /// Who this runner is there.
    pub login: Login,
    /// Who it was, with a login that the relay may know it by still.
    pub earlier: Option<Login>,
}

/// What there is to say of one relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayReport {
    /// The relay.
    pub id: RelayId,
    /// Where it is asked.
    pub address: Option<SocketAddr>,
    /// How the allocation stands; `None` if none is wanted.
    pub standing: Option<Standing>,
    /// The latest round trip.
    pub rtt: Option<Duration>,
    /// The address of this runner that it sees.
    pub reflexive: Option<SocketAddr>,
}

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
    Holding(Box<Allocation>),
}

impl Entry {
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.config.addresses.get(self.at).copied()
    }

    pub(super) fn allocation(&self) -> Option<&Allocation> {
        if let Work::Holding(allocation) = &self.work { Some(allocation) } else { None }
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
            (Some(allocation), _) => allocation.reflexive(),
            (None, Some(Seen::There { reflexive, .. })) => reflexive,
            (None, _) => None,
        }
    }

    pub(super) fn report(&self) -> RelayReport {
        RelayReport {
            id: self.config.id,
            address: self.address(),
            standing: self.allocation().map(Allocation::standing),
            rtt: self.rtt(),
            reflexive: self.reflexive(),
        }
    }

    pub(super) fn hold(&mut self, seed: u64, now: Instant) {
        let Config { login, earlier, .. } = self.config.clone();
        self.work = Work::Holding(Box::new(Allocation::new(Transport::Datagram, login, earlier, seed, now)));
    }
}
