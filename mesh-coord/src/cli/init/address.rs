//! Where runners reach the coordinator, if nothing says it: at this machine's address, where there is one that can be meant.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use mesh_link::Url;
use mesh_process::interfaces::{Found, reachable, reaches_far};

/// Why no address is chosen.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AddressError {
    #[error("this machine has several addresses, and any of them may be the one at which runners reach the coordinator: {}", listed(.0))]
    Several(Vec<IpAddr>, u16),
    #[error("this machine has no address at which other machines reach it")]
    None,
    #[error("nothing but this machine reaches the coordinator at {0}")]
    Loopback(IpAddr),
}

impl AddressError {
    /// What to try next.
    pub(super) fn hint(&self) -> String {
        match self {
            Self::Several(all, port) => {
                let example =
                    all.first().map_or_else(|| "HOST".to_owned(), |first| SocketAddr::new(*first, *port).to_string());
                format!("choose one, or name several with commas between: --advertise https://{example}")
            }
            Self::None => "name where it is: --advertise https://HOST:7443".to_owned(),
            Self::Loopback(_) => {
                "leave --listen out, or say where runners reach it: --advertise https://HOST:7443".to_owned()
            }
        }
    }
}

fn listed(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Where a URL comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// It was given, or follows from what was.
    Given,
    /// It is this machine's address at an interface.
    Own(IpAddr, String),
}

/// The URL of a coordinator that listens there and has these names, on a machine with these addresses.
pub(super) fn url(listen: SocketAddr, names: &[String], found: Vec<Found>) -> Result<(Url, Origin), AddressError> {
    let at = |host: String| format!("https://{host}:{}", listen.port()).parse().map_err(|_| AddressError::None);
    let bracketed = |ip: IpAddr| if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() };
    if let Some(name) = names.first() {
        return Ok((at(name.parse().map_or_else(|_| name.clone(), bracketed))?, Origin::Given));
    }
    if listen.ip().is_loopback() {
        return Err(AddressError::Loopback(listen.ip()));
    }
    if !listen.ip().is_unspecified() {
        return Ok((at(bracketed(listen.ip()))?, Origin::Given));
    }
    let own = own(found, listen)?;
    Ok((at(bracketed(own.address))?, Origin::Own(own.address, own.interface)))
}

/// The only address that can be meant: of those that are reached from anywhere, else of those of the network with the way
/// out, else of all; IPv4 before IPv6.
fn own(found: Vec<Found>, listen: SocketAddr) -> Result<Found, AddressError> {
    let mut seen = BTreeSet::new();
    let mut usable: Vec<Found> = reachable(found);
    usable.retain(|found| !found.address.is_loopback() && seen.insert(found.address));
    let (v4, mut v6): (Vec<_>, Vec<_>) = usable.into_iter().partition(|found| found.address.is_ipv4());
    // 0.0.0.0 is IPv4 alone.
    if listen.is_ipv4() {
        v6.clear();
    }
    let mut candidates = if v4.is_empty() { v6 } else { v4 };
    for preferred in [|found: &Found| reaches_far(found.address), |found: &Found| found.way_out] {
        if candidates.iter().any(preferred) {
            candidates.retain(preferred);
            break;
        }
    }
    match (candidates.pop(), candidates.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(last), false) => {
            let all = candidates.into_iter().chain([last]).map(|found| found.address).collect();
            Err(AddressError::Several(all, listen.port()))
        }
        (None, _) => Err(AddressError::None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `*`: a default route leads there.
    fn found(all: &[(&str, &str)]) -> Vec<Found> {
        let one = |(interface, address): &(&str, &str)| {
            let way_out = interface.ends_with('*');
            let interface = interface.trim_end_matches('*').to_owned();
            Found { interface, address: address.parse().unwrap(), way_out, own: way_out }
        };
        all.iter().map(one).collect()
    }

    fn chosen(all: &[(&str, &str)]) -> Result<String, AddressError> {
        url("[::]:7443".parse().unwrap(), &[], found(all)).map(|(url, _)| url.to_string())
    }

    #[test]
    fn a_machine_with_one_address_that_can_be_meant_is_reached_there() {
        let lo = ("lo", "127.0.0.1");
        for (all, expected) in [
            (&[lo, ("eth0*", "192.168.1.5"), ("eth0*", "fe80::5"), ("docker0", "172.17.0.1")][..], "192.168.1.5"),
            (&[lo, ("eth0*", "203.0.113.5"), ("eth0*", "2001:db8::5"), ("eth1", "10.0.0.5")], "203.0.113.5"),
            (&[lo, ("eth0", "10.1.0.5"), ("wlan0*", "192.168.1.5"), ("tailscale0", "100.70.1.1")], "192.168.1.5"),
            (&[lo, ("eth0", "10.1.0.5")], "10.1.0.5"),
            (&[lo, ("eth0*", "2001:db8::5"), ("eth0*", "fd00::5")], "[2001:db8::5]"),
        ] {
            assert_eq!(chosen(all).unwrap(), format!("https://{expected}:7443"), "{all:?}");
        }
    }

    #[test]
    fn it_is_not_guessed_among_several() {
        let error = chosen(&[("eth0*", "203.0.113.5"), ("eth1", "198.51.100.7"), ("eth1", "10.0.0.5")]).unwrap_err();
        assert!(error.to_string().ends_with("203.0.113.5, 198.51.100.7"), "{error}");
        assert!(error.hint().ends_with("--advertise https://203.0.113.5:7443"), "{}", error.hint());
        assert!(matches!(chosen(&[("eth0*", "10.0.0.5"), ("wlan0*", "192.168.1.5")]), Err(AddressError::Several(..))));
        assert_eq!(chosen(&[("lo", "127.0.0.1"), ("eth0", "fe80::1")]), Err(AddressError::None));
        assert_eq!(chosen(&[]), Err(AddressError::None));
    }

    #[test]
    fn a_name_or_an_address_to_listen_at_says_where_it_is() {
        let of = |listen: &str, names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let many = found(&[("eth0*", "203.0.113.5"), ("eth1", "198.51.100.7"), ("eth0*", "2001:db8::5")]);
            url(listen.parse().unwrap(), &names, many).map(|(url, origin)| (url.to_string(), origin))
        };
        assert_eq!(
            of("[::]:7443", &["mesh.example.net"]),
            Ok(("https://mesh.example.net:7443".to_owned(), Origin::Given))
        );
        assert_eq!(of("10.0.0.5:8443", &[]), Ok(("https://10.0.0.5:8443".to_owned(), Origin::Given)));
        assert_eq!(of("[2001:db8::5]:443", &[]).unwrap().0, "https://[2001:db8::5]:443");
        assert_eq!(of("127.0.0.1:7443", &[]), Err(AddressError::Loopback("127.0.0.1".parse().unwrap())));
        assert_eq!(of("0.0.0.0:1", &["2001:db8::9"]).unwrap().0, "https://[2001:db8::9]:1");
    }
}
