//! What an operator names as an endpoint of this runner.

use std::{
    fmt,
    net::{Ipv6Addr, SocketAddr},
    num::NonZeroU16,
    str::FromStr,
};

use mesh_proto::relay::Place;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

/// What stands before the port of [`Endpoint::Seen`].
const AUTO: &str = "auto:";

/// A place at which other runners reach this one, as its operator names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) enum Endpoint {
    /// An address.
    At(SocketAddr),
    /// A name, which this runner resolves again and again: its peers are told addresses.
    Name(Place),
    /// `auto:PORT`: this port, at the address that the outside sees this runner come from.
    Seen(NonZeroU16),
}

/// Why a text is no endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParseEndpointError {
    #[error("the port is missing")]
    NoPort,
    #[error("the port is not a number from 1 to 65535")]
    BadPort,
    #[error("an IPv6 address stands in brackets")]
    Brackets,
    #[error("the host is neither an address nor a name")]
    BadHost,
}

impl FromStr for Endpoint {
    type Err = ParseEndpointError;

    fn from_str(text: &str) -> Result<Self, ParseEndpointError> {
        let port = |text: &str| text.parse::<NonZeroU16>().map_err(|_| ParseEndpointError::BadPort);
        if let Ok(address) = text.parse::<SocketAddr>() {
            return if address.port() == 0 { Err(ParseEndpointError::BadPort) } else { Ok(Self::At(address)) };
        }
        if let Some(seen) = text.strip_prefix(AUTO) {
            return port(seen).map(Self::Seen);
        }
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let Some((host, after)) = text.rsplit_once(':').filter(|_| bare.is_none()) else {
            return Err(ParseEndpointError::NoPort);
        };
        if [host, text].iter().any(|text| text.parse::<Ipv6Addr>().is_ok()) {
            return Err(ParseEndpointError::Brackets);
        }
        port(after)?;
        text.parse().map(Self::Name).map_err(|_| ParseEndpointError::BadHost)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(address) => address.fmt(f),
            Self::Name(place) => place.fmt(f),
            Self::Seen(port) => write!(f, "{AUTO}{port}"),
        }
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

impl TryFrom<String> for Endpoint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map_err(|error: ParseEndpointError| {
            let text: String = text.chars().take(80).filter(|c| !c.is_control()).collect();
            format!("`{text}` is no endpoint: {error}; {EXPECTED}")
        })
    }
}

/// What an endpoint looks like, for errors.
pub(crate) const EXPECTED: &str =
    "expected HOST:PORT, such as 203.0.113.7:51820, [2001:db8::7]:51820 or runner.example.net:51820, or auto:51820";

/// There are several `auto:PORT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("auto:{0} and auto:{1} are the same address: only one of its ports can be forwarded to this runner")]
pub(crate) struct SeveralSeen(NonZeroU16, NonZeroU16);

impl Endpoint {
    /// Checks that all of them can be meant together.
    ///
    /// # Errors
    /// If there are several `auto:PORT`.
    pub(crate) fn check(all: &[Self]) -> Result<(), SeveralSeen> {
        let mut ports = all.iter().filter_map(|endpoint| match endpoint {
            Self::Seen(port) => Some(*port),
            Self::At(_) | Self::Name(_) => None,
        });
        match (ports.next(), ports.next()) {
            (Some(one), Some(other)) => Err(SeveralSeen(one, other)),
            _ => Ok(()),
        }
    }
}

/// Reads the endpoints of the configuration.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Endpoint>>, D::Error> {
    let endpoints = Option::<Vec<Endpoint>>::deserialize(deserializer)?;
    endpoints.as_deref().map_or(Ok(()), Endpoint::check).map_err(D::Error::custom)?;
    Ok(endpoints)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_an_address_a_name_or_a_port_of_the_address_outside() {
        for text in ["203.0.113.7:51820", "[2001:db8::7]:1", "runner.example.net:51820", "runner:4", "auto:51820"] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), text);
            assert_eq!(serde_json::to_string(&endpoint).unwrap(), format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Endpoint>(&format!("\"{text}\"")).unwrap(), endpoint);
        }
        assert!(matches!("203.0.113.7:51820".parse(), Ok(Endpoint::At(_))));
        assert!(matches!("Runner.Example.net:51820".parse(), Ok(Endpoint::Name(_))));
        assert_eq!("auto:51820".parse(), Ok(Endpoint::Seen(NonZeroU16::new(51820).unwrap())));
    }

    #[test]
    fn what_is_wrong_with_an_endpoint_is_said() {
        use ParseEndpointError as E;
        for (text, why) in [
            ("7443", E::NoPort),
            ("runner.example.net", E::NoPort),
            ("203.0.113.7", E::NoPort),
            ("[2001:db8::7]", E::NoPort),
            ("2001:db8::7", E::Brackets),
            ("2001:db8::7:51820", E::Brackets),
            ("runner.example.net:", E::BadPort),
            ("runner.example.net:0", E::BadPort),
            ("203.0.113.7:0", E::BadPort),
            ("203.0.113.7:65536", E::BadPort),
            ("auto:", E::BadPort),
            ("auto:0", E::BadPort),
            (":51820", E::BadHost),
            ("a b:51820", E::BadHost),
            ("-x.example:51820", E::BadHost),
            ("203.0.113.256:51820", E::BadHost),
            ("[runner]:51820", E::BadHost),
            ("https://runner:51820", E::BadHost),
        ] {
            assert_eq!(text.parse::<Endpoint>(), Err(why), "{text}");
        }
        let error = Endpoint::try_from("a\nb".repeat(99)).unwrap_err();
        assert!(error.len() < 300 && !error.contains('\n') && error.contains("auto:51820"), "{error}");
    }

    #[test]
    fn one_port_of_the_address_outside_is_meant_at_most() {
        let all = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Endpoint>>();
        assert_eq!(Endpoint::check(&all(&["auto:1", "runner:2", "192.0.2.1:3"])), Ok(()));
        let error = Endpoint::check(&all(&["auto:1", "runner:2", "auto:3"])).unwrap_err().to_string();
        assert!(error.contains("auto:1 and auto:3"), "{error}");
    }
}
