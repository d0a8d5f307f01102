//! IPv4 packets made by hand, including invalid ones, and the fields of captured ones.

use std::net::Ipv4Addr;

/// Protocol numbers (IANA).
pub mod protocol {
    #![expect(missing_docs, reason = "the names say it")]
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const SCTP: u8 = 132;
}

/// TCP flags (RFC 9293 §3.1).
pub mod flag {
    #![expect(missing_docs, reason = "the names say it")]
    pub const FIN: u8 = 1;
    pub const SYN: u8 = 2;
    pub const RST: u8 = 4;
    pub const PSH: u8 = 8;
    pub const ACK: u8 = 16;
}

/// An IPv4 packet to be sent.
#[derive(Debug, Clone)]
pub struct Ipv4 {
    /// The claimed sender.
    pub source: Ipv4Addr,
    /// The destination.
    pub destination: Ipv4Addr,
    /// The protocol.
    pub protocol: u8,
    /// Header options, padded to a multiple of four by [`Ipv4::encode`].
    pub options: Vec<u8>,
    /// Whether more fragments follow.
    pub more_fragments: bool,
    /// The offset of this fragment, in units of eight bytes.
    pub fragment_offset: u16,
    /// The payload.
    pub payload: Vec<u8>,
}

impl Ipv4 {
    /// An ordinary packet.
    #[must_use]
    pub fn new(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: Vec<u8>) -> Self {
        let (options, more_fragments, fragment_offset) = (Vec::new(), false, 0);
        Self { source, destination, protocol, options, more_fragments, fragment_offset, payload }
    }

    /// The packet in wire format.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4), 0);
        let header = 20 + options.len();
        let total = u16::try_from(header + self.payload.len()).expect("a packet of at most 65,535 bytes");
        let fragment = u16::from(self.more_fragments) << 13 | self.fragment_offset;
        let mut packet = vec![0x40 | (header / 4) as u8, 0];
        packet.extend(total.to_be_bytes());
        packet.extend(0x1234u16.to_be_bytes());
        packet.extend(fragment.to_be_bytes());
        packet.extend([64, self.protocol, 0, 0]);
        packet.extend(self.source.octets());
        packet.extend(self.destination.octets());
        packet.extend(options);
        let sum = checksum(&[&packet]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.extend(&self.payload);
        packet
    }
}

/// A TCP segment to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    /// The claimed sender, and its port.
    pub source: (Ipv4Addr, u16),
    /// The destination, and its port.
    pub destination: (Ipv4Addr, u16),
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags of [`flag`].
    pub flags: u8,
    /// Data.
    pub payload: &'a [u8],
}

impl Segment<'_> {
    /// The whole segment without an IP header.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut segment = Vec::new();
        segment.extend(self.source.1.to_be_bytes());
        segment.extend(self.destination.1.to_be_bytes());
        segment.extend(self.seq.to_be_bytes());
        segment.extend(self.ack.to_be_bytes());
        segment.extend([5 << 4, self.flags]);
        segment.extend(65_535u16.to_be_bytes());
        segment.extend([0; 4]);
        segment.extend(self.payload);
        let sum =
            checksum(&[&pseudo_header(self.source.0, self.destination.0, protocol::TCP, segment.len()), &segment]);
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        segment
    }

    /// The segment in an IPv4 packet.
    #[must_use]
    pub fn packet(&self) -> Ipv4 {
        Ipv4::new(self.source.0, self.destination.0, protocol::TCP, self.encode())
    }
}

/// A UDP datagram, without an IP header.
#[must_use]
pub fn udp(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    let length = 8 + payload.len();
    let mut datagram = Vec::new();
    datagram.extend(source.1.to_be_bytes());
    datagram.extend(destination.1.to_be_bytes());
    datagram.extend((length as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    let sum = checksum(&[&pseudo_header(source.0, destination.0, protocol::UDP, length), &datagram]);
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    datagram
}

/// An ICMP echo request (RFC 792).
#[must_use]
pub fn echo_request() -> Vec<u8> {
    let mut message = vec![8, 0, 0, 0, 0x12, 0x34, 0, 1, b'p', b'i', b'n', b'g'];
    let sum = checksum(&[&message]);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// The fields of a captured IPv4 packet.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The sender.
    pub source: Ipv4Addr,
    /// The destination.
    pub destination: Ipv4Addr,
    /// The protocol.
    pub protocol: u8,
    /// The payload.
    pub body: &'a [u8],
}

impl<'a> Seen<'a> {
    /// Parses a packet, if it is IPv4 and long enough.
    #[must_use]
    pub fn parse(packet: &'a [u8]) -> Option<Self> {
        let header = usize::from(packet.first()? & 15) * 4;
        if packet[0] >> 4 != 4 || header < 20 || packet.len() < header {
            return None;
        }
        let address = |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
        let (source, destination) = (address(12), address(16));
        Some(Self { source, destination, protocol: packet[9], body: &packet[header..] })
    }

    /// Type and code, if it is ICMP.
    #[must_use]
    pub fn icmp(&self) -> Option<(u8, u8)> {
        (self.protocol == protocol::ICMP && self.body.len() >= 8).then(|| (self.body[0], self.body[1]))
    }

    /// Source and destination port, if it is TCP or UDP.
    #[must_use]
    pub fn ports(&self) -> Option<(u16, u16)> {
        let known = matches!(self.protocol, protocol::TCP | protocol::UDP) && self.body.len() >= 8;
        let port = |at: usize| u16::from_be_bytes([self.body[at], self.body[at + 1]]);
        known.then(|| (port(0), port(2)))
    }

    /// The sequence number, if it is TCP.
    #[must_use]
    pub fn sequence(&self) -> Option<u32> {
        let number = self.body.get(4..8)?.try_into().ok()?;
        (self.protocol == protocol::TCP).then_some(u32::from_be_bytes(number))
    }

    /// What is equal in retransmissions and nowhere else: of a TCP segment everything but the window, the checksum and
    /// the options.
    #[must_use]
    pub fn content(&self) -> (Ipv4Addr, Ipv4Addr, u8, &'a [u8]) {
        let whole = if self.protocol == protocol::TCP { 14 } else { self.body.len() };
        (self.source, self.destination, self.protocol, &self.body[..whole.min(self.body.len())])
    }

    /// The flags that matter, if it is TCP.
    #[must_use]
    pub fn flags(&self) -> Option<u8> {
        (self.protocol == protocol::TCP && self.body.len() >= 20).then(|| self.body[13] & 0x1f)
    }
}

/// Whether a packet opens a TCP connection: a SYN without ACK.
#[must_use]
pub fn opens(seen: &Seen<'_>) -> bool {
    seen.flags().is_some_and(|flags| flags & (flag::SYN | flag::ACK) == flag::SYN)
}

/// Whether a packet accepts a TCP connection: a SYN with ACK.
#[must_use]
pub fn accepts(seen: &Seen<'_>) -> bool {
    seen.flags().is_some_and(|flags| flags & (flag::SYN | flag::ACK) == flag::SYN | flag::ACK)
}

/// Whether a packet resets a TCP connection.
#[must_use]
pub fn resets(seen: &Seen<'_>) -> bool {
    seen.flags().is_some_and(|flags| flags & flag::RST != 0)
}

fn pseudo_header(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, length: usize) -> Vec<u8> {
    let mut header = Vec::new();
    header.extend(source.octets());
    header.extend(destination.octets());
    header.extend([0, protocol]);
    header.extend((length as u16).to_be_bytes());
    header
}

/// The checksum of RFC 1071. All parts but the last have an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 = words.map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
