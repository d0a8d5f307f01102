//! Identifiers. The coordinator assigns each one only once, so a name that is deleted and created again has another
//! identifier.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::text::as_text;

/// A text that is not an identifier of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}: expected {example}")]
pub struct ParseIdError {
    text: String,
    what: &'static str,
    example: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                text.strip_prefix($prefix)
                    .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
                    .and_then(|digits| digits.parse().ok())
                    .map(Self)
                    .ok_or_else(|| ParseIdError {
                        text: text.chars().take(40).collect(),
                        what: $what,
                        example: concat!("`", $prefix, "7`"),
                    })
            }
        }

        as_text!($name);
    };
}

id!(
    /// A machine that runs the agent.
    RunnerId, "r-", "a runner's identifier"
);
id!(
    /// A deployment. Its name is unique at any time, its identifier forever.
    DeploymentId, "d-", "a deployment's identifier"
);
id!(
    /// A service of a deployment.
    ServiceId, "s-", "a service's identifier"
);
id!(
    /// An instance: one running copy of a service.
    InstanceId, "i-", "an instance's identifier"
);
id!(
    /// A join or admin token.
    TokenId, "t-", "a token's identifier"
);

id!(
    /// A relay.
    RelayId, "relay-", "a relay's identifier"
);

/// The number of a commit at the coordinator. It grows by one per commit, within one [`Epoch`].
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision of the next commit.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A history of the coordinator's database, as a random number. Another one is drawn when the database is made, and when
/// it turns out to have been put back to an earlier state, so that this never looks like a continuation. (Coordinators
/// before 0.3 draw one at each start.) Revisions of different epochs can't be compared.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Epoch(pub [u8; 16]);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl FromStr for Epoch {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let mut bytes = [0; 16];
        let parsed = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit()) && {
            bytes.iter_mut().enumerate().all(|(i, byte)| match u8::from_str_radix(&text[2 * i..2 * i + 2], 16) {
                Ok(value) => {
                    *byte = value;
                    true
                }
                Err(_) => false,
            })
        };
        if parsed {
            Ok(Self(bytes))
        } else {
            Err(ParseIdError {
                text: text.chars().take(40).collect(),
                what: "an epoch",
                example: "32 hexadecimal digits",
            })
        }
    }
}

as_text!(Epoch);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_read_back_as_written_and_nothing_else_is() {
        assert_eq!("i-42".parse::<InstanceId>().unwrap(), InstanceId(42));
        assert_eq!(InstanceId(42).to_string(), "i-42");
        for bad in ["42", "i-", "i-+4", "s-42", "i-99999999999999999999", "i-4 "] {
            let error = bad.parse::<InstanceId>().unwrap_err().to_string();
            assert!(error.contains("an instance's identifier"), "{error}");
        }
    }

    #[test]
    fn an_epoch_is_32_hexadecimal_digits() {
        let epoch = Epoch(*b"0123456789abcdef");
        assert_eq!(Epoch::try_from(epoch.to_string()).unwrap(), epoch);
        for bad in ["", "00", "zz".repeat(16).as_str(), "é".repeat(16).as_str(), "+1".repeat(16).as_str()] {
            let _ = Epoch::try_from(bad.to_owned()).map(|e| panic!("{bad} was read as {e}"));
        }
    }
}
