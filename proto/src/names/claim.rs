//! One claim of a service on a name.

use std::net::Ipv4Addr;

use crate::{ServiceId, view::Service};

/// Where a name comes from. Of two claims the lesser rank wins: what was written down beats what was made from a name,
/// and own names beat foreign ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Ist,
    Alias,
    Automatic,
    Foreign,
}

/// That a name should lead to a service.
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
