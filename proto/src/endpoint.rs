//! Which addresses can be a runner's endpoint: all peers have to reach the same machine there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::Range;

/// The most endpoints of a runner.
pub const MAX_ENDPOINTS: usize = 16;

/// A reason that an address can't be an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Port 0.
    #[error("has no port")]
    NoPort,
    /// `0.0.0.0` or `::`.
    #[error("has no address")]
    Unspecified,
    /// It means a group of machines.
    #[error("is a multicast address")]
    Multicast,
    /// It means all machines of a network.
    #[error("is the broadcast address")]
    Broadcast,
    /// It is in the mesh's own range.
    #[error("lies in the mesh's own range")]
    MeshRange,
    /// Every machine has it.
    #[error("is a loopback address, which leads each runner to itself")]
    Loopback,
    /// It is valid on one network only.
    #[error("is a link-local address, which means another machine on each network")]
    LinkLocal,
    /// `0.0.0.0/8` (RFC 1122 §3.2.1.3).
    #[error("lies in 0.0.0.0/8, where no machine is")]
    ThisNetwork,
}

/// Why an address can't be an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// The address itself can't be one.
    #[error(transparent)]
    Is(#[from] Fault),
    /// It is an IPv6 form of such an IPv4 address.
    #[error("leads to {address}, which {fault}")]
    LeadsTo {
        /// The embedded IPv4 address.
        address: Ipv4Addr,
        /// The reason that the embedded address can't be an endpoint.
        fault: Fault,
    },
}

impl EndpointError {
    /// Whether a machine may have such an address besides others, so that reporting it is no mistake.
    #[must_use]
    pub const fn is_local(self) -> bool {
        matches!(self, Self::Is(Fault::Loopback | Fault::LinkLocal | Fault::ThisNetwork) | Self::LeadsTo { .. })
    }
}

/// Checks that all peers reach the same machine there. The mesh's range is checked if it is given.
///
/// # Errors
/// If the address can't be an endpoint, with the reason.
pub fn check(endpoint: SocketAddr, range: Option<Range>) -> Result<(), EndpointError> {
    if endpoint.port() == 0 {
        return Err(Fault::NoPort.into());
    }
    match endpoint.ip().to_canonical() {
        IpAddr::V4(ip) => check_v4(ip, range).map_err(EndpointError::Is),
        IpAddr::V6(ip) => {
            check_v6(ip)?;
            let Some(address) = embedded(ip) else { return Ok(()) };
            check_v4(address, range).map_err(|fault| EndpointError::LeadsTo { address, fault })
        }
    }
}

fn check_v4(ip: Ipv4Addr, range: Option<Range>) -> Result<(), Fault> {
    match ip {
        _ if ip.is_unspecified() => Err(Fault::Unspecified),
        _ if ip.is_multicast() => Err(Fault::Multicast),
        _ if ip.is_broadcast() => Err(Fault::Broadcast),
        _ if ip.is_loopback() => Err(Fault::Loopback),
        _ if ip.is_link_local() => Err(Fault::LinkLocal),
        _ if ip.to_bits() >> 24 == 0 => Err(Fault::ThisNetwork),
        _ if range.is_some_and(|range| range.contains(ip)) => Err(Fault::MeshRange),
        _ => Ok(()),
    }
}

const fn check_v6(ip: Ipv6Addr) -> Result<(), Fault> {
    match ip {
        _ if ip.is_unspecified() => Err(Fault::Unspecified),
        _ if ip.is_multicast() => Err(Fault::Multicast),
        _ if ip.is_loopback() => Err(Fault::Loopback),
        _ if ip.is_unicast_link_local() => Err(Fault::LinkLocal),
        _ => Ok(()),
    }
}

/// The IPv4 address to which packets for an IPv6 address go: IPv4-compatible (RFC 4291 §2.5.5.1), NAT64 with the
/// well-known prefix (RFC 6052 §2.1), 6to4 (RFC 3056), IPv4-translated (RFC 2765 §2.1).
const fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let bits = match ip.segments() {
        [0, 0, 0, 0, 0, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x2002, high, low, ..] => ((high as u32) << 16) | low as u32,
        _ => return None,
    };
    Some(Ipv4Addr::from_bits(bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_an_endpoint_only_if_it_means_one_machine_to_all() {
        let check = |text: &str| check(text.parse().unwrap(), Some(Range::DEFAULT));
        for good in ["192.0.2.1:51820", "10.9.0.7:1", "[2001:db8::7]:51820", "[64:ff9b::c000:201]:5", "[fd00::1]:5"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("192.0.2.1:0", "has no port"),
            ("0.0.0.0:80", "has no address"),
            ("[::]:5", "has no address"),
            ("[::ffff:0.0.0.0]:5", "has no address"),
            ("224.0.0.1:80", "is a multicast address"),
            ("[ff02::1]:5", "is a multicast address"),
            ("[::ffff:224.0.0.1]:5", "is a multicast address"),
            ("255.255.255.255:80", "is the broadcast address"),
            ("100.112.0.9:51820", "lies in the mesh's own range"),
            ("[::ffff:100.112.0.9]:51820", "lies in the mesh's own range"),
            ("127.0.0.1:5", "is a loopback address, which leads each runner to itself"),
            ("[::1]:5", "is a loopback address, which leads each runner to itself"),
            ("[::ffff:127.0.0.1]:5", "is a loopback address, which leads each runner to itself"),
            ("169.254.169.254:80", "is a link-local address, which means another machine on each network"),
            ("[fe80::1]:5", "is a link-local address, which means another machine on each network"),
            ("0.1.2.3:5", "lies in 0.0.0.0/8, where no machine is"),
            (
                "[64:ff9b::7f00:1]:5",
                "leads to 127.0.0.1, which is a loopback address, which leads each runner to itself",
            ),
            (
                "[2002:7f00:1::1]:5",
                "leads to 127.0.0.1, which is a loopback address, which leads each runner to itself",
            ),
            ("[::7f00:1]:5", "leads to 127.0.0.1, which is a loopback address, which leads each runner to itself"),
            (
                "[::ffff:0:7f00:1]:5",
                "leads to 127.0.0.1, which is a loopback address, which leads each runner to itself",
            ),
            ("[64:ff9b::6470:9]:5", "leads to 100.112.0.9, which lies in the mesh's own range"),
            ("[2002:e000:1::]:5", "leads to 224.0.0.1, which is a multicast address"),
        ] {
            assert_eq!(check(bad).unwrap_err().to_string(), why, "{bad}");
        }
        assert_eq!(super::check("100.112.0.9:5".parse().unwrap(), None), Ok(()), "the range is not known");
    }
}
