//! What kind of NAT this runner is behind, by what relays see of it.

use std::net::{IpAddr, SocketAddr};

use mesh_proto::relay::Mapping;

/// Judges by the addresses that different relays see, and by the machine's own addresses and port. Only relays of one IP
/// family can be compared: the most common one decides.
#[must_use]
pub fn mapping(seen: &[SocketAddr], own: &[IpAddr], port: u16) -> Mapping {
    let (v4, v6): (Vec<SocketAddr>, Vec<SocketAddr>) = seen.iter().partition(|address| address.is_ipv4());
    let seen = if v4.len() >= v6.len() { v4 } else { v6 };
    let Some((first, others)) = seen.split_first() else { return Mapping::Unknown };
    if seen.iter().all(|address| own.contains(&address.ip()) && address.port() == port) {
        return Mapping::None;
    }
    match others {
        [] => Mapping::Unknown,
        _ if others.iter().all(|other| other == first) => Mapping::Same,
        _ => Mapping::Varies,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    #[test]
    fn the_kind_is_what_relays_see() {
        let own = [IpAddr::from([192, 0, 2, 1])];
        assert_eq!(mapping(&[], &[], 1), Mapping::Unknown);
        assert_eq!(mapping(&[at(1)], &own, 1), Mapping::None);
        assert_eq!(mapping(&[at(1), at(1)], &own, 1), Mapping::None);
        assert_eq!(mapping(&[at(2)], &own, 1), Mapping::Unknown, "one relay can't tell");
        assert_eq!(mapping(&[at(2), at(2)], &[], 1), Mapping::Same);
        assert_eq!(mapping(&[at(1), at(2)], &own, 1), Mapping::Varies);
        let v6 = "[2001:db8::1]:1".parse().unwrap();
        assert_eq!(mapping(&[at(2), at(2), v6], &[], 1), Mapping::Same, "another family is another NAT");
    }
}
