//! Relays: TURN servers (RFC 8656) by which runners reach each other where no direct path is, and what a runner tells
//! of its way to the outside.

use std::{fmt, net::SocketAddr, str::FromStr};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use self::wire::RelayPublic;
use crate::{Label, RelayId, text::as_text};

pub mod wire;

mod credential;

pub use credential::{CredentialError, Pseudonym, RelaySecret, username};

/// The most reflexive addresses of a runner that peers are told.
pub const MAX_REFLEXIVE: usize = 8;
/// The most relayed addresses of a runner that peers are told.
pub const MAX_RELAYED: usize = 4;
/// The most relays of a mesh.
pub const MAX_RELAYS: usize = 16;
/// The most addresses of a relay for one transport.
pub const MAX_PLACES: usize = 8;

/// An address at a relay: what is sent there from another allocation of the same relay goes to the runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Relayed {
    /// The relay.
    pub relay: RelayId,
    /// The relayed transport address (RFC 8656 §3).
    pub address: SocketAddr,
}

/// What port the outside sees for different destinations (RFC 4787 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Mapping {
    /// The runner's own: there is no NAT.
    None,
    /// The same one for all.
    Same,
    /// Another one for each.
    Varies,
    /// Not known, or a kind that this version doesn't know.
    #[serde(other)]
    Unknown,
}

/// A runner's way to the outside, for people only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Nat {
    /// Whether UDP leaves it.
    pub udp: bool,
    /// What port the outside sees.
    pub mapping: Mapping,
}

/// A text that is not a host with a port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a host with a port: expected `203.0.113.9:3478`, `[2001:db8::9]:3478` or `relay.example.net:3478`"
)]
pub struct ParsePlaceError(String);

/// Where a relay listens: an address or a host's name, with a port.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Place {
    host: Box<str>,
    port: u16,
}

impl Place {
    /// The host, an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, never 0.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The address; `None` for a name, which has to be resolved.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.host.parse().ok()?, self.port))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address() {
            Some(address) => fmt::Display::fmt(&address, f),
            None => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl FromStr for Place {
    type Err = ParsePlaceError;

    fn from_str(text: &str) -> Result<Self, ParsePlaceError> {
        let host_and_port = || {
            if let Ok(address) = text.parse::<SocketAddr>() {
                return Some((address.ip().to_string(), address.port()));
            }
            let (host, port) = text.rsplit_once(':')?;
            let digits = port.bytes().all(|byte| byte.is_ascii_digit());
            (digits && is_host_name(host)).then_some((host.to_ascii_lowercase(), port.parse().ok()?))
        };
        match host_and_port() {
            Some((host, port)) if port != 0 => Ok(Self { host: host.into(), port }),
            _ => Err(ParsePlaceError(text.chars().take(80).filter(|c| !c.is_control()).collect())),
        }
    }
}

as_text!(Place);

/// Whether the text can be a host's name: labels of letters, digits and hyphens (RFC 1123 §2.1). One that ends with a
/// number is none (WHATWG URL §3.5), as it would be taken for an IPv4 address.
fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= 253 && text.split('.').all(is_label) && !last.bytes().all(|byte| byte.is_ascii_digit())
}

/// A relay, as agents are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relay {
    /// Its identifier.
    pub id: RelayId,
    /// Its name, unique at any time.
    pub name: Label,
    /// Where it is.
    #[serde(flatten)]
    pub public: RelayPublic,
}

/// What a runner logs in with at a relay (TURN's long-term credentials, RFC 8489 §9.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayCredential {
    /// The relay.
    pub relay: RelayId,
    /// The name: see [`username`].
    pub username: String,
    /// The password.
    pub password: Password,
    /// When the relay takes it no more for new allocations, in seconds since 1970.
    pub until: u64,
}

/// A password at a relay. It is a text of ASCII, as it goes into a digest as it is.
#[derive(Clone, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Password(Zeroizing<String>);

/// A password with other characters than visible ASCII.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a relay's password: it has other characters than ASCII's")]
pub struct PasswordError;

impl Password {
    /// The text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// In constant time.
impl PartialEq for Password {
    fn eq(&self, other: &Self) -> bool {
        use subtle::ConstantTimeEq as _;
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Password {}

impl From<Password> for String {
    fn from(password: Password) -> Self {
        Self::clone(&password.0)
    }
}

impl TryFrom<String> for Password {
    type Error = PasswordError;

    fn try_from(text: String) -> Result<Self, PasswordError> {
        let text = Zeroizing::new(text);
        if text.bytes().all(|byte| byte.is_ascii_graphic()) { Ok(Self(text)) } else { Err(PasswordError) }
    }
}

#[cfg(test)]
mod tests;
