//! Data from client to client. A batch stays a batch: two bytes are written into the header of each datagram.

use std::net::SocketAddr;

use mesh_proto::relay::Pseudonym;
use stun_types::{
    message::{Message, MessageClass, MessageType, MessageWriteVec},
    prelude::{MessageWrite as _, MessageWriteExt as _},
};
use turn_types::{
    attribute::{Data, XorPeerAddress},
    message::{DATA, SEND},
};

use super::Relay;
use crate::{
    allocation::{Allocation, Owner},
    message::whole,
    share::Turn,
    time::Now,
    way::{Client, Sink},
};

impl Relay {
    /// Hands ChannelData on (RFC 8656 §12.6): datagrams of `stride` bytes each, of which the last may be shorter. Writes
    /// into the batch. What can't be handed on is counted and dropped.
    pub fn carry(
        &self,
        from: Client,
        batch: &mut [u8],
        stride: usize,
        now: Now,
        turn: &mut Turn,
        sink: &mut impl Sink,
    ) {
        let stride = stride.clamp(1, batch.len().max(1));
        let datagrams = batch.len().div_ceil(stride);
        let Some(sender) = self.table.of(from).filter(|sender| sender.until > now.seconds()) else {
            return self.counters.dropped_unbound.add(datagrams);
        };
        if !turn.admit(&sender.spent, datagrams, batch.len()) {
            return self.counters.dropped_share.add(datagrams);
        }
        let mut rest = batch;
        while !rest.is_empty() {
            let (number, length) = one_channel(rest, stride);
            let (run, tail) = rest.split_at_mut(length);
            match number {
                Some(number) => self.hand_over(sender, number, run, stride, now, sink),
                None => self.counters.dropped_malformed.add(1),
            }
            rest = tail;
        }
    }

    /// Hands on what comes by one channel.
    fn hand_over(
        &self,
        sender: &Allocation,
        number: u16,
        run: &mut [u8],
        stride: usize,
        now: Now,
        sink: &mut impl Sink,
    ) {
        let datagrams = run.len().div_ceil(stride);
        let Some((port, owner)) = sender.channels.peer(number, now.seconds()) else {
            return self.counters.dropped_unbound.add(datagrams);
        };
        let Some(receiver) = self.receiver(port, Some(owner), now) else {
            return self.counters.dropped_unpermitted.add(datagrams);
        };
        self.counters.datagrams.add(datagrams);
        self.counters.bytes.add(run.len());
        match receiver.channels.number(sender.relayed.port(), sender.owner(), now.seconds()) {
            Some(number) => {
                for datagram in run.chunks_mut(stride) {
                    if let Some(head) = datagram.first_chunk_mut::<2>() {
                        *head = number.to_be_bytes();
                    }
                }
                sink.send(&receiver.way, run, stride);
            }
            None => {
                for data in run.chunks(stride).filter_map(payload) {
                    let message = indication(sender.relayed, data, now);
                    sink.send(&receiver.way, &message, message.len());
                }
            }
        }
    }

    /// Hands on a Send indication (RFC 8656 §11.2).
    pub fn indicate(&self, from: Client, message: &[u8], now: Now, turn: &mut Turn, sink: &mut impl Sink) {
        let Some(sender) = self.table.of(from).filter(|sender| sender.until > now.seconds()) else {
            return self.counters.dropped_unbound.add(1);
        };
        if !turn.admit(&sender.spent, 1, message.len()) {
            return self.counters.dropped_share.add(1);
        }
        let Some(message) = whole(message).filter(|message| message.has_method(SEND)) else {
            return self.counters.dropped_malformed.add(1);
        };
        let (Ok(peer), Ok(data)) = (message.attribute::<XorPeerAddress>(), message.attribute::<Data<'_>>()) else {
            return self.counters.dropped_malformed.add(1);
        };
        let peer = peer.addr(message.transaction_id());
        let receiver = self.receiver(peer.port(), None, now).filter(|receiver| receiver.relayed == peer);
        let Some(receiver) = receiver.filter(|_| sender.permitted > now.seconds()) else {
            return self.counters.dropped_unpermitted.add(1);
        };
        self.counters.datagrams.add(1);
        self.counters.bytes.add(data.data().len());
        let message = match receiver.channels.number(sender.relayed.port(), sender.owner(), now.seconds()) {
            Some(number) => channel_data(number, data.data()),
            None => indication(sender.relayed, data.data(), now),
        };
        sink.send(&receiver.way, &message, message.len());
    }

    /// Who has the port, is the same as before if that matters, and permits data.
    fn receiver(&self, port: u16, owner: Option<Owner>, now: Now) -> Option<&Allocation> {
        let receiver = self.table.at(port).filter(|receiver| receiver.takes(now.seconds()))?;
        owner.is_none_or(|owner| receiver.owner() == owner).then_some(receiver)
    }

    /// Whether a client has an allocation.
    #[must_use]
    pub fn knows(&self, client: Client) -> bool {
        self.table.of(client).is_some()
    }

    /// Whether a pseudonym has an allocation.
    #[must_use]
    pub fn has(&self, name: Pseudonym) -> bool {
        self.table.holds(name)
    }
}

/// The channel of the first datagram, and how many bytes of the batch are of it: `None` for one that is broken.
fn one_channel(batch: &[u8], stride: usize) -> (Option<u16>, usize) {
    let mut datagrams = batch.chunks(stride);
    let first = datagrams.next().unwrap_or_default();
    let Some(number) = channel(first) else { return (None, first.len()) };
    let rest = datagrams.take_while(|datagram| channel(datagram) == Some(number));
    (Some(number), first.len() + rest.map(<[u8]>::len).sum::<usize>())
}

/// The channel's number, if the header fits the length: up to three bytes of padding may follow.
fn channel(datagram: &[u8]) -> Option<u16> {
    let head = datagram.first_chunk::<4>()?;
    let length = 4 + usize::from(u16::from_be_bytes([head[2], head[3]]));
    (length..length + 4).contains(&datagram.len()).then_some(u16::from_be_bytes([head[0], head[1]]))
}

fn payload(datagram: &[u8]) -> Option<&[u8]> {
    let (head, data) = datagram.split_first_chunk::<4>()?;
    data.get(..usize::from(u16::from_be_bytes([head[2], head[3]])))
}

fn channel_data(number: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap_or_default();
    [&number.to_be_bytes()[..], &length.to_be_bytes(), data].concat()
}

/// A Data indication (RFC 8656 §11.3). It is never answered, so its transaction identifier only has to be one.
fn indication(from: SocketAddr, data: &[u8], now: Now) -> Vec<u8> {
    let transaction = now.since.as_nanos().into();
    let kind = MessageType::from_class_method(MessageClass::Indication, DATA);
    let mut message = Message::builder(kind, transaction, MessageWriteVec::with_capacity(52 + data.len()));
    let peer = XorPeerAddress::new(from, transaction);
    // A datagram's payload and an address are far from what a message may have.
    let _ = message.add_attribute(&peer).and_then(|()| message.add_attribute(&Data::new(data)));
    message.finish()
}
