//! A coordinator's URL.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::place::{Place, PlaceError};

/// The default port of a coordinator.
const DEFAULT_PORT: u16 = 7443;

/// `https://HOST[:PORT]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Url(Place);

/// An invalid URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a coordinator's URL ({why}): write https://HOST:{DEFAULT_PORT}")]
pub struct UrlError {
    given: String,
    why: &'static str,
}

impl Url {
    /// The host: a name or an address, IPv6 without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.host()
    }

    /// The TCP port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.0.port()
    }

    pub(crate) const fn place(&self) -> &Place {
        &self.0
    }

    /// `HOST:PORT`, as in HTTP's `Host` (RFC 9110 §7.2).
    #[must_use]
    pub fn authority(&self) -> String {
        self.0.to_string()
    }
}

/// Bytes as they are written in a URI: all but unreserved characters, and those that are `kept`, are percent-encoded
/// (RFC 3986 §2.1).
#[must_use]
pub fn percent_encoded(bytes: &[u8], kept: &[u8]) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte) || kept.contains(byte);
    let one = |byte: &u8| if is_plain(byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") };
    bytes.iter().map(one).collect()
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let refuse = |why| UrlError { given: text.chars().take(120).collect(), why };
        let scheme = text.split_at_checked(8).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("https://"));
        let (_, rest) = scheme.ok_or_else(|| refuse("it does not begin with https://"))?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('/') {
            return Err(refuse("a path follows the host, and a coordinator has none"));
        }
        Place::parse(rest, Some(DEFAULT_PORT)).map(Self).map_err(|PlaceError(why)| refuse(why))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority())
    }
}

impl From<Url> for String {
    fn from(url: Url) -> Self {
        url.to_string()
    }
}

impl TryFrom<String> for Url {
    type Error = UrlError;

    fn try_from(text: String) -> Result<Self, UrlError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_as_people_write_them() {
        for (given, meant) in [
            ("https://coord.example:7443", "https://coord.example:7443"),
            ("https://coord.example", "https://coord.example:7443"),
            ("https://192.0.2.1:9/", "https://192.0.2.1:9"),
            ("HTTPS://coord.example", "https://coord.example:7443"),
            ("https://[2001:db8::1]:9", "https://[2001:db8::1]:9"),
            ("https://[2001:db8::1]", "https://[2001:db8::1]:7443"),
        ] {
            assert_eq!(given.parse::<Url>().unwrap().to_string(), meant);
        }
        assert_eq!("https://[::1]:9".parse::<Url>().unwrap().host(), "::1");
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said() {
        for (given, why) in [
            ("coord.example:7443", "does not begin with https://"),
            ("http://coord.example", "does not begin with https://"),
            ("https://", "host is missing"),
            ("https://a/b", "a path follows"),
            ("https://a:7443/path", "a path follows"),
            ("https:/", "does not begin with https://"),
            ("https://u@h", "other characters"),
            ("https://h:0", "port"),
            ("https://h:x", "port"),
            ("https://h:99999", "port"),
            ("https://[::1", "`]` is missing"),
            ("https://[h]:1", "no IPv6 address"),
            ("https://[::1]x", "something other than a port"),
            ("https://2001:db8::1", "port"),
        ] {
            let error = given.parse::<Url>().unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("https://HOST:7443"), "{given}: {error}");
        }
    }
}
