//! Pings and pongs: what runners ask each other inside of a session to learn about a path.
//!
//! An IPv4 packet from 0.0.0.0 to 0.0.0.0 of protocol 253 (RFC 3692, for experiments), which is never delivered to a TUN.
//! An older engine drops it (`not-tcp`), and none is sent to it. Numbers are big-endian:
//!
//! | bytes | ping | pong |
//! |---|---|---|
//! | 20 | IPv4 header | IPv4 header |
//! | 1, 1 | 1, and 0 | 2, and 0 |
//! | 2, 2 | path, serial number | those of the ping |
//! | 2 | – | the length of the ping's packet |
//! | 16, 2 | – | the sender's address and port as the other one sees it, an IPv4 address mapped into IPv6 |
//! | rest | zeros | zeros |

use std::net::{IpAddr, SocketAddr};

use smoltcp::wire::Ipv4Packet;

use crate::packet::IPV4;

/// The protocol number in the IPv4 header.
const PROTOCOL: u8 = 253;

const PING: u8 = 1;
const PONG: u8 = 2;

/// The length of the shortest ping, and of every pong: an answer is never longer than its question.
pub(crate) const SHORT: u16 = 48;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probe {
    Ping(Ping),
    Pong(Pong),
}

/// A question for a packet of `len` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ping {
    /// The number that the sender has given to the path.
    pub(crate) path: u16,
    pub(crate) serial: u16,
    /// The length of the packet in bytes, which is what it is about.
    pub(crate) len: u16,
}

/// The answer to a ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pong {
    pub(crate) path: u16,
    pub(crate) serial: u16,
    pub(crate) len: u16,
    /// Where the ping came from.
    pub(crate) seen: SocketAddr,
}

/// Whether a packet is neither a ping nor a pong, for sure.
#[inline]
fn is_other(packet: &[u8]) -> bool {
    packet.get(9) != Some(&PROTOCOL)
}

/// Reads a ping or a pong; `None` for every other packet.
#[inline]
pub(crate) fn parse(packet: &[u8]) -> Option<Probe> {
    if is_other(packet) { None } else { parse_whole(packet) }
}

#[cold]
fn parse_whole(packet: &[u8]) -> Option<Probe> {
    let len = u16::try_from(packet.len()).ok().filter(|len| *len >= SHORT)?;
    let (header, body) = packet.split_at_checked(IPV4)?;
    // Version and length of the header; no fragment; addresses.
    if header[0] != 0x45 || header[6] & 0x3f != 0 || header[7] != 0 || header[12..] != [0; 8] {
        return None;
    }
    let half = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    let (path, serial) = (half(2), half(4));
    match body[0] {
        PING => Some(Probe::Ping(Ping { path, serial, len })),
        PONG => {
            let address = <[u8; 16]>::try_from(body.get(8..24)?).ok()?;
            let seen = SocketAddr::new(IpAddr::from(address).to_canonical(), half(24));
            Some(Probe::Pong(Pong { path, serial, len: half(6), seen }))
        }
        _ => None,
    }
}

impl Probe {
    /// Writes the packet to the beginning of `room`, which has at least [`SHORT`] bytes and those of a ping, and returns
    /// its length.
    pub(crate) fn write(self, room: &mut [u8]) -> usize {
        let (kind, path, serial, len) = match self {
            Self::Ping(Ping { path, serial, len }) => (PING, path, serial, len),
            Self::Pong(Pong { path, serial, .. }) => (PONG, path, serial, SHORT),
        };
        let packet = &mut room[..usize::from(len)];
        packet.fill(0);
        packet[0] = 0x45;
        let (header, body) = packet.split_at_mut(IPV4);
        let mut ip = Ipv4Packet::new_unchecked(header);
        ip.set_total_len(len);
        ip.set_hop_limit(1);
        ip.set_next_header(PROTOCOL.into());
        ip.fill_checksum();
        body[0] = kind;
        body[2..4].copy_from_slice(&path.to_be_bytes());
        body[4..6].copy_from_slice(&serial.to_be_bytes());
        if let Self::Pong(Pong { len, seen, .. }) = self {
            let address = match seen.ip() {
                IpAddr::V4(address) => address.to_ipv6_mapped(),
                IpAddr::V6(address) => address,
            };
            body[6..8].copy_from_slice(&len.to_be_bytes());
            body[8..24].copy_from_slice(&address.octets());
            body[24..26].copy_from_slice(&seen.port().to_be_bytes());
        }
        usize::from(len)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        Reason,
        packet::{Content, Packet},
        testing::tcp,
    };

    fn written(probe: Probe) -> Vec<u8> {
        let mut room = [0xee; 9000];
        let len = probe.write(&mut room);
        assert!(room[len..].iter().all(|byte| *byte == 0xee));
        room[..len].to_vec()
    }

    fn probe() -> impl Strategy<Value = Probe> {
        let seen = (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port));
        prop_oneof![
            (any::<u16>(), any::<u16>(), SHORT..9000).prop_map(|(path, serial, len)| Probe::Ping(Ping {
                path,
                serial,
                len
            })),
            (any::<u16>(), any::<u16>(), any::<u16>(), seen).prop_map(|(path, serial, len, seen)| Probe::Pong(Pong {
                path,
                serial,
                len,
                seen
            })),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_an_older_engine_can_drop_it(probe in probe()) {
            let packet = written(probe);
            prop_assert_eq!(parse(&packet), Some(probe));
            let read = Packet::parse(&packet).map(|packet| packet.content);
            let is_dropped = matches!(read, Ok(Content::Foreign { why: Reason::NotTcp, .. }));
            prop_assert!(is_dropped);
        }

        #[test]
        fn garbage_is_read_without_a_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..4u8, aimed in any::<bool>(),
        ) {
            if aimed && bytes.len() > 20 {
                bytes[..20].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0, 0, 1, PROTOCOL, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
                bytes[20] = kind;
            }
            let _ = parse(&bytes);
        }
    }

    #[test]
    fn only_packets_between_no_addresses_are_probes() {
        let packet = written(Probe::Ping(Ping { path: 1, serial: 2, len: 48 }));
        for (at, byte) in [(0, 0x46), (6, 0x20), (7, 1), (9, 6), (12, 10), (19, 1), (20, 3)] {
            let mut other = packet.clone();
            other[at] = byte;
            assert_eq!(parse(&other), None, "byte {at}");
        }
        assert_eq!(parse(&packet[..47]), None);
        assert_eq!(parse(&tcp().build()), None);
    }
}
