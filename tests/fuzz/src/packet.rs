//! IPv4 and TCP, built and parsed independently of the engine. A built packet can be as wrong as the input wants.

use std::net::Ipv4Addr;

use arbitrary::{Result, Unstructured};
use mesh_engine::VNET;

use crate::oracle::checksum;

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

const TCP: u8 = 6;
const ICMP: u8 = 1;

/// A TCP segment, as far as needed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment {
    pub(crate) source: (Ipv4Addr, u16),
    pub(crate) destination: (Ipv4Addr, u16),
    pub(crate) sequence: u32,
    pub(crate) acknowledgment: u32,
    pub(crate) flags: u8,
}

/// The content of an IPv4 packet.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Packet {
    Tcp(Segment),
    /// An ICMP error about a packet from there.
    Unreachable {
        code: u8,
        to: Ipv4Addr,
        about: Ipv4Addr,
    },
    Other,
}

impl Packet {
    /// Reads a packet without `virtio_net_hdr`.
    pub(crate) fn read(ip: &[u8]) -> Self {
        Self::try_read(ip).unwrap_or(Self::Other)
    }

    fn try_read(ip: &[u8]) -> Option<Self> {
        let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(ip.get(at..at + 4)?).ok()?));
        let half = |at: usize| Some(u16::from_be_bytes(ip.get(at..at + 2)?.try_into().ok()?));
        let word = |at: usize| Some(u32::from_be_bytes(ip.get(at..at + 4)?.try_into().ok()?));
        if *ip.first()? != 0x45 || half(6)? & 0x3fff != 0 {
            return None;
        }
        Some(match *ip.get(9)? {
            TCP => Self::Tcp(Segment {
                source: (address(12)?, half(20)?),
                destination: (address(16)?, half(22)?),
                sequence: word(24)?,
                acknowledgment: word(28)?,
                flags: *ip.get(33)?,
            }),
            ICMP if ip.get(20) == Some(&3) => {
                Self::Unreachable { code: *ip.get(21)?, to: address(16)?, about: address(40)? }
            }
            _ => Self::Other,
        })
    }
}

impl Segment {
    pub(crate) const fn opens(&self) -> bool {
        self.flags & (SYN | ACK) == SYN
    }

    /// A segment that the other end might send next.
    pub(crate) fn answer(&self, flags: u8) -> Self {
        let counts = u32::from(self.flags & (SYN | FIN) != 0);
        Self {
            source: self.destination,
            destination: self.source,
            sequence: if self.flags & ACK == 0 { 7000 } else { self.acknowledgment },
            acknowledgment: self.sequence.wrapping_add(counts),
            flags,
        }
    }

    /// The packet, complete.
    pub(crate) fn write(&self, options: &[u8], payload: &[u8]) -> Vec<u8> {
        let length = (20 + options.len() + payload.len()) as u16;
        let mut tcp = Vec::with_capacity(usize::from(length));
        tcp.extend(self.source.1.to_be_bytes());
        tcp.extend(self.destination.1.to_be_bytes());
        tcp.extend(self.sequence.to_be_bytes());
        tcp.extend(self.acknowledgment.to_be_bytes());
        tcp.extend([((20 + options.len()) * 4) as u8, self.flags, 2, 0, 0, 0, 0, 0]);
        tcp.extend(options);
        tcp.extend(payload);
        let pseudo = [&self.source.0.octets()[..], &self.destination.0.octets(), &[0, TCP], &length.to_be_bytes()];
        let sum = checksum(&[&pseudo.concat(), &tcp[..]].concat());
        tcp[16..18].copy_from_slice(&sum);
        ipv4(self.source.0, self.destination.0, TCP, &tcp)
    }
}

/// An ICMP "destination unreachable" about `quoted`.
pub(crate) fn unreachable(from: Ipv4Addr, to: Ipv4Addr, code: u8, quoted: &[u8]) -> Vec<u8> {
    let mut icmp = vec![3, code, 0, 0, 0, 0, 0, 0];
    icmp.extend(quoted);
    let sum = checksum(&icmp);
    icmp[2..4].copy_from_slice(&sum);
    ipv4(from, to, ICMP, &icmp)
}

fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, content: &[u8]) -> Vec<u8> {
    let mut ip = vec![0x45, 0];
    ip.extend(((20 + content.len()) as u16).to_be_bytes());
    ip.extend([0, 1, 0x40, 0, 64, protocol, 0, 0]);
    ip.extend(from.octets());
    ip.extend(to.octets());
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum);
    ip.extend(content);
    ip
}

/// In the format of a TUN's read. `size` makes it a super-packet, unless it is zero.
pub(crate) fn read_from_tun(packet: &[u8], size: u16) -> Vec<u8> {
    let mut bytes = vec![0; VNET];
    if size > 0 {
        (bytes[0], bytes[1]) = (1, 1);
        bytes[4..6].copy_from_slice(&size.to_ne_bytes());
        bytes[6..10].copy_from_slice(&[20u16.to_ne_bytes(), 16u16.to_ne_bytes()].concat());
    }
    bytes.extend(packet);
    bytes
}

/// Damages a packet by the input: mostly not at all.
pub(crate) fn spoil(packet: &mut Vec<u8>, u: &mut Unstructured<'_>) -> Result<()> {
    match u.arbitrary::<u8>()? {
        // A fragment, other protocols, wrong lengths, and so on.
        0 => packet[6..8].copy_from_slice(&u.arbitrary::<[u8; 2]>()?),
        1 => packet[9] = u.arbitrary()?,
        2 => packet[2..4].copy_from_slice(&u.arbitrary::<[u8; 2]>()?),
        3 => packet[0] = u.arbitrary()?,
        4 => packet[32] = u.arbitrary()?,
        5 => packet.truncate(usize::from(u.arbitrary::<u8>()?)),
        6 => packet.extend(vec![0; usize::from(u.arbitrary::<u8>()?)]),
        7 => {
            let at = u.choose_index(packet.len())?;
            packet[at] = u.arbitrary()?;
        }
        _ => {}
    }
    Ok(())
}
