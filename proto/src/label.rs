//! Names given by people: of deployments, teams and runners (DNS labels), and of services (almost any text).

use std::{borrow::Borrow, fmt, ops::Deref, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::text::as_text;

/// An invalid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a DNS label (RFC 1123 §2.1, lower case).
    #[error("`{0}` is not a DNS label: use 1 to 63 of a-z, 0-9 and `-`, with no `-` at either end")]
    NotALabel(String),
    /// `localhost`, which means the local machine everywhere.
    #[error("`localhost` always means the machine itself: choose another name")]
    Localhost,
    /// An empty service name.
    #[error("a service's name cannot be empty")]
    Empty,
    /// A service name with a forbidden character.
    #[error("the service name `{name}` holds {character:?}: `/` and control characters are not allowed")]
    Forbidden {
        /// The name, with control characters escaped.
        name: String,
        /// The first forbidden character.
        character: char,
    },
    /// A service name that is too long.
    #[error("a service's name can have at most {max} bytes; this one has {got}")]
    TooLong {
        /// The limit, in bytes.
        max: usize,
        /// The length, in bytes.
        got: usize,
    },
    /// Not a release.
    #[error("`{0}` is no release: use 1 to {max} letters, digits and `. _ + - : / @`", max = Release::MAX)]
    NotARelease(String),
    /// Not a path of a service.
    #[error("`{0}` names no service: write DEPLOYMENT/SERVICE, as in `shop/db`")]
    NotAPath(String),
}

/// The name of a deployment, team or runner: a lower-case DNS label, and not `localhost`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Label(String);

impl FromStr for Label {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let fits = (1..=63).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-');
        match text {
            "localhost" => Err(NameError::Localhost),
            _ if fits => Ok(Self(text.to_owned())),
            _ => Err(NameError::NotALabel(text.chars().take(80).collect())),
        }
    }
}

/// The name of a service: any characters but `/` and control characters, 1 to 255 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ServiceName(String);

impl ServiceName {
    /// The longest name, in bytes.
    pub const MAX: usize = 255;
}

impl FromStr for ServiceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > Self::MAX {
            return Err(NameError::TooLong { max: Self::MAX, got: text.len() });
        }
        match text.chars().find(|c| *c == '/' || c.is_control()) {
            Some(character) => Err(NameError::Forbidden { name: text.escape_debug().to_string(), character }),
            None => Ok(Self(text.to_owned())),
        }
    }
}

/// The release that an instance runs: a version, the hash of a commit, whatever the deployment counts by. It is compared
/// for equality only.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Release(String);

impl Release {
    /// The longest one, in bytes: as long as an image's tag may be.
    pub const MAX: usize = 128;
}

impl FromStr for Release {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let fits = (1..=Self::MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-:/@".contains(&b));
        if fits { Ok(Self(text.to_owned())) } else { Err(NameError::NotARelease(text.chars().take(80).collect())) }
    }
}

macro_rules! text {
    ($name:ident) => {
        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }
    };
}

text!(Label);
text!(ServiceName);
text!(Release);

/// `DEPLOYMENT/SERVICE`: the path of a service in commands and messages.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ServicePath {
    /// The deployment's name.
    pub deployment: Label,
    /// The service's name within it.
    pub service: ServiceName,
}

impl FromStr for ServicePath {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (deployment, service) =
            text.split_once('/').ok_or_else(|| NameError::NotAPath(text.chars().take(80).collect()))?;
        Ok(Self { deployment: deployment.parse()?, service: service.parse()? })
    }
}

impl fmt::Display for ServicePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.deployment, self.service)
    }
}

as_text!(ServicePath);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_lower_case_dns_labels_but_localhost() {
        for good in ["shop", "a", "0", "a-b", "xn--caf-dma", &"x".repeat(63)] {
            assert_eq!(&*good.parse::<Label>().unwrap(), good);
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "é", "a/b", "a b", &"x".repeat(64)] {
            assert!(matches!(bad.parse::<Label>(), Err(NameError::NotALabel(_))), "{bad}");
        }
        assert_eq!("localhost".parse::<Label>(), Err(NameError::Localhost));
    }

    #[test]
    fn service_names_hold_anything_but_slash_and_control_characters() {
        for good in ["my db", "✅ db", "我的数据", "-", "=", &"x".repeat(255)] {
            assert_eq!(&*good.parse::<ServiceName>().unwrap(), good);
        }
        for (bad, why) in
            [("", "empty"), ("a/b", "'/'"), ("a\nb", "'\\n'"), ("a\u{85}", "control"), (&"x".repeat(256), "255")]
        {
            let error = bad.parse::<ServiceName>().unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_release_is_a_version_a_tag_or_a_hash() {
        for good in ["1", "v2.1.0-rc.1+b7", "sha256:0f", "registry.example:5000/shop@sha256:0f", &"x".repeat(128)] {
            assert_eq!(&*good.parse::<Release>().unwrap(), good);
        }
        for bad in ["", "a b", "a\n", "é", "a,b", "\u{1b}[31m", &"x".repeat(129)] {
            let error = bad.parse::<Release>().unwrap_err().to_string();
            assert!(error.contains("1 to 128 letters"), "{error}");
        }
    }

    #[test]
    fn a_path_is_a_deployment_and_a_service() {
        let path: ServicePath = "shop/my db".parse().unwrap();
        assert_eq!((&*path.deployment, &*path.service, path.to_string()), ("shop", "my db", "shop/my db".to_owned()));
        for bad in ["shop", "shop/", "/db", "shop/a/b", "Shop/db"] {
            assert!(bad.parse::<ServicePath>().is_err(), "{bad}");
        }
    }
}
