//! The sources of connections.

use std::net::{IpAddr, Ipv6Addr};

/// The address that a source counts as: an IPv4 address, mapped into IPv6 or not, or an IPv6 /64 (a customer's usual
/// share).
pub(crate) fn share(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
        v4 => v4,
    }
}
