//! A service's claim on a name.

use std::net::Ipv4Addr;

use crate::{ServiceId, view::Service};

/// The origin of a name. The claim with the lower rank wins: declared names before names made from a service's name,
/// and own names before foreign ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Ist,
    Alias,
    Automatic,
    Foreign,
}

/// A name that should lead to a service.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) rank: Rank,
    pub(super) name: String,
    pub(super) service: ServiceId,
    pub(super) address: Ipv4Addr,
}

impl Claim {
    pub(super) const fn new(rank: Rank, name: String, service: &Service) -> Self {
        Self { rank, name, service: service.id, address: service.address }
    }
}
