//! What a relay is asked for, and what is said of it.

use std::{net::SocketAddr, time::Duration};

use mesh_proto::RelayId;

use crate::{Login, Standing, Transport};

/// A relay that may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The relay.
    pub id: RelayId,
    /// Where it takes datagrams, in the order in which these are tried.
    pub addresses: Vec<SocketAddr>,
    /// Whether it takes connections (TCP, TLS), which the owner makes.
    pub streams: bool,
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
    /// What carries the messages.
    pub transport: Transport,
    /// How the allocation stands; `None` if none is wanted.
    pub standing: Option<Standing>,
    /// The latest round trip.
    pub rtt: Option<Duration>,
    /// The address of this runner that it sees.
    pub reflexive: Option<SocketAddr>,
}

/// Where a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// By a datagram to this address.
    Address(SocketAddr),
    /// By the connection with this relay.
    Stream(RelayId),
}
