//! Counts the frames on the underlay by kind: only WireGuard, the TLS to the coordinator, and the needs of Ethernet and
//! IPv6 are allowed.

use std::{collections::BTreeMap, fmt, net::Ipv4Addr};

use crate::{packet::protocol, sys::Frame};

/// The coordinator's port.
const CONTROL: u16 = 7443;

/// A count of frames.
#[derive(Debug, Default)]
pub struct Census {
    /// UDP with a WireGuard message in it (wireguard.com/protocol: a type from 1 to 4, then three zeros).
    pub wireguard: usize,
    /// TCP to or from the coordinator's port.
    pub control: usize,
    /// ARP, neighbour discovery, multicast listener reports.
    pub neighbours: usize,
    /// Anything else, with how often.
    pub other: BTreeMap<String, usize>,
    /// Of these, frames with an unencrypted overlay address as source or destination.
    pub of_the_range: usize,
    /// Of these, frames that contain one of the patterns.
    pub with_pattern: usize,
}

impl Census {
    /// Counts `frames`, and looks for addresses of `range` (first address and prefix length) and for `patterns`.
    #[must_use]
    pub fn take(frames: &[Frame], range: (Ipv4Addr, u8), patterns: &[&[u8]]) -> Self {
        let mut census = Self::default();
        for frame in frames {
            census.count(frame, range);
            let found = |pattern: &&[u8]| frame.bytes.windows(pattern.len()).any(|window| window == *pattern);
            census.with_pattern += usize::from(patterns.iter().any(found));
        }
        census
    }

    fn count(&mut self, frame: &Frame, (base, prefix): (Ipv4Addr, u8)) {
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        let inside = |address: Ipv4Addr| u32::from(address) & mask == u32::from(base) & mask;
        let (protocol, body) = match frame.ethertype {
            0x0806 => return self.neighbours += 1,
            0x0800 => {
                let Some(seen) = crate::packet::Seen::parse(&frame.bytes) else { return self.odd("bad IPv4") };
                self.of_the_range += usize::from(inside(seen.source) || inside(seen.destination));
                (seen.protocol, seen.body)
            }
            0x86dd if frame.bytes.len() > 40 => (frame.bytes[6], &frame.bytes[40..]),
            other => return self.odd(&format!("ethertype {other:#06x}")),
        };
        let ports = |body: &[u8]| [(0, 1), (2, 3)].map(|(a, b)| u16::from_be_bytes([body[a], body[b]]));
        match protocol {
            protocol::UDP if body.len() >= 12 && matches!(body[8..12], [1..=4, 0, 0, 0]) => self.wireguard += 1,
            protocol::TCP if body.len() >= 20 && ports(body).contains(&CONTROL) => self.control += 1,
            // Neighbour discovery (RFC 4861: 133 to 137) and listener reports (RFC 3810: 143, behind a hop-by-hop header).
            58 if matches!(body[0], 133..=137) => self.neighbours += 1,
            0 if body.get(8) == Some(&143) => self.neighbours += 1,
            other => self.odd(&format!("IP protocol {other}")),
        }
    }

    fn odd(&mut self, what: &str) {
        *self.other.entry(what.to_owned()).or_default() += 1;
    }
}

impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "WireGuard                      {:>6}", self.wireguard)?;
        writeln!(f, "TLS to the coordinator         {:>6}", self.control)?;
        writeln!(f, "ARP, neighbour discovery       {:>6}", self.neighbours)?;
        for (what, count) in &self.other {
            writeln!(f, "{what:<30} {count:>6}")?;
        }
        writeln!(f, "with an address of the overlay {:>6}", self.of_the_range)?;
        writeln!(f, "with what the services said    {:>6}", self.with_pattern)
    }
}
