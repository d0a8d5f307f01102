//! The IPv4 and TCP of the simulated hosts: without options, with at most one byte of data, and with valid checksums.

use std::net::Ipv4Addr;

pub(crate) const VNET: usize = mesh_engine::VNET;
pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

/// A segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tcp {
    pub(crate) source: (Ipv4Addr, u16),
    pub(crate) destination: (Ipv4Addr, u16),
    pub(crate) sequence: u32,
    /// Meaningless without ACK.
    pub(crate) acknowledgment: u32,
    pub(crate) flags: u8,
    /// The one byte of data, if any. [`Self::FORGED`] marks data that must never arrive.
    pub(crate) data: Option<u8>,
}

/// A packet from a TUN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    Tcp(Tcp),
    /// A destination unreachable with this code, about a segment from this port to that end.
    Unreachable {
        code: u8,
        port: u16,
        destination: (Ipv4Addr, u16),
    },
    Other,
}

impl Tcp {
    pub(crate) const FORGED: u8 = 0xEE;

    pub(crate) const fn opens(&self) -> bool {
        self.flags & (SYN | ACK) == SYN
    }

    /// In the format of a TUN with `IFF_VNET_HDR`: `virtio_net_hdr` of zeros, then the packet.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let length = 40 + u16::from(self.data.is_some());
        let mut tcp = Vec::with_capacity(21);
        tcp.extend(self.source.1.to_be_bytes());
        tcp.extend(self.destination.1.to_be_bytes());
        tcp.extend(self.sequence.to_be_bytes());
        tcp.extend(self.acknowledgment.to_be_bytes());
        tcp.extend([5 << 4, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        tcp.extend(self.data);
        let pseudo =
            [&self.source.0.octets()[..], &self.destination.0.octets(), &[0, 6], &(length - 20).to_be_bytes()].concat();
        let sum = checksum(&[&pseudo, &tcp[..]].concat());
        tcp[16..18].copy_from_slice(&sum);

        let mut ip = vec![0x45, 0];
        ip.extend(length.to_be_bytes());
        ip.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        ip.extend(self.source.0.octets());
        ip.extend(self.destination.0.octets());
        let sum = checksum(&ip);
        ip[10..12].copy_from_slice(&sum);
        [vec![0; VNET], ip, tcp].concat()
    }
}

/// Reads a packet that was written to a TUN, `virtio_net_hdr` first.
pub(crate) fn read(bytes: &[u8]) -> Read {
    let Some(ip) = bytes.get(VNET..) else { return Read::Other };
    match ip.get(9) {
        Some(6) => tcp(ip).map_or(Read::Other, Read::Tcp),
        Some(1) if ip.get(20) == Some(&3) => {
            let about = ip.get(28..).and_then(ports);
            let code = ip.get(21).copied();
            match (about, code) {
                (Some((source, destination)), Some(code)) => Read::Unreachable { code, port: source.1, destination },
                _ => Read::Other,
            }
        }
        _ => Read::Other,
    }
}

type Ends = ((Ipv4Addr, u16), (Ipv4Addr, u16));

fn ports(ip: &[u8]) -> Option<Ends> {
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(ip.get(at..at + 4)?).ok()?));
    let port = |at: usize| Some(u16::from_be_bytes(ip.get(at..at + 2)?.try_into().ok()?));
    Some(((address(12)?, port(20)?), (address(16)?, port(22)?)))
}

fn tcp(ip: &[u8]) -> Option<Tcp> {
    let (source, destination) = ports(ip)?;
    let word = |at: usize| Some(u32::from_be_bytes(ip.get(at..at + 4)?.try_into().ok()?));
    let (sequence, acknowledgment) = (word(24)?, word(28)?);
    let header = 20 + usize::from(ip.get(32)? >> 4) * 4;
    Some(Tcp { source, destination, sequence, acknowledgment, flags: *ip.get(33)?, data: ip.get(header).copied() })
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], *w.get(1).unwrap_or(&0)])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}
