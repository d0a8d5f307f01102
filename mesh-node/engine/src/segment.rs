//! From a TCP super-packet to its segments, without moving a payload: each segment's headers are written in front of its
//! payload, over the end of the one before, which has been dealt with by then.

use smoltcp::wire::{Ipv4Packet, TcpPacket, TcpSeqNumber};

use crate::{
    Reason, VNET,
    packet::{Content, Flags, HEADERS, IPV4, Packet, Tcp},
    vnet::{COMPLETE, Vnet, is_vouched_for},
};

/// What one read of a TUN gave: a TCP segment, or a super-packet of several.
pub(crate) struct Unit<'a> {
    /// With its `virtio_net_hdr`.
    pub(crate) octets: &'a mut [u8],
    pub(crate) packet: Packet,
    pub(crate) tcp: Tcp,
    /// For a super-packet the octets of payload in each segment but the last; never zero.
    pub(crate) size: Option<usize>,
    /// Whether the checksum still has to be completed.
    pub(crate) partial: bool,
}

impl Unit<'_> {
    /// Completes the checksum of a segment, or checks it where nobody has: the other end takes it for right from then on.
    /// (Those of a super-packet's segments are made with the segments.)
    ///
    /// # Errors
    /// If it is wrong: what was damaged on the way to us must not become right by being joined with others.
    #[inline]
    pub(crate) fn complete(&mut self) -> Result<(), Reason> {
        match (self.size, self.partial) {
            (Some(_), _) => Ok(()),
            (None, true) => {
                complete(self.octets, &self.packet);
                Ok(())
            }
            (None, false) if is_vouched_for(self.octets) => Ok(()),
            (None, false) => {
                let tcp = TcpPacket::new_unchecked(&self.octets[VNET + IPV4..VNET + self.packet.len]);
                let is_right = tcp.verify_checksum(&self.packet.source.into(), &self.packet.destination.into());
                if is_right { Ok(()) } else { Err(Reason::BadChecksum) }
            }
        }
    }
}

/// The segments of a super-packet, one after another.
pub(crate) struct Segments<'a> {
    /// The super-packet with its `virtio_net_hdr`.
    octets: &'a mut [u8],
    packet: Packet,
    tcp: Tcp,
    template: [u8; HEADERS],
    /// Octets of payload in each segment but the last.
    size: usize,
    /// How many have been cut off.
    cut: usize,
}

impl<'a> Segments<'a> {
    /// Starts with the super-packet in `octets`, [`VNET`] octets of `virtio_net_hdr` first. `packet`, with `tcp` in it,
    /// is what it was parsed to. `size` is not zero.
    pub(crate) fn new(octets: &'a mut [u8], packet: Packet, tcp: Tcp, size: usize) -> Self {
        let mut template = [0; HEADERS];
        template[..tcp.headers].copy_from_slice(&octets[VNET..VNET + tcp.headers]);
        Self { octets, packet, tcp, template, size, cut: 0 }
    }

    /// The next segment, complete, and its length in octets: [`VNET`] octets of `virtio_net_hdr`, then the packet, then
    /// whatever of the super-packet is still to come. What comes before or within may be written over afterwards.
    pub(crate) fn next(&mut self) -> Option<(&mut [u8], usize)> {
        let payload = self.packet.len - self.tcp.headers;
        let offset = self.cut * self.size;
        if offset >= payload && self.cut > 0 {
            return None;
        }
        let part = self.size.min(payload - offset);
        let last = offset + part == payload;
        let (first, cut) = (self.cut == 0, self.cut);
        self.cut += 1;

        let len = self.tcp.headers + part;
        let octets = &mut self.octets[offset..];
        octets[..VNET].copy_from_slice(&COMPLETE);
        let headers = &mut octets[VNET..VNET + self.tcp.headers];
        headers.copy_from_slice(&self.template[..self.tcp.headers]);
        let mut ip = Ipv4Packet::new_unchecked(&mut headers[..IPV4]);
        ip.set_total_len(len as u16);
        ip.set_ident(ip.ident().wrapping_add(cut as u16));
        ip.fill_checksum();
        let mut tcp = TcpPacket::new_unchecked(&mut octets[VNET + IPV4..VNET + len]);
        tcp.set_seq_number(TcpSeqNumber(self.tcp.sequence.wrapping_add(offset as u32) as i32));
        if !last {
            tcp.set_fin(false);
            tcp.set_psh(false);
        }
        if !first {
            tcp.set_cwr(false);
        }
        tcp.fill_checksum(&self.packet.source.into(), &self.packet.destination.into());
        Some((octets, VNET + len))
    }
}

/// Completes the checksum of the segment in `octets`, [`VNET`] octets of `virtio_net_hdr` first, which is cleared.
fn complete(octets: &mut [u8], packet: &Packet) {
    octets[..VNET].copy_from_slice(&COMPLETE);
    TcpPacket::new_unchecked(&mut octets[VNET + IPV4..VNET + packet.len])
        .fill_checksum(&packet.source.into(), &packet.destination.into());
}

/// Cuts a super-packet that a TUN refused to take (`EINVAL`) into packets that it takes: `each` is called with one
/// after another, [`crate::VNET`] octets of `virtio_net_hdr` first. Anything else comes as it is, but with its checksum
/// complete. `packet` is written over.
pub fn split(packet: &mut [u8], mut each: impl FnMut(&[u8])) {
    let parsed = Vnet::parse(packet).and_then(|(vnet, octets)| Ok((vnet, Packet::parse(octets)?)));
    match parsed {
        Ok((Vnet { size: Some(size), .. }, parsed @ Packet { content: Content::Tcp(tcp), .. })) => {
            let mut segments = Segments::new(packet, parsed, tcp, size);
            while let Some((segment, len)) = segments.next() {
                each(&segment[..len]);
            }
        }
        Ok((Vnet { partial: true, .. }, parsed @ Packet { content: Content::Tcp(_), .. })) => {
            complete(packet, &parsed);
            each(&packet[..VNET + parsed.len]);
        }
        _ => each(packet),
    }
}

/// The least that a segment of a super-packet from a TUN carries: what TCP makes of the least MSS that Linux takes from
/// anybody, with all options (`TCP_MIN_SND_MSS` of include/net/tcp.h). Who may write to the interface by itself, past TCP,
/// could have us send a hundred times as much as it gives us otherwise.
const SMALLEST: usize = 8;

/// Whether a super-packet of an instance, with segments of this size and with these flags, can be cut: one that opens, ends
/// badly or is urgent never is one.
pub(crate) const fn is_divisible(size: usize, flags: Flags) -> bool {
    size >= SMALLEST && !flags.has(Flags::SYN) && !flags.has(Flags::RST) && !flags.has(Flags::URG)
}

/// The most segments of a super-packet: as many as of Linux's least MSS (`TCP_MIN_SND_MSS`) go into 64 KiB. One of more
/// would keep all others waiting, and no TCP makes it.
const MOST: usize = 65535 / 48;

/// Of how many segments what was read from a TUN is.
#[inline]
pub(crate) fn count(octets: &[u8]) -> usize {
    match Vnet::parse(octets) {
        Ok((Vnet { size: Some(size), .. }, packet)) => packet.len().saturating_sub(IPV4 + 20).div_ceil(size).max(1),
        _ => 1,
    }
}

/// Whether a super-packet is of more segments than are worth an instance's turn.
#[inline]
pub(crate) const fn is_crumbled(packet: &Packet, tcp: &Tcp, size: usize) -> bool {
    packet.len - tcp.headers > MOST * size
}

#[cfg(test)]
mod tests;
