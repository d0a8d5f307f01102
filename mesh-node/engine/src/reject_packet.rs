//! The packets that tell a sender that its packet was rejected: ICMP errors and RSTs.

use std::net::Ipv4Addr;

use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{
        Icmpv4Message, Icmpv4Packet, IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
    },
};

use crate::{
    VNET,
    flow::End,
    packet::{Flags, IPV4, Packet, Tcp},
    vnet::COMPLETE,
};

/// The code of an ICMP "destination unreachable" (RFC 792; RFC 1812 §5.2.7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreachable {
    /// Allowed, but no instance takes it.
    Host = 1,
    /// "Communication administratively prohibited".
    Prohibited = 13,
}

/// A packet that rejects another one, with its `virtio_net_hdr`.
#[derive(Clone)]
pub(crate) struct RejectPacket {
    bytes: [u8; VNET + LONGEST],
    len: usize,
}

/// The longest ICMP error (RFC 1812 §4.3.2.3).
const LONGEST: usize = 576;

/// The header of an ICMP "destination unreachable".
const ICMP: usize = 8;

impl RejectPacket {
    /// An ICMP error for `packet`, which is in `bytes`. Its source is the packet's destination, since the engine has no
    /// address in the mesh.
    pub(crate) fn unreachable(bytes: &[u8], packet: &Packet, code: Unreachable) -> Self {
        let quoted = &bytes[..packet.len.min(LONGEST - IPV4 - ICMP)];
        let mut refusal = Self::new(packet.destination, packet.source, IpProtocol::Icmp, ICMP + quoted.len());
        let mut icmp = Icmpv4Packet::new_unchecked(refusal.payload_mut());
        icmp.set_msg_type(Icmpv4Message::DstUnreachable);
        icmp.set_msg_code(code as u8);
        icmp.data_mut().copy_from_slice(quoted);
        icmp.fill_checksum();
        refusal
    }

    /// A RST for a segment that belongs to no connection (RFC 9293 §3.5.2, group 1, and §3.10.7.1). `None` for a RST,
    /// which is never answered.
    pub(crate) fn reset(packet: &Packet, tcp: &Tcp) -> Option<Self> {
        if tcp.flags.has(Flags::RST) {
            return None;
        }
        let (sequence, acknowledgment) = if tcp.flags.has(Flags::ACK) {
            (tcp.acknowledgment, None)
        } else {
            let controls = u32::from(tcp.flags.has(Flags::SYN)) + u32::from(tcp.flags.has(Flags::FIN));
            let length = (packet.len - tcp.headers) as u32 + controls;
            (0, Some(tcp.sequence.wrapping_add(length)))
        };
        let from = End { address: packet.destination, port: tcp.destination_port };
        let to = End { address: packet.source, port: tcp.source_port };
        Some(Self::abort(from, to, sequence, acknowledgment))
    }

    /// A RST from one end of a connection to the other (RFC 9293 §3.10.7.4). It ends the connection only with exactly the
    /// sequence number that the receiver expects (RFC 5961 §3).
    pub(crate) fn abort(from: End, to: End, sequence: u32, acknowledgment: Option<u32>) -> Self {
        let reset = TcpRepr {
            src_port: from.port,
            dst_port: to.port,
            control: TcpControl::Rst,
            seq_number: TcpSeqNumber(sequence as i32),
            ack_number: acknowledgment.map(|number| TcpSeqNumber(number as i32)),
            window_len: 0,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &[],
        };
        let mut refusal = Self::new(from.address, to.address, IpProtocol::Tcp, reset.buffer_len());
        let mut segment = TcpPacket::new_unchecked(refusal.payload_mut());
        reset.emit(&mut segment, &from.address.into(), &to.address.into(), &ChecksumCapabilities::default());
        refusal
    }

    /// The packet for [`crate::Sink::deliver`].
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The packet without the `virtio_net_hdr`, which may be overwritten.
    pub(crate) fn packet_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[VNET..self.len]
    }

    fn new(source: Ipv4Addr, destination: Ipv4Addr, next_header: IpProtocol, payload_len: usize) -> Self {
        let len = VNET + IPV4 + payload_len;
        let mut bytes = [0; VNET + LONGEST];
        bytes[..VNET].copy_from_slice(&COMPLETE);
        let header = Ipv4Repr { src_addr: source, dst_addr: destination, next_header, payload_len, hop_limit: 64 };
        let mut packet = Ipv4Packet::new_unchecked(&mut bytes[VNET..len]);
        header.emit(&mut packet, &ChecksumCapabilities::default());
        Self { bytes, len }
    }

    fn payload_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[VNET + IPV4..self.len]
    }
}

#[cfg(test)]
mod tests;
