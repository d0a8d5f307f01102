//! `NO_PROXY`: where a connection goes without a proxy, as curl reads it (curl(1), "ENVIRONMENT").

use std::net::IpAddr;

/// The places that are reached without a proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Exceptions(Vec<Exception>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Exception {
    /// Every place.
    All,
    /// A network, at one port or all.
    Network(IpAddr, u8, Option<u16>),
    /// A domain with everything below it, at one port or all.
    Domain(String, Option<u16>),
}

impl Exceptions {
    /// Reads a list that is separated by commas or blanks. An entry that makes no sense excepts nothing.
    pub(crate) fn parse(list: &str) -> Self {
        let entries = list.split(|c: char| c == ',' || c.is_whitespace()).filter(|entry| !entry.is_empty());
        Self(entries.filter_map(Exception::parse).collect())
    }

    /// Whether a place is reached without a proxy.
    pub(crate) fn contains(&self, host: &str, port: u16) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let address = host.parse::<IpAddr>().ok().map(|address| address.to_canonical());
        self.0.iter().any(|exception| match (exception, address) {
            (Exception::All, _) => true,
            (Exception::Network(network, bits, at), Some(address)) => {
                at.is_none_or(|at| at == port) && is_in(address, *network, *bits)
            }
            (Exception::Domain(domain, at), None) => {
                let below = host.strip_suffix(domain.as_str());
                at.is_none_or(|at| at == port) && below.is_some_and(|below| below.is_empty() || below.ends_with('.'))
            }
            (Exception::Network(..), None) | (Exception::Domain(..), Some(_)) => false,
        })
    }
}

impl Exception {
    fn parse(entry: &str) -> Option<Self> {
        if entry == "*" {
            return Some(Self::All);
        }
        if let Some(network) = Self::network(entry, None) {
            return Some(network);
        }
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (entry, None),
        };
        if let Some(network) = Self::network(host, port) {
            return Some(network);
        }
        // `*.example.org` means what `.example.org` does.
        let domain = host.trim_start_matches('*').trim_matches('.').to_ascii_lowercase();
        (!domain.is_empty()).then_some(Self::Domain(domain, port))
    }

    /// `ADDRESS[/BITS]`, an IPv6 address also in brackets.
    fn network(text: &str, port: Option<u16>) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
            None => (text, None),
        };
        let address = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
        let address = address.parse::<IpAddr>().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(Self::Network(address, bits, port))
    }
}

fn is_in(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => {
            let differing = a.to_bits() ^ n.to_bits();
            differing.checked_shr(32 - u32::from(bits)).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(n)) => {
            let differing = a.to_bits() ^ n.to_bits();
            differing.checked_shr(128 - u32::from(bits)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_are_domains_networks_and_all() {
        for (list, host, excepted) in [
            ("*", "coord.example.org", true),
            ("example.org", "coord.example.org", true),
            (".example.org", "coord.example.org", true),
            (".example.org", "example.org", true),
            ("*.example.org", "coord.example.org", true),
            ("EXAMPLE.org.", "coord.Example.ORG.", true),
            ("ample.org", "coord.example.org", false),
            ("localhost, coord.example.org", "coord.example.org", true),
            ("localhost  coord.example.org", "coord.example.org", true),
            ("", "coord.example.org", false),
            (",, .,", "coord.example.org", false),
            ("192.0.2.0/24", "192.0.2.77", true),
            ("192.0.2.0/24", "192.0.3.77", false),
            ("0.0.0.0/0", "192.0.3.77", true),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7/33", "192.0.2.7", false),
            ("2.7", "192.0.2.7", false),
            ("192.0.2.0/24", "::ffff:192.0.2.7", true),
            ("2001:db8::/32", "2001:db8::7", true),
            ("[2001:db8::7]", "2001:db8::7", true),
            ("::/0", "2001:db8::7", true),
            ("::/0", "192.0.2.7", false),
            ("2001:db8::/32", "2001:db9::7", false),
        ] {
            assert_eq!(Exceptions::parse(list).contains(host, 7443), excepted, "{list}: {host}");
        }
    }

    #[test]
    fn a_port_limits_an_exception_to_it() {
        for (list, host, port, excepted) in [
            ("example.org:7443", "coord.example.org", 7443, true),
            ("example.org:7443", "coord.example.org", 443, false),
            ("192.0.2.7:443", "192.0.2.7", 443, true),
            ("192.0.2.7:443", "192.0.2.7", 7443, false),
            ("[2001:db8::7]:443", "2001:db8::7", 443, true),
            ("[2001:db8::7]:443", "2001:db8::7", 7443, false),
            ("192.0.2.0/24:443", "192.0.2.7", 443, true),
            ("example.org:https", "example.org", 443, false),
        ] {
            assert_eq!(Exceptions::parse(list).contains(host, port), excepted, "{list}: {host}:{port}");
        }
    }
}
