//! Every reason to drop a packet, with a counter.

use std::fmt;

use mesh_proto::rules::Denial;

macro_rules! reasons {
    ($($variant:ident, $name:literal, $words:literal;)*) => {
        /// Why a packet was dropped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "the `Display` of each reason explains it")]
        pub enum Reason {
            $($variant,)*
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The reason in kebab-case, as `status --json` names it. Never renamed.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }

        /// In words.
        impl fmt::Display for Reason {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $words,)*
                })
            }
        }
    };
}

reasons! {
    // Of packets from anywhere.
    Malformed, "malformed", "not an IPv4 packet that can be read";
    NotIpv4, "not-ipv4", "not IPv4";
    NotTcp, "not-tcp", "only TCP crosses";
    Fragment, "fragment", "fragments don't cross";
    IpOptions, "ip-options", "IP options don't cross";
    TooLarge, "too-large", "larger than a datagram can carry";

    // Verdicts.
    UnknownService, "unknown-service", "unknown service";
    AnotherTeam, "another-team", "another team";
    NoTrust, "no-trust", "no trust";
    PortNotTrusted, "port-not-trusted", "a port outside the trust's ports";
    WrongWay, "wrong-way", "only the other side may open connections";
    OpensFromService, "opens-from-service-address", "connections can't be opened from a service address";
    UnknownDestination, "unknown-destination", "no service or instance known here has this address";
    NoLiveInstance, "no-live-instance", "no live instance";

    // Of connections.
    NoConnection, "no-connection", "of no connection that may be";
    Moved, "left-behind", "from or for an instance that its connection has left";
    TriedAnother, "tried-another", "a refusal that led to another instance";
    TooManyConnections, "too-many-connections", "more connections than a caller or a runner may have";

    // On the way from an instance.
    UnknownPort, "unknown-interface", "from an interface that belongs to no known instance";
    ForgedSource, "forged-source", "sent from an address that isn't the sender's";
    TinySegments, "tiny-segments", "a super-packet of more segments than TCP makes";
    BadChecksum, "bad-checksum", "sent with a checksum that is wrong";
    NotAttached, "not-attached", "the destination's interface isn't back yet";
    StagingFull, "staging-full", "too much waits for the handshake already";
    NoHandshake, "no-handshake", "the runner that it is for doesn't answer";
    RunnerGone, "runner-gone", "the runner is gone";
    RefusalLimited, "refusal-limited", "a refusal that was held back by the limit";

    // On the way from another runner.
    NotWireGuard, "not-wireguard", "not a WireGuard message";
    UnknownRunner, "unknown-runner", "a handshake from an unknown key";
    Departed, "departed", "of a runner or an instance that has just left the map";
    UnknownSession, "unknown-session", "of a session that doesn't exist (any more)";
    BadMac, "bad-mac", "a handshake not meant for this runner";
    UnderLoad, "under-load", "too many handshakes: the sender was asked to prove its address";
    HandshakeLimited, "handshake-limited", "more handshakes than one address or one runner needs";
    HandshakeRejected, "handshake-rejected", "a handshake that is replayed, late or forged";
    NoLane, "no-lane", "a handshake for a lane that this runner doesn't have";
    NotAuthentic, "not-authentic", "failed authentication";
    Replayed, "replayed", "seen before, or too late";
    UnknownSource, "unknown-source", "from an address that is unknown here";
    ForeignSource, "foreign-source", "from an address that isn't on the sending runner";
    NotLocal, "not-local", "for an address that isn't on this runner";
}

impl From<Denial> for Reason {
    fn from(denial: Denial) -> Self {
        match denial {
            Denial::UnknownService => Self::UnknownService,
            Denial::AnotherTeam => Self::AnotherTeam,
            Denial::NoTrust => Self::NoTrust,
            Denial::PortNotTrusted => Self::PortNotTrusted,
            Denial::WrongWay => Self::WrongWay,
        }
    }
}

/// A counter for each reason.
#[derive(Debug)]
pub(crate) struct Drops([u64; Reason::ALL.len()]);

impl Drops {
    pub(crate) const fn new() -> Self {
        Self([0; Reason::ALL.len()])
    }

    pub(crate) const fn count(&mut self, reason: Reason) {
        self.0[reason as usize] += 1;
    }

    pub(crate) const fn add(&mut self, reason: Reason, count: u64) {
        self.0[reason as usize] += count;
    }

    pub(crate) const fn get(&self, reason: Reason) -> u64 {
        self.0[reason as usize]
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.iter().copied().zip(self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_distinct_and_kebab_case() {
        let names: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        assert!(
            names.iter().all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'))
        );
    }

    #[test]
    fn each_reason_has_its_own_counter() {
        let mut drops = Drops::new();
        for (i, reason) in Reason::ALL.iter().enumerate() {
            (0..=i).for_each(|_| drops.count(*reason));
        }
        assert!(drops.all().enumerate().all(|(i, (reason, count))| reason as usize == i && count == i as u64 + 1));
    }
}
