//! The range of overlay addresses (IPv4), chosen at the coordinator's first start.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::text::as_text;

/// An invalid range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// Not `A.B.C.D/N`.
    #[error("`{0}` is not an IPv4 range: write it as 100.112.0.0/12")]
    Malformed(String),
    /// There are address bits beyond the prefix.
    #[error("`{given}` has bits set beyond its prefix: did you mean {meant}?")]
    HostBits {
        /// The range as written.
        given: String,
        /// The range with those bits cleared.
        meant: Range,
    },
    /// It is too small to be useful, or larger than any private allocation.
    #[error("a range of /{0} is not between /8 and /24")]
    Size(u8),
    /// It is loopback, link-local, multicast or similar, which can't be routed to a TUN device.
    #[error(
        "{0} is set aside for other uses (loopback, link-local, multicast, 0/8 or class E): choose a private range"
    )]
    Reserved(Range),
}

/// An IPv4 range in CIDR notation (RFC 4632).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Range {
    first: Ipv4Addr,
    prefix: u8,
}

impl Range {
    /// `100.112.0.0/12`: within 100.64/10 (RFC 6598), and not used by cloud providers.
    pub const DEFAULT: Self = Self { first: Ipv4Addr::new(100, 112, 0, 0), prefix: 12 };

    /// The first address, the network's own, which is never assigned.
    #[must_use]
    pub const fn first(self) -> Ipv4Addr {
        self.first
    }

    /// The last address, which is never assigned.
    #[must_use]
    pub const fn last(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.first.to_bits() | !self.mask())
    }

    /// The address at which an instance asks for names: the last one that could be assigned. A coordinator since version
    /// 0.3 assigns it to nothing; of an older one the first instance has it.
    #[must_use]
    pub const fn resolver(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.last().to_bits() - 1)
    }

    /// The length of the prefix, in bits.
    #[must_use]
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    const fn mask(self) -> u32 {
        u32::MAX << (32 - self.prefix as u32)
    }

    /// Whether the address is in the range.
    #[must_use]
    pub const fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & self.mask() == self.first.to_bits()
    }

    /// Whether the address can be assigned: it is in the range, and neither the first nor the last address.
    #[must_use]
    pub const fn holds(self, address: Ipv4Addr) -> bool {
        self.contains(address)
            && address.to_bits() != self.first.to_bits()
            && address.to_bits() != self.last().to_bits()
    }

    /// Whether this range and `other/prefix` (0 to 32 bits) have an address in common.
    #[must_use]
    pub const fn overlaps(self, other: Ipv4Addr, prefix: u8) -> bool {
        let shorter = if prefix < self.prefix { prefix } else { self.prefix };
        shorter == 0 || (self.first.to_bits() ^ other.to_bits()) >> (32 - shorter as u32) == 0
    }
}

impl FromStr for Range {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let malformed = || RangeError::Malformed(text.chars().take(40).collect());
        let (address, prefix) = text.split_once('/').ok_or_else(malformed)?;
        let address: Ipv4Addr = address.parse().map_err(|_| malformed())?;
        let prefix: u8 = prefix.parse().ok().filter(|p| *p <= 32).ok_or_else(malformed)?;
        if !(8..=24).contains(&prefix) {
            return Err(RangeError::Size(prefix));
        }
        let first = Ipv4Addr::from_bits(address.to_bits() & (u32::MAX << (32 - u32::from(prefix))));
        let range = Self { first, prefix };
        if first != address {
            return Err(RangeError::HostBits { given: text.to_owned(), meant: range });
        }
        if range.overlaps(Ipv4Addr::UNSPECIFIED, 8)
            || range.overlaps(Ipv4Addr::LOCALHOST, 8)
            || range.overlaps(Ipv4Addr::new(169, 254, 0, 0), 16)
            || range.overlaps(Ipv4Addr::new(224, 0, 0, 0), 3)
        {
            return Err(RangeError::Reserved(range));
        }
        Ok(range)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

as_text!(Range);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked() {
        let range: Range = "100.112.0.0/12".parse().unwrap();
        assert_eq!(range, Range::DEFAULT);
        assert_eq!(range.last(), Ipv4Addr::new(100, 127, 255, 255));
        assert_eq!(range.resolver(), Ipv4Addr::new(100, 127, 255, 254));
        assert!(range.contains(Ipv4Addr::new(100, 120, 1, 2)) && !range.contains(Ipv4Addr::new(100, 111, 255, 255)));
        for (bad, why) in [
            ("100.112.0.0", "is not an IPv4 range"),
            ("fd00::/8", "is not an IPv4 range"),
            ("100.112.0.0/33", "is not an IPv4 range"),
            ("100.112.0.1/12", "did you mean 100.112.0.0/12?"),
            ("10.0.0.0/30", "not between /8 and /24"),
            ("127.0.0.0/8", "set aside"),
            ("169.254.7.0/24", "set aside"),
            ("240.0.0.0/8", "set aside"),
        ] {
            let error = bad.parse::<Range>().unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }

    #[test]
    fn overlap_is_symmetric_in_size() {
        let range: Range = "10.1.0.0/16".parse().unwrap();
        for (address, prefix, expected) in
            [([10, 1, 2, 0], 24, true), ([10, 0, 0, 0], 8, true), ([0, 0, 0, 0], 0, true), ([10, 2, 0, 0], 16, false)]
        {
            assert_eq!(range.overlaps(address.into(), prefix), expected, "{address:?}/{prefix}");
        }
    }
}
