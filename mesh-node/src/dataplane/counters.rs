//! Counts what happens at the descriptors.

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Something that happens at a descriptor.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Counter {
            $($(#[$doc])* $name,)*
        }

        const ALL: &[(Counter, &str)] = &[$((Counter::$name, $text),)*];
    };
}

counters! {
    /// The socket's send buffer was full: datagrams dropped.
    UdpSendFull = "udp-send-full",
    /// sendmsg(2) failed otherwise: there is no route, or the host's firewall refuses.
    UdpSendFailed = "udp-send-failed",
    /// The kernel refused a batch, whose datagrams were then sent singly: the route has no `UDP_SEGMENT`.
    UdpGsoUnsupported = "udp-gso-unsupported",
    /// The kernel refused a batch because the datagrams don't fit the route's MTU, or because it is old.
    UdpGsoRefused = "udp-gso-refused",
    /// Batches that weren't tried, because an earlier route of that family had no `UDP_SEGMENT`.
    UdpGsoOff = "udp-gso-off",
    /// The kernel can't receive datagrams in batches (`UDP_GRO`).
    UdpGroUnsupported = "udp-gro-unsupported",
    /// Messages that found the socket's receive buffer full. One may have been a batch of up to 64 datagrams.
    UdpReceiveFull = "udp-receive-full",
    /// Messages longer than any packet, which were truncated: dropped.
    UdpTruncated = "udp-truncated",
    /// Datagrams without content: dropped.
    UdpEmpty = "udp-empty",
    /// recvmmsg(2) failed.
    UdpReceiveFailed = "udp-receive-failed",
    /// Datagrams from a relay's address that are neither its answers nor those of a peer: dropped.
    RelayForeign = "relay-foreign",
    /// Datagrams for a relay at which the runner has no allocation: dropped.
    RelayUnknown = "relay-unknown",
    /// A connection with a relay was full: datagrams dropped.
    RelaySendFull = "relay-send-full",
    /// What an instance sent to its resolver was no question: dropped.
    DnsIgnored = "dns-ignored",
    /// An instance asked its resolver more than its share: dropped.
    DnsLimited = "dns-limited",
    /// A packet for a TUN that was just detached: dropped.
    TunUnknown = "tun-unknown",
    /// A TUN's queue was full: packets dropped.
    TunFull = "tun-full",
    /// The interface is down: packets dropped.
    TunDown = "tun-down",
    /// A TUN without super-packets and partial checksums (`TUNSETOFFLOAD`).
    TunGsoUnsupported = "tun-gso-unsupported",
    /// A TUN refused a super-packet, whose segments were then written singly.
    TunGsoRefused = "tun-gso-refused",
    /// A TUN refused a packet: dropped.
    TunWriteFailed = "tun-write-failed",
    /// Reading a TUN failed; it was given up.
    TunReadFailed = "tun-read-failed",
}

/// All counters.
#[derive(Debug, Default, Clone)]
pub(super) struct Counters([u64; ALL.len()]);

impl Counters {
    pub(super) fn add(&mut self, counter: Counter, n: u64) {
        self.0[counter as usize] = self.0[counter as usize].wrapping_add(n);
    }

    /// Adds those of other descriptors.
    pub(super) fn add_all(&mut self, others: &Self) {
        self.0.iter_mut().zip(others.0).for_each(|(ours, theirs)| *ours = ours.wrapping_add(theirs));
    }

    #[cfg(test)]
    pub(super) fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }

    /// All counters, by name.
    pub(super) fn list(&self) -> Vec<(&'static str, u64)> {
        ALL.iter().map(|&(counter, name)| (name, self.0[counter as usize])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_is_documented() {
        let names: Vec<&str> = ALL.iter().map(|(_, name)| *name).collect();
        mesh_docs_check::names("docs/reference/drop-reasons.md", "counters", &names);
    }
}
