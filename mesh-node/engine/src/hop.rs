//! Where a datagram goes, or came from.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use mesh_proto::RelayId;

/// The other end of a datagram, with what is between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hop {
    /// A UDP address.
    Direct(SocketAddr),
    /// By a relay, from this runner's allocation to that of the other runner.
    Relayed {
        /// The relay.
        relay: RelayId,
        /// The other runner's relayed address.
        peer: SocketAddr,
    },
}

impl Hop {
    /// The UDP address, if there is no relay between.
    #[must_use]
    #[inline]
    pub const fn direct(self) -> Option<SocketAddr> {
        match self {
            Self::Direct(at) => Some(at),
            Self::Relayed { .. } => None,
        }
    }

    /// Whether a relay is between.
    #[must_use]
    #[inline]
    pub const fn is_relayed(self) -> bool {
        matches!(self, Self::Relayed { .. })
    }

    /// The address of the other runner, or the one that it has at the relay.
    #[must_use]
    pub const fn address(self) -> SocketAddr {
        match self {
            Self::Direct(at) | Self::Relayed { peer: at, .. } => at,
        }
    }

    /// The same without IPv4-mapped addresses.
    #[inline]
    pub(crate) fn canonical(self) -> Self {
        match self {
            Self::Direct(at) => Self::Direct(canonical(at)),
            Self::Relayed { relay, peer } => Self::Relayed { relay, peer: canonical(peer) },
        }
    }
}

impl From<SocketAddr> for Hop {
    fn from(at: SocketAddr) -> Self {
        Self::Direct(at)
    }
}

/// As `192.0.2.1:51820`, or `192.0.2.9:49152 by relay-1`.
impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct(at) => write!(f, "{at}"),
            Self::Relayed { relay, peer } => write!(f, "{peer} by {relay}"),
        }
    }
}

/// A hop, and the machine's own address for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) to: Hop,
    /// The machine's address that datagrams leave from; `None`: the system chooses. An answer leaves from the address that
    /// the question was sent to: a firewall or a NAT in between lets nothing else through.
    pub(crate) from: Option<IpAddr>,
}

impl From<Hop> for Way {
    fn from(to: Hop) -> Self {
        Self { to, from: None }
    }
}

impl From<SocketAddr> for Way {
    fn from(to: SocketAddr) -> Self {
        Hop::Direct(to).into()
    }
}

/// The address without IPv4 mapping (RFC 4291 §2.5.5.2) and without a flow label, so that equal endpoints compare
/// equal.
#[inline]
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => address,
        SocketAddr::V6(mut v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(v4.into(), v6.port()),
            None => {
                v6.set_flowinfo(0);
                SocketAddr::V6(v6)
            }
        },
    }
}
