//! Cuts a TCP super-packet into its segments without moving a payload: the headers of each segment are written in front of
//! its payload, over the end of the segment before, which is no longer needed.

use smoltcp::wire::{Ipv4Packet, TcpPacket, TcpSeqNumber};

use crate::{
    Reason, VNET,
    packet::{Content, Flags, HEADERS, IPV4, Packet, Tcp},
    vnet::{COMPLETE, Vnet, is_vouched_for},
};

/// One read of a TUN: a TCP segment, or a super-packet of several.
pub(crate) struct Unit<'a> {
    /// With its `virtio_net_hdr`.
    pub(crate) bytes: &'a mut [u8],
    pub(crate) packet: Packet,
    pub(crate) tcp: Tcp,
    /// For a super-packet, the bytes of payload in each segment but the last; never zero.
    pub(crate) size: Option<usize>,
    /// Whether the checksum still has to be completed.
    pub(crate) partial: bool,
}

impl Unit<'_> {
    /// The bytes of payload in each piece, so that no packet is longer than `cut`; `None` if it is sent as it is. What TCP
    /// never splits (SYN, RST, urgent data) is sent as it is, too long or not.
    #[inline]
    pub(crate) fn piece(&self, cut: usize) -> Option<usize> {
        let most = cut.saturating_sub(self.tcp.headers);
        match self.size {
            Some(size) => Some(size.min(most)),
            None => (self.packet.len > cut && is_divisible(most, self.tcp.flags)).then_some(most),
        }
    }

    /// The length of its longest segment.
    #[inline]
    pub(crate) fn longest(&self) -> usize {
        self.size.map_or(self.packet.len, |size| self.tcp.headers + size)
    }

    /// Completes the checksum of a segment, or verifies it if the kernel hasn't: the other runner trusts it. (The segments
    /// of a super-packet get theirs when they are cut.)
    ///
    /// # Errors
    /// If it is wrong: joining with other segments must not make a damaged one valid.
    #[inline]
    pub(crate) fn complete(&mut self) -> Result<(), Reason> {
        match (self.size, self.partial) {
            (Some(_), _) => Ok(()),
            (None, true) => {
                complete(self.bytes, &self.packet);
                Ok(())
            }
            (None, false) if is_vouched_for(self.bytes) => Ok(()),
            (None, false) => {
                let tcp = TcpPacket::new_unchecked(&self.bytes[VNET + IPV4..VNET + self.packet.len]);
                let is_right = tcp.verify_checksum(&self.packet.source.into(), &self.packet.destination.into());
                if is_right { Ok(()) } else { Err(Reason::BadChecksum) }
            }
        }
    }
}

/// Cuts off one segment after another.
pub(crate) struct Segments<'a> {
    /// The super-packet with its `virtio_net_hdr`.
    bytes: &'a mut [u8],
    packet: Packet,
    tcp: Tcp,
    template: [u8; HEADERS],
    /// Bytes of payload in each segment but the last.
    size: usize,
    /// How many segments are cut off.
    cut: usize,
}

impl<'a> Segments<'a> {
    /// Starts with the super-packet, or the long segment, in `bytes`, [`VNET`] bytes of `virtio_net_hdr` first, which was parsed to `packet` and
    /// `tcp`. `size` is not zero.
    pub(crate) fn new(bytes: &'a mut [u8], packet: Packet, tcp: Tcp, size: usize) -> Self {
        let mut template = [0; HEADERS];
        template[..tcp.headers].copy_from_slice(&bytes[VNET..VNET + tcp.headers]);
        Self { bytes, packet, tcp, template, size, cut: 0 }
    }

    /// The next segment, complete, and its length in bytes: [`VNET`] bytes of `virtio_net_hdr`, then the packet, then the
    /// rest of the super-packet. Everything before the rest may be overwritten afterwards.
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
        let bytes = &mut self.bytes[offset..];
        bytes[..VNET].copy_from_slice(&COMPLETE);
        let headers = &mut bytes[VNET..VNET + self.tcp.headers];
        headers.copy_from_slice(&self.template[..self.tcp.headers]);
        let mut ip = Ipv4Packet::new_unchecked(&mut headers[..IPV4]);
        ip.set_total_len(len as u16);
        ip.set_ident(ip.ident().wrapping_add(cut as u16));
        ip.fill_checksum();
        let mut tcp = TcpPacket::new_unchecked(&mut bytes[VNET + IPV4..VNET + len]);
        tcp.set_seq_number(TcpSeqNumber(self.tcp.sequence.wrapping_add(offset as u32) as i32));
        if !last {
            tcp.set_fin(false);
            tcp.set_psh(false);
        }
        if !first {
            tcp.set_cwr(false);
        }
        tcp.fill_checksum(&self.packet.source.into(), &self.packet.destination.into());
        Some((bytes, VNET + len))
    }
}

/// Completes the checksum of the segment in `bytes` and clears its [`VNET`] bytes of `virtio_net_hdr`.
fn complete(bytes: &mut [u8], packet: &Packet) {
    bytes[..VNET].copy_from_slice(&COMPLETE);
    TcpPacket::new_unchecked(&mut bytes[VNET + IPV4..VNET + packet.len])
        .fill_checksum(&packet.source.into(), &packet.destination.into());
}

/// Cuts a super-packet that a TUN refused (`EINVAL`) into packets that it accepts. `each` is called for every one, with
/// [`crate::VNET`] bytes of `virtio_net_hdr` first. Any other packet is passed unchanged except for a complete checksum.
/// `packet` is overwritten.
pub fn split(packet: &mut [u8], mut each: impl FnMut(&[u8])) {
    let parsed = Vnet::parse(packet).and_then(|(vnet, bytes)| Ok((vnet, Packet::parse(bytes)?)));
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

/// The fewest bytes of payload in a segment of a super-packet from a TUN: what TCP sends with the least MSS that Linux
/// accepts and all options (`TCP_MIN_SND_MSS` of include/net/tcp.h). Otherwise a container that writes to its interface
/// past TCP could make this runner send a hundred times as much.
const SMALLEST: usize = 8;

/// Whether a super-packet of an instance, with segments of this size and with these flags, can be cut. TCP makes none with
/// SYN, RST or URG.
pub(crate) const fn is_divisible(size: usize, flags: Flags) -> bool {
    size >= SMALLEST && !flags.has(Flags::SYN) && !flags.has(Flags::RST) && !flags.has(Flags::URG)
}

/// The most segments of a super-packet: those of Linux's least MSS (`TCP_MIN_SND_MSS`) in 64 KiB. TCP never makes one with
/// more, which would keep other instances waiting.
const MOST: usize = 65535 / 48;

/// The number of segments in a read of a TUN.
#[inline]
pub(crate) fn count(bytes: &[u8]) -> usize {
    match Vnet::parse(bytes) {
        Ok((Vnet { size: Some(size), .. }, packet)) => packet.len().saturating_sub(IPV4 + 20).div_ceil(size).max(1),
        _ => 1,
    }
}

/// Whether a super-packet has more segments than TCP would make.
#[inline]
pub(crate) const fn is_crumbled(packet: &Packet, tcp: &Tcp, size: usize) -> bool {
    packet.len - tcp.headers > MOST * size
}

#[cfg(test)]
mod tests;
