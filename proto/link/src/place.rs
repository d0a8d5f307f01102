//! A host and a TCP port, as they stand in URLs.

use std::{fmt, net::IpAddr, str::FromStr};

/// A host, by name or address, and a TCP port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    host: String,
    port: u16,
}

/// Why a text is no place. It doesn't quote the text, which may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct PlaceError(pub(crate) &'static str);

impl Place {
    /// Reads `HOST[:PORT]`, an IPv6 address in brackets.
    pub(crate) fn parse(text: &str, default_port: Option<u16>) -> Result<Self, PlaceError> {
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (address, after) = rest.split_once(']').ok_or(PlaceError("a `]` is missing"))?;
            if !matches!(address.parse(), Ok(IpAddr::V6(_))) {
                return Err(PlaceError("there is no IPv6 address between the brackets"));
            }
            match after.strip_prefix(':') {
                Some(port) => (address, Some(port)),
                None if after.is_empty() => (address, None),
                None => return Err(PlaceError("something other than a port follows the address")),
            }
        } else {
            match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        let port = match (port, default_port) {
            (None, Some(port)) => port,
            (None, None) => return Err(PlaceError("there is no port")),
            (Some(port), _) => match port.parse() {
                Ok(port) if port != 0 => port,
                _ => return Err(PlaceError("the port is not a number from 1 to 65535")),
            },
        };
        let is_host = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
        if host.is_empty() || !host.bytes().all(is_host) {
            return Err(PlaceError("the host is missing or holds other characters than a name or an address has"));
        }
        Ok(Self { host: host.to_owned(), port })
    }

    /// Where a relay listens.
    pub(crate) fn of(place: &mesh_proto::relay::Place) -> Self {
        Self { host: place.host().to_owned(), port: place.port() }
    }

    /// The host: a name or an address, IPv6 without brackets.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        Self::parse(text, None)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}
