//! Parses and checks packets.

use std::net::Ipv4Addr;

use mesh_proto::rules;
use smoltcp::wire::{IpProtocol, Ipv4Packet, TcpPacket};

use crate::Reason;

/// The length of an IPv4 header without options, the only kind that crosses.
pub(crate) const IPV4: usize = 20;

/// The longest headers of a TCP segment that crosses: IPv4 without options, TCP with all that fit (RFC 9293 §3.1).
pub(crate) const HEADERS: usize = IPV4 + 60;

/// The offset of the TCP flags in a packet without IPv4 options.
pub(crate) const FLAGS: usize = IPV4 + 13;

/// The flags of a TCP header (RFC 9293 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flags(pub(crate) u8);

impl Flags {
    pub(crate) const FIN: u8 = 0x01;
    pub(crate) const SYN: u8 = 0x02;
    pub(crate) const RST: u8 = 0x04;
    pub(crate) const PSH: u8 = 0x08;
    pub(crate) const ACK: u8 = 0x10;
    pub(crate) const URG: u8 = 0x20;
    pub(crate) const ECE: u8 = 0x40;
    #[cfg(test)]
    pub(crate) const CWR: u8 = 0x80;

    pub(crate) const fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }

    /// Whether the segment opens a connection: SYN without ACK.
    pub(crate) const fn opens(self) -> bool {
        self.0 & (Self::SYN | Self::ACK) == Self::SYN
    }
}

/// An IPv4 packet whose lengths have been checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) source: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
    /// In bytes, by the header. There may be more bytes behind.
    pub(crate) len: usize,
    pub(crate) content: Content,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// A TCP segment, or a super-packet of several.
    Tcp(Tcp),
    /// A packet that doesn't cross.
    Foreign {
        why: Reason,
        /// False for an ICMP error or a later fragment: they are never answered (RFC 1812 §4.3.2.7).
        answerable: bool,
    },
}

/// The header of a TCP segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tcp {
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) sequence: u32,
    pub(crate) acknowledgment: u32,
    pub(crate) flags: Flags,
    /// The offset of the payload from the start of the IPv4 header.
    pub(crate) headers: usize,
}

impl Tcp {
    /// What a verdict depends on.
    pub(crate) const fn segment(&self) -> rules::Segment {
        rules::Segment {
            source_port: self.source_port,
            destination_port: self.destination_port,
            opens: self.flags.opens(),
        }
    }
}

impl Packet {
    /// Parses the packet at the beginning of `bytes`.
    ///
    /// # Errors
    /// If it isn't a valid IPv4 packet. Then it can't be answered.
    #[inline]
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Reason> {
        match bytes.first().map(|first| first >> 4) {
            Some(4) => {}
            Some(_) => return Err(Reason::NotIpv4),
            None => return Err(Reason::Malformed),
        }
        let ip = Ipv4Packet::new_checked(bytes).map_err(|_| Reason::Malformed)?;
        let (header, len) = (usize::from(ip.header_len()), usize::from(ip.total_len()));
        if header < IPV4 || len < header {
            return Err(Reason::Malformed);
        }
        let content = match Self::foreign(&ip) {
            Some(why) => Content::Foreign { why, answerable: ip.frag_offset() == 0 && !is_icmp_error(&ip) },
            None => Content::Tcp(Tcp::parse(&bytes[header..len])?),
        };
        Ok(Self { source: ip.src_addr(), destination: ip.dst_addr(), len, content })
    }

    /// Whether each address is that of one host. Other packets are not answered (RFC 1812 §4.3.2.7, RFC 9293 §3.9.2.3).
    pub(crate) fn is_between_hosts(&self) -> bool {
        let one_host = |address: Ipv4Addr| {
            !address.is_broadcast() && !address.is_multicast() && !address.is_unspecified() && !address.is_loopback()
        };
        one_host(self.source) && one_host(self.destination)
    }

    /// The segment that an ICMP "destination unreachable" without IP options quotes (RFC 792: the header and at least eight
    /// bytes). Only its addresses, ports, sequence number and, if quoted, flags are known.
    pub(crate) fn quoted(bytes: &[u8]) -> Option<(Self, Tcp)> {
        const ICMP: usize = 8;
        let outer = Ipv4Packet::new_checked(bytes).ok()?;
        let error = bytes.get(IPV4..usize::from(outer.total_len()))?;
        let is_error = outer.next_header() == IpProtocol::Icmp && usize::from(outer.header_len()) == IPV4;
        let quoted = error.get(ICMP..).filter(|_| is_error && error[0] == 3 && outer.frag_offset() == 0)?;
        let (header, segment) = quoted.split_at_checked(IPV4)?;
        // The quote may be shorter than the packet, so that it can't be checked as a packet.
        let ip = Ipv4Packet::new_unchecked(header);
        if header[0] != 0x45 || ip.next_header() != IpProtocol::Tcp || ip.frag_offset() != 0 {
            return None;
        }
        let half = |at: usize| Some(u16::from_be_bytes([*segment.get(at)?, *segment.get(at + 1)?]));
        let tcp = Tcp {
            source_port: half(0)?,
            destination_port: half(2)?,
            sequence: u32::from(half(4)?) << 16 | u32::from(half(6)?),
            acknowledgment: 0,
            flags: Flags(segment.get(13).copied().unwrap_or(Flags::SYN)),
            headers: IPV4,
        };
        let packet =
            Self { source: ip.src_addr(), destination: ip.dst_addr(), len: quoted.len(), content: Content::Tcp(tcp) };
        Some((packet, tcp))
    }

    /// The reason why the packet doesn't cross, if there is one.
    fn foreign(ip: &Ipv4Packet<&[u8]>) -> Option<Reason> {
        if ip.more_frags() || ip.frag_offset() != 0 {
            Some(Reason::Fragment)
        } else if usize::from(ip.header_len()) > IPV4 {
            Some(Reason::IpOptions)
        } else if ip.next_header() != IpProtocol::Tcp {
            Some(Reason::NotTcp)
        } else {
            None
        }
    }
}

impl Tcp {
    /// Parses a whole segment behind an IPv4 header of [`IPV4`] bytes.
    #[inline]
    fn parse(segment: &[u8]) -> Result<Self, Reason> {
        let tcp = TcpPacket::new_checked(segment).map_err(|_| Reason::Malformed)?;
        Ok(Self {
            source_port: tcp.src_port(),
            destination_port: tcp.dst_port(),
            sequence: tcp.seq_number().0 as u32,
            acknowledgment: tcp.ack_number().0 as u32,
            flags: Flags(segment[13]),
            headers: IPV4 + usize::from(tcp.header_len()),
        })
    }
}

/// Queries and their answers (RFC 792, RFC 950, RFC 1256) are no errors, and neither are unassigned types.
fn is_icmp_error(ip: &Ipv4Packet<&[u8]>) -> bool {
    ip.next_header() == IpProtocol::Icmp && ip.payload().first().is_none_or(|kind| matches!(kind, 3 | 4 | 5 | 11 | 12))
}

#[cfg(test)]
mod tests;
