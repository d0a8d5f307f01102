//! By what a `mesh0` is known again.

use std::io;

use serde::{Deserialize, Serialize};

/// What the `mesh0` of one attachment bears as its alias (`IFLA_IFALIAS`, which `ip link` shows), and no other: random.
///
/// The numbers of namespaces are given again, and with `CAP_NET_ADMIN` another container can make a `mesh0` that looks like
/// ours: without its mark an agent that starts again would give it the instance of whoever had the number before. The
/// container itself can read the mark, and with `CAP_NET_ADMIN` change it: against that one it is no protection, and needs to
/// be none, since the instance is its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct Mark(u128);

impl Mark {
    /// Draws one.
    ///
    /// # Errors
    /// If the system gives no randomness.
    pub(crate) fn draw() -> io::Result<Self> {
        let mut octets = [0; 16];
        getrandom::fill(&mut octets)?;
        Ok(Self(u128::from_ne_bytes(octets)))
    }

    /// The alias. Its beginning is for people.
    pub(super) fn alias(self) -> String {
        format!("mesh-node {}", String::from(self))
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_are_alike_and_each_is_read_as_written() {
        let marks = [Mark::draw().unwrap(), Mark::draw().unwrap(), Mark(7)];
        assert_ne!(marks[0], marks[1]);
        for mark in marks {
            let text = serde_json::to_string(&mark).unwrap();
            assert_eq!((text.len(), serde_json::from_str::<Mark>(&text).unwrap()), (34, mark));
        }
    }
}
