//! Joins segments to super-packets without moving a payload: a segment is decrypted so that its payload lies right behind
//! the group's, and its headers over the group's last bytes, which are saved before and restored after.
//!
//! There is one group at a time, and a segment joins that group or none, so that nothing is delivered out of order.

use smoltcp::wire::{Ipv4Packet, TcpPacket, checksum};

use crate::{
    Port, Sink, UDP_BUFFER, VNET,
    flow::{Role, Slot},
    index::RunnerIx,
    packet::{FLAGS, Flags, HEADERS, IPV4, Packet, Tcp},
    vnet,
};

/// The longest packet in bytes: its length field has 16 bits.
const LONGEST: usize = 65535;

/// Builds super-packets, and holds the buffer in which packets are decrypted.
pub(crate) struct Coalescer {
    /// The group with its `virtio_net_hdr`, then room for one more datagram.
    arena: Box<[u8]>,
    group: Option<Group>,
    /// The bytes that the next packet is decrypted over.
    saved: [u8; HEADERS],
    /// The flow of the last segment, the end that sent it, and the sequence number behind it.
    of: (Slot, Role),
    reached: u32,
    enabled: bool,
}

/// Segments that are delivered as one.
struct Group {
    runner: RunnerIx,
    port: Port,
    packet: Packet,
    tcp: Tcp,
    /// Bytes of payload in each segment.
    size: usize,
    /// The number of segments.
    count: usize,
    /// The end of the group in the arena.
    end: usize,
}

impl Coalescer {
    pub(crate) fn new() -> Self {
        let arena = vec![0; VNET + LONGEST + UDP_BUFFER].into();
        Self { arena, group: None, saved: [0; HEADERS], of: (Slot(0), Role::Caller), reached: 0, enabled: true }
    }

    /// Switches super-packets on or off.
    pub(crate) const fn enable(&mut self, enabled: bool) {
        self.enabled = enabled;
    }

    /// The offset of the next packet in the arena.
    fn start(&self) -> usize {
        self.group.as_ref().map_or(VNET, |group| group.end - group.tcp.headers)
    }

    /// The buffer for the next packet, which goes to its beginning: at least [`UDP_BUFFER`] bytes. A call of
    /// [`Self::join`], [`Self::deliver`] or [`Self::discard`] has to follow.
    pub(crate) fn slot(&mut self) -> &mut [u8] {
        let start = self.start();
        if let Some(group) = &self.group {
            self.saved[..group.tcp.headers].copy_from_slice(&self.arena[start..group.end]);
        }
        &mut self.arena[start..]
    }

    /// The packet of `len` bytes in the slot.
    pub(crate) fn packet(&self, len: usize) -> &[u8] {
        let start = self.start();
        &self.arena[start..start + len]
    }

    /// The same, to be changed.
    pub(crate) fn packet_mut(&mut self, len: usize) -> &mut [u8] {
        let start = self.start();
        &mut self.arena[start..start + len]
    }

    /// Drops the packet in the slot.
    pub(crate) fn discard(&mut self) {
        if let Some(group) = &self.group {
            self.arena[group.end - group.tcp.headers..group.end].copy_from_slice(&self.saved[..group.tcp.headers]);
        }
    }

    /// Adds the packet in the slot, of `len` bytes and from `runner`, to the group, if it continues that. A group that
    /// can't grow any more is delivered.
    #[inline]
    pub(crate) fn join(&mut self, runner: RunnerIx, len: usize, sink: &mut impl Sink) -> bool {
        let Some(group) = &mut self.group else { return false };
        let start = group.end - group.tcp.headers;
        let headers = group.tcp.headers;
        let (earlier, slot) = self.arena.split_at_mut(start);
        let theirs = &slot[..len];
        // The slot may cover the end of the group's own headers.
        let mut ours = [0; HEADERS];
        let intact = headers.min(start - VNET);
        ours[..intact].copy_from_slice(&earlier[VNET..VNET + intact]);
        ours[intact..headers].copy_from_slice(&self.saved[..headers - intact]);

        let payload = len.saturating_sub(headers);
        let joins = group.runner == runner
            && payload > 0
            && payload <= group.size
            && group.end - VNET + payload <= LONGEST
            && follows(&ours[..headers], theirs, group.tcp.sequence.wrapping_add((group.count * group.size) as u32));
        if !joins {
            return false;
        }
        let flags = Flags(theirs[FLAGS]);
        slot[..headers].copy_from_slice(&self.saved[..headers]);
        let ending = flags.0 & (Flags::PSH | Flags::FIN);
        self.arena[VNET + FLAGS] |= ending;
        group.end += payload;
        group.count += 1;
        self.reached = self.reached.wrapping_add(payload as u32);
        if payload < group.size || ending != 0 {
            self.flush(sink);
        }
        true
    }

    /// The flow of the segment that has just joined, the end that sent it, and the sequence number behind it.
    #[inline]
    pub(crate) const fn joined(&self) -> (Slot, Role, u32) {
        (self.of.0, self.of.1, self.reached)
    }

    /// Delivers the packet in the slot to `port`, at once or as the beginning of a new group, after the group before. `of`
    /// is its flow and the end that sent it.
    pub(crate) fn deliver(
        &mut self,
        runner: RunnerIx,
        port: Port,
        of: (Slot, Role),
        packet: &Packet,
        tcp: &Tcp,
        sink: &mut impl Sink,
    ) {
        let start = self.start();
        if let Some(headers) = self.group.as_ref().map(|group| group.tcp.headers) {
            let mut theirs = [0; HEADERS];
            theirs[..headers].copy_from_slice(&self.arena[start..start + headers]);
            self.discard();
            self.flush(sink);
            self.arena[start..start + headers].copy_from_slice(&theirs[..headers]);
            self.arena.copy_within(start..start + packet.len, VNET);
        }
        let size = packet.len - tcp.headers;
        (self.of, self.reached) = (of, tcp.sequence.wrapping_add(size as u32));
        let end = VNET + packet.len;
        let group = Group { runner, port, packet: *packet, tcp: *tcp, size, count: 1, end };
        // The ECN echo may be set in every segment of a group (RFC 3168 §6.1).
        let grows = self.enabled && size > 0 && tcp.flags.0 & !Flags::ECE == Flags::ACK && packet.len < LONGEST;
        self.group = Some(group);
        if !grows {
            self.flush(sink);
        }
    }

    /// Delivers the open group.
    pub(crate) fn flush(&mut self, sink: &mut impl Sink) {
        let Some(group) = self.group.take() else { return };
        let bytes = &mut self.arena[..group.end];
        if group.count == 1 {
            bytes[..VNET].copy_from_slice(&vnet::COMPLETE);
        } else {
            bytes[..VNET].copy_from_slice(&vnet::super_packet(group.tcp.headers, group.size));
            let len = group.end - VNET;
            let mut ip = Ipv4Packet::new_unchecked(&mut bytes[VNET..VNET + IPV4]);
            ip.set_total_len(len as u16);
            ip.fill_checksum();
            let (source, destination) = (group.packet.source.into(), group.packet.destination.into());
            let sum = checksum::pseudo_header(&source, &destination, ip.next_header(), (len - IPV4) as u32);
            TcpPacket::new_unchecked(&mut bytes[VNET + IPV4..]).set_checksum(sum);
        }
        sink.deliver(group.port, bytes);
    }

    /// Drops the group if it is for `port`.
    pub(crate) fn forget(&mut self, port: Port) {
        if self.group.as_ref().is_some_and(|group| group.port == port) {
            self.group = None;
        }
    }
}

/// Whether the packet `theirs` continues a segment with the headers `ours` (both IPv4 without options): its sequence number
/// is `sequence`, and only fields that change from segment to segment differ.
#[inline]
fn follows(ours: &[u8], theirs: &[u8], sequence: u32) -> bool {
    let headers = ours.len();
    // Version, header length, type of service; then total length and identification, which differ; then flags,
    // fragment offset, time to live, protocol; then the checksum, which differs; then addresses and ports.
    let len = theirs.len();
    let Some(theirs) = theirs.get(..headers) else { return false };
    let flags = theirs[FLAGS];
    ours[..2] == theirs[..2]
        && usize::from(u16::from_be_bytes([theirs[2], theirs[3]])) == len
        && ours[6..10] == theirs[6..10]
        && ours[12..IPV4 + 4] == theirs[12..IPV4 + 4]
        && theirs[IPV4 + 4..IPV4 + 8] == sequence.to_be_bytes()
        // The acknowledgment, the length of the headers.
        && ours[IPV4 + 8..FLAGS] == theirs[IPV4 + 8..FLAGS]
        && (ours[FLAGS] ^ flags) & !(Flags::PSH | Flags::FIN) == 0
        // The window; then the checksum, which differs; then urgent pointer and options.
        && ours[FLAGS + 1..FLAGS + 3] == theirs[FLAGS + 1..FLAGS + 3]
        && ours[FLAGS + 5..] == theirs[FLAGS + 5..]
}

#[cfg(test)]
mod tests;
