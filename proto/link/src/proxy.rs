//! HTTP proxies: which of them leads where, and how a connection is made through it (CONNECT, RFC 9110 §9.3.6).

mod choice;
mod connect;
mod except;

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use zeroize::Zeroizing;

pub use self::choice::{Proxies, ProxyChoice};
pub(crate) use self::connect::tunnel;
pub use self::connect::{ProxyError, ProxyTrouble};
use crate::place::{Place, PlaceError};

/// The port of a proxy without one: that of `http` (RFC 9110 §4.2.1).
const DEFAULT_PORT: u16 = 80;

/// An HTTP proxy, and the credentials for it. Neither `Debug` nor `Display` shows the credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    place: Place,
    /// The value of `Proxy-Authorization`, if there are credentials.
    authorization: Option<Zeroizing<String>>,
}

/// A text that is no proxy. It is not quoted, because it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no proxy ({why}): write http://HOST:PORT or http://USER:PASSWORD@HOST:PORT, with % and two hexadecimal digits for a \
         character that has a meaning in URLs"
)]
pub struct ProxyParseError {
    why: &'static str,
}

impl Proxy {
    /// Where the proxy is.
    pub(crate) const fn place(&self) -> &Place {
        &self.place
    }

    /// Whether there are credentials for it.
    #[must_use]
    pub const fn has_credentials(&self) -> bool {
        self.authorization.is_some()
    }
}

impl FromStr for Proxy {
    type Err = ProxyParseError;

    /// Reads `[http://][USER[:PASSWORD]@]HOST[:PORT][/]`.
    fn from_str(text: &str) -> Result<Self, ProxyParseError> {
        let refuse = |why| ProxyParseError { why };
        let rest = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => {
                return Err(refuse(
                    "it begins with https://, and mesh speaks plain HTTP with a proxy: what passes is TLS itself",
                ));
            }
            Some((scheme, _)) if scheme.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("socks")) => {
                return Err(refuse("mesh doesn't use SOCKS"));
            }
            Some(_) => return Err(refuse("it does not begin with http://")),
            None => text,
        };
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, rest),
        };
        let place = place.strip_suffix('/').unwrap_or(place);
        let place = Place::parse(place, Some(DEFAULT_PORT)).map_err(|PlaceError(why)| refuse(why))?;
        let authorization = login.filter(|login| !login.is_empty()).map(basic).transpose().map_err(refuse)?;
        Ok(Self { place, authorization })
    }
}

/// `Basic …` (RFC 7617 §2) for `USER[:PASSWORD]`, each percent-encoded.
fn basic(login: &str) -> Result<Zeroizing<String>, &'static str> {
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let user = decoded(user)?;
    if user.contains(&b':') {
        return Err("a user's name with a colon can't be sent");
    }
    let mut both = Zeroizing::new(Vec::with_capacity(login.len() + 1));
    both.extend_from_slice(&user);
    both.push(b':');
    both.extend_from_slice(&decoded(password)?);
    let encoded = Zeroizing::new(BASE64.encode(&*both));
    Ok(Zeroizing::new(format!("Basic {}", *encoded)))
}

/// The bytes of a percent-encoded text (RFC 3986 §2.1).
fn decoded(text: &str) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit =
            || rest.next().and_then(|digit| char::from(digit).to_digit(16)).and_then(|d| u8::try_from(d).ok());
        match (digit(), digit()) {
            (Some(high), Some(low)) => bytes.push(high << 4 | low),
            _ => return Err("a % in the credentials isn't followed by two hexadecimal digits"),
        }
    }
    // RFC 7617 §2 forbids them.
    if bytes.iter().any(u8::is_ascii_control) {
        return Err("there is a control character in the credentials");
    }
    Ok(bytes)
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.place)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let login = if self.has_credentials() { "..@" } else { "" };
        write!(f, "Proxy(http://{login}{})", self.place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(text: &str) -> Option<String> {
        let proxy: Proxy = text.parse().unwrap();
        let value = proxy.authorization?;
        let encoded = value.strip_prefix("Basic ").unwrap();
        Some(String::from_utf8(BASE64.decode(encoded).unwrap()).unwrap())
    }

    #[test]
    fn proxies_are_read_as_curl_reads_them() {
        for (given, meant) in [
            ("http://proxy:3128", "http://proxy:3128"),
            ("HTTP://proxy:3128/", "http://proxy:3128"),
            ("proxy:3128", "http://proxy:3128"),
            ("http://proxy", "http://proxy:80"),
            ("http://[2001:db8::1]:8080", "http://[2001:db8::1]:8080"),
            ("http://user:secret@192.0.2.1:3128", "http://192.0.2.1:3128"),
        ] {
            assert_eq!(given.parse::<Proxy>().unwrap().to_string(), meant, "{given}");
        }
    }

    #[test]
    fn credentials_are_decoded_and_never_shown() {
        assert_eq!(sent("http://proxy:1"), None);
        assert_eq!(sent("http://@proxy:1"), None);
        assert_eq!(sent("http://me:pass@proxy:1").unwrap(), "me:pass");
        assert_eq!(sent("http://me@proxy:1").unwrap(), "me:");
        assert_eq!(sent("http://me:p%40ss%3a%25@proxy:1").unwrap(), "me:p@ss:%");
        assert_eq!(sent("http://me:p@ss@proxy:1").unwrap(), "me:p@ss");
        assert_eq!(sent("http://m%C3%A9:a:b@proxy:1").unwrap(), "mé:a:b");
        let proxy: Proxy = "http://me:hunter2@proxy:1".parse().unwrap();
        let shown = format!("{proxy} {proxy:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("me") && !shown.contains("Basic"), "{shown}");
    }

    #[test]
    fn what_is_wrong_with_a_proxy_is_said_without_quoting_it() {
        for (given, why) in [
            ("https://u:hunter2@proxy:1", "begins with https://"),
            ("socks5h://u:hunter2@proxy:1", "SOCKS"),
            ("ftp://u:hunter2@proxy:1", "does not begin with http://"),
            ("http://u:hunter2@proxy:0", "port"),
            ("http://u:hunter2/x@proxy:70000", "port"),
            ("http://u:hunter2@", "host is missing"),
            ("http://u:hunter2%4@proxy:1", "two hexadecimal digits"),
            ("http://u:hunter2%0a@proxy:1", "control character"),
            ("http://u%3a:hunter2@proxy:1", "colon"),
            ("http://proxy:1/path", "port"),
            ("", "host is missing"),
        ] {
            let error = given.parse::<Proxy>().unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("http://HOST:PORT"), "{given}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
