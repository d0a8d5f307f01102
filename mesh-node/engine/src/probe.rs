//! Pings and pongs, by which runners learn about a path, and messages of meetings, by which they find one. All go inside of
//! a session.
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
//!
//! A message of a meeting, which goes only to runners that can be reached by a relay (`relays-1`):
//!
//! | bytes | |
//! |---|---|
//! | 20 | IPv4 header |
//! | 1, 1 | 3, and 1 if it is an answer, else 0 |
//! | 1, 1 | the number of addresses, and 0 |
//! | 16, 2 | for each of them: address and port, an IPv4 address mapped into IPv6 |
//! | rest | zeros |

use std::net::{IpAddr, SocketAddr};

use smoltcp::wire::Ipv4Packet;

use crate::packet::IPV4;

/// The protocol number in the IPv4 header.
const PROTOCOL: u8 = 253;

const PING: u8 = 1;
const PONG: u8 = 2;
const MEET: u8 = 3;

/// The most addresses in one message of a meeting, and where they begin behind the header.
pub(crate) const ADDRESSES: usize = 8;
const FIRST: usize = 4;
const ADDRESS: usize = 18;

/// The length of every message of a meeting.
pub(crate) const MEETING: u16 = (IPV4 + FIRST + ADDRESSES * ADDRESS) as u16;

/// The length of the shortest ping, and of every pong: an answer is never longer than its question.
pub(crate) const SHORT: u16 = 48;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Probe {
    Ping(Ping),
    Pong(Pong),
    Meet(Meet),
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

/// The sender's addresses, to which the other runner sends pings while the sender does the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Meet {
    /// Whether it answers another one, so that it isn't answered.
    pub(crate) is_answer: bool,
    /// At most [`ADDRESSES`].
    addresses: Vec<SocketAddr>,
}

impl Meet {
    /// With the first [`ADDRESSES`] of these.
    pub(crate) fn new(is_answer: bool, all: &[SocketAddr]) -> Self {
        Self { is_answer, addresses: all.iter().take(ADDRESSES).copied().collect() }
    }

    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    fn parse(body: &[u8]) -> Option<Self> {
        let count = usize::from(body[2]);
        if count > ADDRESSES || body.len() < FIRST + count * ADDRESS {
            return None;
        }
        let addresses = body[FIRST..].chunks_exact(ADDRESS).take(count).map(address);
        Some(Self { is_answer: body[1] == 1, addresses: addresses.collect::<Option<_>>()? })
    }

    fn write(&self, body: &mut [u8]) {
        (body[1], body[2]) = (u8::from(self.is_answer), self.addresses.len() as u8);
        for (at, room) in self.addresses().iter().zip(body[FIRST..].chunks_exact_mut(ADDRESS)) {
            write_address(*at, room);
        }
    }
}

/// Reads an address and a port.
fn address(bytes: &[u8]) -> Option<SocketAddr> {
    let (address, port) = bytes.split_first_chunk::<16>()?;
    let port = port.first_chunk().map(|port| u16::from_be_bytes(*port))?;
    Some(SocketAddr::new(IpAddr::from(*address).to_canonical(), port))
}

fn write_address(at: SocketAddr, room: &mut [u8]) {
    let address = match at.ip() {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    room[..16].copy_from_slice(&address.octets());
    room[16..18].copy_from_slice(&at.port().to_be_bytes());
}

/// Whether a packet is none of these, for sure.
#[inline]
fn is_other(packet: &[u8]) -> bool {
    packet.get(9) != Some(&PROTOCOL)
}

/// Reads a ping, a pong or a message of a meeting; `None` for every other packet.
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
            let seen = address(body.get(8..26)?)?;
            Some(Probe::Pong(Pong { path, serial, len: half(6), seen }))
        }
        MEET => Meet::parse(body).map(Probe::Meet),
        _ => None,
    }
}

impl Probe {
    /// Writes the packet to the beginning of `room`, which has at least [`SHORT`] bytes and those of a ping, and returns
    /// its length.
    pub(crate) fn write(&self, room: &mut [u8]) -> usize {
        let (kind, path, serial, len) = match *self {
            Self::Ping(Ping { path, serial, len }) => (PING, path, serial, len),
            Self::Pong(Pong { path, serial, .. }) => (PONG, path, serial, SHORT),
            Self::Meet(_) => (MEET, 0, 0, MEETING),
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
        match self {
            Self::Ping(_) => {}
            Self::Pong(Pong { len, seen, .. }) => {
                body[6..8].copy_from_slice(&len.to_be_bytes());
                write_address(*seen, &mut body[8..26]);
            }
            Self::Meet(meet) => meet.write(body),
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

    fn written(probe: &Probe) -> Vec<u8> {
        let mut room = [0xee; 9000];
        let len = probe.write(&mut room);
        assert!(room[len..].iter().all(|byte| *byte == 0xee));
        room[..len].to_vec()
    }

    fn address() -> impl Strategy<Value = SocketAddr> {
        (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port))
    }

    fn probe() -> impl Strategy<Value = Probe> {
        let seen = address();
        let meet = (any::<bool>(), proptest::collection::vec(address(), 0..=ADDRESSES));
        prop_oneof![
            meet.prop_map(|(is_answer, all)| Probe::Meet(Meet::new(is_answer, &all))),
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
            let packet = written(&probe);
            prop_assert_eq!(parse(&packet), Some(probe));
            let read = Packet::parse(&packet).map(|packet| packet.content);
            let is_dropped = matches!(read, Ok(Content::Foreign { why: Reason::NotTcp, .. }));
            prop_assert!(is_dropped);
        }

        #[test]
        fn garbage_is_read_without_a_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..5u8, aimed in any::<bool>(),
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
        let packet = written(&Probe::Ping(Ping { path: 1, serial: 2, len: 48 }));
        for (at, byte) in [(0, 0x46), (6, 0x20), (7, 1), (9, 6), (12, 10), (19, 1), (20, 4)] {
            let mut other = packet.clone();
            other[at] = byte;
            assert_eq!(parse(&other), None, "byte {at}");
        }
        assert_eq!(parse(&packet[..47]), None);
        assert_eq!(parse(&tcp().build()), None);
    }
}
