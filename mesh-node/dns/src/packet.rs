//! The packets of questions and answers by UDP.

use std::net::Ipv4Addr;

use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{IpProtocol, Ipv4Packet, Ipv4Repr, TcpPacket, UdpPacket, UdpRepr},
};

use crate::PORT;

/// A packet for the resolver. Checksums are the kernel's, which leaves them to be completed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Inbound<'a> {
    /// A question by UDP.
    Udp { source: Ipv4Addr, port: u16, question: &'a [u8] },
    /// A segment of a connection.
    Tcp { source: Ipv4Addr, port: u16, opens: bool },
}

impl<'a> Inbound<'a> {
    /// `None`: not for the resolver's port, or not whole.
    pub(crate) fn parse(packet: &'a [u8], resolver: Ipv4Addr) -> Option<Self> {
        let ip = Ipv4Packet::new_checked(packet).ok()?;
        let whole = ip.version() == 4 && ip.header_len() == 20 && !ip.more_frags() && ip.frag_offset() == 0;
        if ip.dst_addr() != resolver || !whole {
            return None;
        }
        let (source, payload) = (ip.src_addr(), packet.get(20..usize::from(ip.total_len()))?);
        match ip.next_header() {
            IpProtocol::Udp => {
                let udp = UdpPacket::new_checked(payload).ok().filter(|udp| udp.dst_port() == PORT)?;
                let question = payload.get(8..usize::from(udp.len()))?;
                Some(Self::Udp { source, port: udp.src_port(), question })
            }
            IpProtocol::Tcp => {
                let tcp = TcpPacket::new_checked(payload).ok().filter(|tcp| tcp.dst_port() == PORT)?;
                Some(Self::Tcp { source, port: tcp.src_port(), opens: tcp.syn() && !tcp.ack() })
            }
            _ => None,
        }
    }
}

/// The packet of an answer by UDP.
pub(crate) fn datagram(from: Ipv4Addr, to: Ipv4Addr, port: u16, answer: &[u8]) -> Vec<u8> {
    let udp = UdpRepr { src_port: PORT, dst_port: port };
    let ip = Ipv4Repr {
        src_addr: from,
        dst_addr: to,
        next_header: IpProtocol::Udp,
        payload_len: udp.header_len() + answer.len(),
        hop_limit: 64,
    };
    let (caps, mut bytes) = (ChecksumCapabilities::default(), vec![0; ip.buffer_len() + ip.payload_len]);
    let mut packet = Ipv4Packet::new_unchecked(&mut bytes);
    ip.emit(&mut packet, &caps);
    let mut datagram = UdpPacket::new_unchecked(packet.payload_mut());
    let fill = |at: &mut [u8]| at.copy_from_slice(answer);
    udp.emit(&mut datagram, &from.into(), &to.into(), answer.len(), fill, &caps);
    bytes
}
