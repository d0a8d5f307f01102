//! The numbers and names by which the parts of the agent refer to the same thing.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A request of a caller, which is answered once: with a [`crate::Reply`] or an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// An effect whose end comes back as [`crate::Input::Done`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

/// A version of the file, by the order in which they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SaveId(pub u64);

/// A watch over a process. The shell chooses it, and never the same one twice in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub u64);

/// The data plane's number for a TUN. Never the same one twice in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(pub u32);

/// The kernel's number for a namespace in messages about changes there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nsid(pub i32);

/// Which network namespace. Two open handles with the same identity are of the same namespace. The kernel gives the
/// identity of a namespace that is gone to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NamespaceId {
    /// The device of the namespace file system.
    pub dev: u64,
    /// The namespace's inode there.
    pub ino: u64,
}

/// Which file, whatever its path. Two open files with the same identity are the same file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileId {
    /// The device of its file system.
    pub dev: u64,
    /// Its inode there.
    pub ino: u64,
}

/// The random alias of the `mesh0` of one attachment. By it the agent knows after a restart that a namespace is still
/// the one that it attached, since the kernel gives identities of namespaces again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Mark(pub u128);

impl From<Mark> for String {
    fn from(mark: Mark) -> Self {
        format!("{:032x}", mark.0)
    }
}

impl TryFrom<String> for Mark {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        u128::from_str_radix(&text, 16).map(Self)
    }
}

/// A container's identifier, as its runtime has it: 1 to 255 of the characters that runc allows (`validateID` of
/// libcontainer/factory_linux.go).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Hash)]
#[serde(into = "String", try_from = "String")]
pub struct ContainerId(String);

/// A text that is no [`ContainerId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no container's identifier: 1 to 255 letters, digits, and any of `_+-.`")]
pub struct NotAnId(String);

impl ContainerId {
    /// The short form, with random parts cut as Docker and podman do.
    #[must_use]
    pub fn short(&self) -> String {
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
    fn people_see_what_docker_shows() {
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

    #[test]
    fn a_mark_is_read_as_it_is_written() {
        let text = serde_json::to_string(&Mark(7)).unwrap();
        assert_eq!((text.len(), serde_json::from_str::<Mark>(&text).unwrap()), (34, Mark(7)));
    }
}
