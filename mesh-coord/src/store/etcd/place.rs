//! Where the records are in an etcd: `etcd://HOST[:PORT][,HOST[:PORT]…]/PREFIX`.

use std::{fmt, str::FromStr};

/// etcd's port for clients.
const PORT: u16 = 2379;
/// The most members.
const MEMBERS: usize = 16;
/// The longest prefix, in bytes.
const LONGEST_PREFIX: usize = 64;

/// The members of an etcd, and the prefix of a mesh's keys there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// `HOST:PORT` of each member, at least one.
    pub(super) members: Vec<String>,
    /// The prefix, without a slash at either end.
    pub(super) prefix: String,
}

/// A text that is not such a place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}; it is etcd://HOST[:PORT][,HOST[:PORT]…]/PREFIX")]
pub(crate) struct PlaceError(&'static str);

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let rest = text.strip_prefix("etcd://").ok_or(PlaceError("it doesn't begin with etcd://"))?;
        let (hosts, prefix) = rest.split_once('/').ok_or(PlaceError("the prefix is missing"))?;
        let prefix = prefix.trim_matches('/');
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
        if prefix.is_empty() || prefix.len() > LONGEST_PREFIX || !prefix.bytes().all(is_plain) || prefix.contains("//")
        {
            return Err(PlaceError("the prefix is one to 64 letters, digits, dots, hyphens, underscores and slashes"));
        }
        let members = hosts.split(',').map(member).collect::<Result<Vec<_>, _>>()?;
        if members.len() > MEMBERS {
            return Err(PlaceError("there are more than 16 hosts"));
        }
        Ok(Self { members, prefix: prefix.to_owned() })
    }
}

/// `HOST:PORT` of a host with or without a port.
fn member(text: &str) -> Result<String, PlaceError> {
    if text.contains('@') {
        return Err(PlaceError("a user and password belong into the file of --etcd-login"));
    }
    let host = text.trim();
    let after_address = host.rsplit_once(']').map_or(host, |(_, after)| after);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:[]%".contains(&byte);
    if host.is_empty() || !host.bytes().all(is_plain) {
        return Err(PlaceError("a host is missing or no name"));
    }
    match after_address.split_once(':') {
        None => Ok(format!("{host}:{PORT}")),
        Some((_, port)) if port.parse::<u16>().is_ok_and(|port| port > 0) => Ok(host.to_owned()),
        Some(_) => Err(PlaceError("a port is no number, or an IPv6 address is not in brackets")),
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "etcd://{}/{}", self.members.join(","), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_hosts_and_a_prefix() {
        let place: Place = "etcd://e1:2379,e2,[fd00::3],[fd00::4]:99/mesh/eu/".parse().unwrap();
        assert_eq!(place.members, ["e1:2379", "e2:2379", "[fd00::3]:2379", "[fd00::4]:99"]);
        assert_eq!(place.to_string(), "etcd://e1:2379,e2:2379,[fd00::3]:2379,[fd00::4]:99/mesh/eu");
        assert_eq!(place.to_string().parse(), Ok(place));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "http://a/p",
            "etcd://a",
            "etcd://a/",
            "etcd:///p",
            "etcd://a,,b/p",
            "etcd://a:x/p",
            "etcd://fd00::1/p",
            "etcd://root:secret@a/p",
            "etcd://a/p q",
            "etcd://a b/p",
            "etcd://a:0/p",
            "etcd://a/p//q",
        ] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
        let error = "etcd://root:secret@a/p".parse::<Place>().unwrap_err();
        assert!(error.to_string().contains("--etcd-login") && !error.to_string().contains("secret"));
    }
}
