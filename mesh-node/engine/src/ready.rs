//! Sends packets by a session.

use std::time::Instant;

use crate::{
    Reason, Sink, VNET,
    cx::Cx,
    hop::Way,
    mss,
    outbox::Outbox,
    packet::Flags,
    segment::{Segments, Unit},
    tunnel::{self, Tunnel},
};

/// A peer with a session and an endpoint.
pub(crate) struct ReadyPeer<'a> {
    pub(crate) tunnel: &'a mut Tunnel,
    pub(crate) way: Way,
    /// No packet is padded beyond this.
    pub(crate) mtu: usize,
    /// The longest packet for the path, if that is known.
    pub(crate) cut: usize,
    /// A cut that pings have found.
    pub(crate) proven: Option<u16>,
    pub(crate) outbox: &'a mut Outbox,
    pub(crate) tx_bytes: &'a mut u64,
}

impl ReadyPeer<'_> {
    /// Notes whether a unit demands an answer.
    #[inline]
    pub(crate) fn note_question(&mut self, unit: &Unit<'_>, now: Instant) {
        let flags = unit.tcp.flags;
        if unit.packet.len > unit.tcp.headers || flags.has(Flags::SYN | Flags::FIN) {
            self.tunnel.note_question(now);
        }
    }

    /// Sends a packet whose checksum is right, in segments that the path carries. Returns their number.
    ///
    /// # Errors
    /// If it is too long for a datagram, or the session is over.
    #[inline]
    pub(crate) fn send<S: Sink>(&mut self, unit: &mut Unit<'_>, cx: &mut Cx<'_, S>) -> Result<usize, Reason> {
        match unit.piece(self.cut) {
            Some(size) => {
                let (mut segments, mut count) = (Segments::new(unit.bytes, unit.packet, unit.tcp, size), 0);
                while let Some((segment, len)) = segments.next() {
                    self.seal(&mut segment[VNET..], len - VNET, cx)?;
                    count += 1;
                }
                Ok(count)
            }
            None => {
                let packet = &mut unit.bytes[VNET..];
                if unit.tcp.flags.has(Flags::SYN)
                    && let Some(proven) = self.proven
                {
                    mss::lower(packet, unit.tcp.headers, proven);
                }
                self.seal(packet, unit.packet.len, cx).map(|()| 1)
            }
        }
    }

    /// Sends the first `len` bytes of `packet`.
    #[inline]
    pub(crate) fn seal<S: Sink>(&mut self, packet: &mut [u8], len: usize, cx: &mut Cx<'_, S>) -> Result<(), Reason> {
        let sealed = tunnel::sealed_len(len, self.mtu);
        if sealed > crate::MAX_BATCH {
            return Err(Reason::TooLarge);
        }
        let Self { tunnel, mtu, .. } = self;
        let write = |datagram: &mut [u8]| tunnel.seal(packet, len, *mtu, datagram, cx.now) == Some(sealed);
        if !self.outbox.push(self.way, sealed, cx.sink, write) {
            return Err(Reason::NoHandshake);
        }
        *self.tx_bytes += len as u64;
        Ok(())
    }
}
