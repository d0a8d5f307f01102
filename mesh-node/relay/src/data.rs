//! The datagrams of peers: wrapped on their way out, found in what arrives.

use std::{net::SocketAddr, ops::Range, time::Instant};

use stun_types::{
    attribute::{Attribute, AttributeStaticType},
    message::{Message, MessageClass},
    prelude::AttributeFromRaw,
};
use turn_types::{
    attribute::{Data, XorPeerAddress},
    message::DATA,
};

use crate::{
    Allocation, Transport,
    frame::{self, HEADER, Kind},
    message,
};

/// Datagrams of one peer, one after another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The address of the peer at the relay.
    pub peer: SocketAddr,
    /// Where they are in what was received.
    pub range: Range<usize>,
    /// The distance in bytes from one to the next. The last may be shorter.
    pub stride: usize,
    /// How many bytes of the relay's precede each datagram.
    pub skip: usize,
}

/// How a batch is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrapped {
    /// As it is: the headers are written.
    Batch,
    /// Each datagram by itself, inside of [`Allocation::indication`].
    Singly,
    /// Not at all. It is counted.
    Not,
}

impl Allocation {
    /// Makes datagrams to a peer ready to be sent. Each of them is `stride` bytes long, the last may be shorter, and
    /// begins with [`HEADER`] bytes, into which the header is written.
    #[inline]
    pub fn wrap(&mut self, peer: SocketAddr, batch: &mut [u8], stride: usize, now: Instant) -> Wrapped {
        let reached = self.relayed().is_some_and(|relayed| relayed.is_ipv4() == peer.is_ipv4());
        // On a stream, datagrams would have to be padded. WireGuard's never have to.
        let padded =
            self.transport() == Transport::Stream && (!batch.len().is_multiple_of(4) || !stride.is_multiple_of(4));
        if !reached || padded || stride <= HEADER {
            self.dropped.unsent += batch.len().div_ceil(stride.max(1)) as u64;
            return Wrapped::Not;
        }
        self.sent = now;
        self.asked = self.asked.or(Some(now));
        let Some(number) = self.channels.number(peer, now) else {
            self.bind_wanted(now);
            return Wrapped::Singly;
        };
        for datagram in batch.chunks_mut(stride) {
            if !frame::write_header(number, datagram) {
                self.dropped.unsent += 1;
                return Wrapped::Not;
            }
        }
        Wrapped::Batch
    }

    /// A message that carries one datagram, without headroom, to a peer that has no channel yet.
    #[must_use]
    pub fn indication(&self, peer: SocketAddr, datagram: &[u8]) -> Vec<u8> {
        message::send(peer, datagram)
    }

    /// Handles what was received from the relay, from `at` on: datagrams of `stride` bytes each, of which the last may be
    /// shorter. Returns the next datagrams of a peer, and moves `at` behind them; `None` at the end. Answers of the relay
    /// are handled on the way, and what is neither is counted.
    pub fn unwrap(&mut self, received: &[u8], stride: usize, at: &mut usize, now: Instant) -> Option<Run> {
        let stride = stride.max(1);
        while let Some(rest) = received.get(*at..).filter(|rest| !rest.is_empty()) {
            let datagram = rest.get(..stride).unwrap_or(rest);
            let begin = *at;
            *at += datagram.len();
            match frame::kind(datagram) {
                Kind::Channel { number, length } => {
                    let whole = length > 0 && HEADER + length <= datagram.len();
                    let Some(peer) = self.channels.peer(number).filter(|_| whole) else {
                        self.dropped.foreign += 1;
                        continue;
                    };
                    self.asked = None;
                    let mut end = begin + HEADER + length;
                    // What follows on the same channel, without padding in between, belongs to it.
                    if end == *at && datagram.len() == stride {
                        end = extend(received, stride, end, number);
                        *at = end;
                    }
                    return Some(Run { peer, range: begin..end, stride, skip: HEADER });
                }
                Kind::Stun { length } if length <= datagram.len() => {
                    if let Some(run) = self.handle_message(&datagram[..length], begin, now) {
                        return Some(run);
                    }
                }
                Kind::Stun { .. } | Kind::Foreign => self.dropped.foreign += 1,
            }
        }
        None
    }

    /// Handles a STUN message that begins at `begin` of what was received. Returns where the datagram of a peer is, if it
    /// carries one.
    pub(crate) fn handle_message(&mut self, bytes: &[u8], begin: usize, now: Instant) -> Option<Run> {
        let message = Message::from_bytes(bytes).ok();
        let data = message.as_ref().filter(|m| m.has_class(MessageClass::Indication) && m.has_method(DATA));
        let run = match (data, &message) {
            (Some(indication), _) => self.data(indication, begin),
            (None, Some(answer)) => {
                if self.handle_answer(answer, now) {
                    self.asked = None;
                    return None;
                }
                None
            }
            (None, None) => None,
        };
        match run {
            Some(_) => self.asked = None,
            None => self.dropped.foreign += 1,
        }
        run
    }

    /// The datagram in a Data indication (RFC 8656 §11.4). Only the relay's own address has our permission.
    fn data(&self, indication: &Message<'_>, begin: usize) -> Option<Run> {
        let (mut peer, mut range) = (None, None);
        for (offset, attribute) in indication.iter_attributes() {
            if attribute.get_type() == XorPeerAddress::TYPE {
                peer = XorPeerAddress::from_raw(attribute).ok();
            } else if attribute.get_type() == Data::TYPE {
                range = Some(offset + 4..offset + 4 + usize::from(attribute.length()));
            }
        }
        let peer = message::canonical(peer?.addr(indication.transaction_id()));
        let range = range.filter(|range| !range.is_empty())?;
        if self.relayed()?.ip() != peer.ip() {
            return None;
        }
        let skip = range.start;
        Some(Run { peer, range: begin..begin + range.end, stride: range.end, skip })
    }
}

/// The end of the datagrams from `at` on that are of the same channel and fill their place. The last one may be shorter.
#[inline]
fn extend(received: &[u8], stride: usize, mut at: usize, number: u16) -> usize {
    while let Some(rest) = received.get(at..).filter(|rest| !rest.is_empty()) {
        let datagram = rest.get(..stride).unwrap_or(rest);
        match frame::kind(datagram) {
            Kind::Channel { number: next, length }
                if next == number && length > 0 && HEADER + length == datagram.len() =>
            {
                at += datagram.len();
            }
            _ => break,
        }
    }
    at
}
