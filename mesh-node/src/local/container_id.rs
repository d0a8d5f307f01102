//! Container identifiers.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A container's identifier, as its runtime has it: 1 to 255 of the characters that runc allows (`validateID` of
/// libcontainer/factory_linux.go).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Hash)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct ContainerId(String);

/// A text that is no container's identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no container's identifier: 1 to 255 letters, digits, and any of `_+-.`")]
pub(crate) struct NotAnId(String);

impl ContainerId {
    /// The form for people: random parts shortened as Docker and podman do.
    pub(crate) fn short(&self) -> String {
        let is_random = |part: &str| part.len() == 64 && part.bytes().all(|b| b.is_ascii_hexdigit());
        let short = |part| if is_random(part) { part.get(..12).unwrap_or(part) } else { part };
        self.0.split('+').map(short).collect::<Vec<_>>().join("+")
    }
}

impl FromStr for ContainerId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
        match text.len() {
            1..=255 if text.chars().all(allowed) && text != "." && text != ".." => Ok(Self(text.to_owned())),
            _ => Err(NotAnId(text.chars().take(80).collect())),
        }
    }
}

impl TryFrom<String> for ContainerId {
    type Error = NotAnId;

    fn try_from(text: String) -> Result<Self, NotAnId> {
        text.parse()
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> Self {
        id.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_form_is_that_of_docker() {
        let random = "0123456789abcdef".repeat(4);
        for (id, short) in [
            (random.clone(), "0123456789ab"),
            (format!("cni+net+{random}+eth0"), "cni+net+0123456789ab+eth0"),
            ("web".to_owned(), "web"),
        ] {
            assert_eq!(id.parse::<ContainerId>().unwrap().short(), short);
        }
    }

    #[test]
    fn no_identifier_leads_to_another_directory() {
        for good in ["c1", &"f0".repeat(32), "default-web_1.x+y"] {
            assert_eq!(good.parse::<ContainerId>().unwrap().to_string(), good);
        }
        for bad in ["", ".", "..", "a/b", "a b", "é", &"x".repeat(256)] {
            assert!(bad.parse::<ContainerId>().is_err(), "{bad}");
        }
    }
}
