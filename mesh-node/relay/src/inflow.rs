//! The messages in a stream from a relay (RFC 8656 §12.5): they follow each other, ChannelData padded to four bytes.

use std::time::Instant;

use crate::{
    Allocation, Run,
    frame::{self, HEADER, Kind, STUN_HEADER},
};

/// The stream has something that no relay sends, so that nothing behind it can be found: it has to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// The bytes of a stream that are not handled yet: at most what was given at once, and the beginning of one message.
#[derive(Debug, Default)]
pub struct Inflow {
    bytes: Vec<u8>,
    /// Where the next message begins.
    at: usize,
}

impl Inflow {
    /// Takes the next bytes of the stream. What the last [`Inflow::next`] returned is gone with that.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.at);
        self.at = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next datagrams of a peer, and the bytes that they are in. `None` if all complete messages are handled.
    ///
    /// # Errors
    /// If the stream is no relay's.
    pub fn next(&mut self, allocation: &mut Allocation, now: Instant) -> Result<Option<(Run, &mut [u8])>, Malformed> {
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let Some(length) = message_length(rest)?.filter(|length| *length <= rest.len()) else { return Ok(None) };
            let (begin, mut end) = (self.at, self.at + length);
            // Messages of one length on one channel are a batch, as in a datagram socket.
            while rest.len() >= end - begin + HEADER
                && rest[end - begin..][..HEADER] == rest[..HEADER]
                && rest.len() >= end - begin + length
                && matches!(frame::kind(rest), Kind::Channel { .. })
            {
                end += length;
            }
            let mut at = 0;
            let run = allocation.unwrap(&rest[..end - begin], length, &mut at, now);
            self.at = begin + at;
            if let Some(run) = run {
                let range = begin + run.range.start..begin + run.range.end;
                let bytes = self.bytes.get_mut(range).unwrap_or_default();
                return Ok(Some((Run { range: 0..bytes.len(), ..run }, bytes)));
            }
        }
    }
}

/// The length of the message that begins here, with its padding. `None` if too little of it is here to say.
fn message_length(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    match frame::kind(bytes) {
        Kind::Channel { length, .. } => Ok(Some(HEADER + length.next_multiple_of(4))),
        Kind::Stun { length } => Ok(Some(length)),
        Kind::Foreign => match bytes {
            [] | [0x40..=0x4f] | [0x40..=0x4f, _] | [0x40..=0x4f, _, _] => Ok(None),
            [0..=0x3f, ..] if bytes.len() < STUN_HEADER => Ok(None),
            _ => Err(Malformed),
        },
    }
}
