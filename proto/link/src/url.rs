//! A coordinator's URL.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

/// The default port of a coordinator.
const DEFAULT_PORT: u16 = 7443;

/// `https://HOST[:PORT]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Url {
    host: String,
    port: u16,
}

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
        &self.host
    }

    /// The TCP port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// `HOST:PORT`, as in HTTP's `Host` (RFC 9110 §7.2).
    #[must_use]
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
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
        let (host, port) = if let Some(rest) = rest.strip_prefix('[') {
            let (address, after) = rest.split_once(']').ok_or_else(|| refuse("a `]` is missing"))?;
            if !matches!(address.parse(), Ok(IpAddr::V6(_))) {
                return Err(refuse("there is no IPv6 address between the brackets"));
            }
            match after.strip_prefix(':') {
                Some(port) => (address, Some(port)),
                None if after.is_empty() => (address, None),
                None => return Err(refuse("something other than a port follows the address")),
            }
        } else {
            match rest.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            }
        };
        let port = match port {
            None => DEFAULT_PORT,
            Some(port) => match port.parse() {
                Ok(port) if port != 0 => port,
                _ => return Err(refuse("the port is not a number from 1 to 65535")),
            },
        };
        let is_host = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
        if host.is_empty() || !host.bytes().all(is_host) {
            return Err(refuse("the host is missing or holds other characters than a name or an address has"));
        }
        Ok(Self { host: host.to_owned(), port })
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
