//! Credentials that a relay checks without asking: the "REST API for access to TURN services" convention, which coturn
//! has as `use-auth-secret`. A relay learns a pseudonym and not which runner it is.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use hmac::{Hmac, Mac as _};
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{Password, RelayCredential};
use crate::{RelayId, RunnerId, text::as_text};

/// The most bytes of a relay's secret.
const MAX_SECRET: usize = 256;

/// A text that can't be a relay's secret or credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The secret is empty, too long or has other characters.
    #[error("not a relay's secret: expected 1 to {MAX_SECRET} visible ASCII characters")]
    Secret,
    /// The name has another form.
    #[error("not a name that mesh gives out: expected the time, a colon and 32 hexadecimal digits")]
    Username,
}

/// What a relay and the coordinator share: the text of coturn's `static-auth-secret`.
#[derive(Clone)]
pub struct RelaySecret(Zeroizing<String>);

impl RelaySecret {
    /// The text, only for a file of mode 0600, or TLS.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The name by which a relay knows a runner.
    #[must_use]
    pub fn pseudonym(&self, runner: RunnerId, relay: RelayId) -> Pseudonym {
        let mut mac = keyed::<Hmac<Sha256>>(&self.0);
        mac.update(b"pseudonym");
        mac.update(runner.to_string().as_bytes());
        mac.update(relay.to_string().as_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        Pseudonym(bytes)
    }

    /// The password for a name.
    #[must_use]
    pub fn password(&self, username: &str) -> Password {
        let mut mac = keyed::<Hmac<Sha1>>(&self.0);
        mac.update(username.as_bytes());
        Password(Zeroizing::new(BASE64.encode(mac.finalize().into_bytes())))
    }

    /// What a runner logs in with at this secret's relay until then.
    #[must_use]
    pub fn credential(&self, runner: RunnerId, relay: RelayId, until: u64) -> RelayCredential {
        let username = username(until, self.pseudonym(runner, relay));
        RelayCredential { relay, password: self.password(&username), username, until }
    }
}

/// HMAC takes a key of any length.
fn keyed<M: hmac::Mac + hmac::digest::KeyInit>(key: &str) -> M {
    <M as hmac::Mac>::new_from_slice(key.as_bytes()).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"))
}

impl fmt::Debug for RelaySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RelaySecret(..)")
    }
}

/// In constant time.
impl PartialEq for RelaySecret {
    fn eq(&self, other: &Self) -> bool {
        use subtle::ConstantTimeEq as _;
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for RelaySecret {}

impl FromStr for RelaySecret {
    type Err = CredentialError;

    /// Surrounding white space, such as a file's last newline, is ignored.
    fn from_str(text: &str) -> Result<Self, CredentialError> {
        let text = text.trim_ascii();
        let fits = (1..=MAX_SECRET).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { Ok(Self(Zeroizing::new(text.to_owned()))) } else { Err(CredentialError::Secret) }
    }
}

/// The name by which a relay knows a runner: 32 lower-case hexadecimal digits. Each relay has another one for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Pseudonym([u8; 16]);

impl Pseudonym {
    /// The bytes, of which any part tells pseudonyms apart as well as its length allows.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// Reads the name of a credential: until when it holds, in seconds since 1970, and whose it is.
    ///
    /// # Errors
    /// If it has another form.
    pub fn of_username(username: &str) -> Result<(u64, Self), CredentialError> {
        let (until, pseudonym) = username.split_once(':').ok_or(CredentialError::Username)?;
        if !until.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(CredentialError::Username);
        }
        Ok((until.parse().map_err(|_| CredentialError::Username)?, pseudonym.parse()?))
    }
}

impl fmt::Display for Pseudonym {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Pseudonym {
    type Err = CredentialError;

    fn from_str(text: &str) -> Result<Self, CredentialError> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut bytes = [0; 16];
        if text.len() != 32 {
            return Err(CredentialError::Username);
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            match (digit(pair[0]), digit(pair[1])) {
                (Some(high), Some(low)) => *byte = high << 4 | low,
                _ => return Err(CredentialError::Username),
            }
        }
        Ok(Self(bytes))
    }
}

as_text!(Pseudonym);

/// The name of a credential: until when it holds, in seconds since 1970, and whose it is.
#[must_use]
pub fn username(until: u64, pseudonym: Pseudonym) -> String {
    format!("{until}:{pseudonym}")
}
