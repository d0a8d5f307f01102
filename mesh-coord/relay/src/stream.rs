//! Messages on a byte stream (RFC 8656 §12.5, RFC 8489 §6.2.2): each says how long it is, and ChannelData is padded to a
//! multiple of four bytes.

use crate::{
    kind::Kind,
    limits::{MESSAGE, REQUEST},
};

/// A stream that carries something else, or a message that is too long: it has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// What has come on a stream and was not yet used.
#[derive(Debug, Default)]
pub struct Stream {
    buffer: Vec<u8>,
    /// Where the unused bytes begin.
    begin: usize,
}

/// What is kept of an empty buffer.
const KEPT: usize = 4096;

impl Stream {
    /// Takes what came.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.begin == self.buffer.len() {
            self.buffer.clear();
            self.buffer.shrink_to(KEPT);
        } else if self.begin > 0 {
            self.buffer.copy_within(self.begin.., 0);
            self.buffer.truncate(self.buffer.len() - self.begin);
        }
        self.begin = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole messages of one length, one after another, and that length; `None`: there are none yet.
    /// ChannelData comes in batches, anything else singly. `is_known`: whether the client has an allocation, without
    /// which messages are short.
    ///
    /// # Errors
    /// If this is no TURN.
    pub fn next(&mut self, is_known: bool) -> Result<Option<(&mut [u8], usize)>, Malformed> {
        let limit = if is_known { MESSAGE } else { REQUEST };
        let unused = &self.buffer[self.begin..];
        let Some((kind, stride)) = head(unused, limit)? else { return Ok(None) };
        let mut end = stride;
        if unused.len() < end {
            return Ok(None);
        }
        while kind == Kind::Channel
            && unused.len() >= end + stride
            && head(&unused[end..], limit) == Ok(Some((Kind::Channel, stride)))
        {
            end += stride;
        }
        let begin = self.begin;
        self.begin += end;
        Ok(Some((&mut self.buffer[begin..begin + end], stride)))
    }
}

/// The kind of the first message, and its length with padding.
fn head(bytes: &[u8], limit: usize) -> Result<Option<(Kind, usize)>, Malformed> {
    let Some(head) = bytes.first_chunk::<4>() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
    let (kind, length) = match head[0] {
        0x40..=0x4f => (Kind::Channel, (4 + length).next_multiple_of(4)),
        0..=0x3f if bytes.len() < 8 => return Ok(None),
        0..=0x3f => (Kind::of(bytes), 20 + length),
        _ => return Err(Malformed),
    };
    if kind == Kind::Other || length > limit || length % 4 != 0 {
        return Err(Malformed);
    }
    Ok(Some((kind, length)))
}

/// Appends a batch of messages as a stream has them. Each but the last has `stride` bytes; the header of ChannelData
/// says which of them count.
pub fn framed(batch: &[u8], stride: usize, to: &mut Vec<u8>) {
    for message in batch.chunks(stride.max(1)) {
        let length = match message.first_chunk::<4>() {
            Some(head) if Kind::of(message) == Kind::Channel => 4 + usize::from(u16::from_be_bytes([head[2], head[3]])),
            _ => message.len(),
        };
        let message = &message[..length.min(message.len())];
        to.extend_from_slice(message);
        to.resize(to.len() + message.len().next_multiple_of(4) - message.len(), 0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn channel(number: u16, data: &[u8]) -> Vec<u8> {
        [&number.to_be_bytes()[..], &(data.len() as u16).to_be_bytes(), data].concat()
    }

    fn stun(length: usize) -> Vec<u8> {
        [&[0, 1][..], &(length as u16).to_be_bytes(), &[0x21, 0x12, 0xa4, 0x42], &vec![0; 12 + length]].concat()
    }

    #[test]
    fn messages_come_whole_and_equal_ones_together() {
        let data = channel(0x4001, &[9; 40]);
        let bytes = [&stun(8)[..], &data, &data, &data, &channel(0x4001, &[8; 4]), &data[..20]].concat();
        for piece in [1, 3, 20, 1000] {
            let mut stream = Stream::default();
            let mut taken = Vec::new();
            let mut messages = 0;
            for piece in bytes.chunks(piece) {
                stream.push(piece);
                while let Some((batch, stride)) = stream.next(true).unwrap() {
                    assert_eq!(batch.len() % stride, 0);
                    messages += batch.len() / stride;
                    taken.extend_from_slice(batch);
                }
            }
            assert_eq!((taken.as_slice(), messages), (&bytes[..bytes.len() - 20], 5), "in pieces of {piece}");
        }
    }

    #[test]
    fn channel_data_is_padded_on_a_stream_and_only_there() {
        let mut bytes = Vec::new();
        framed(&[channel(0x4000, &[1; 5]), channel(0x4000, &[2; 2])].concat(), 9, &mut bytes);
        assert_eq!(bytes, [0x40, 0, 0, 5, 1, 1, 1, 1, 1, 0, 0, 0, 0x40, 0, 0, 2, 2, 2, 0, 0]);
        let mut stream = Stream::default();
        stream.push(&bytes);
        assert_eq!(stream.next(true).unwrap().map(|(batch, stride)| (batch.len(), stride)), Some((12, 12)));
        assert_eq!(stream.next(true).unwrap().map(|(batch, stride)| (batch.len(), stride)), Some((8, 8)));
    }

    #[test]
    fn what_is_no_turn_or_too_long_ends_the_stream() {
        for bytes in [&b"GET / HTTP/1.1"[..], &[0x16, 3, 1, 2, 0, 1, 0, 1, 252], &[0x80, 0, 0, 0], &stun(6)] {
            let mut stream = Stream::default();
            stream.push(bytes);
            assert_eq!(stream.next(true), Err(Malformed), "{bytes:?}");
        }
        let mut stream = Stream::default();
        stream.push(&[0x40, 0, 0x10, 0]);
        assert_eq!(stream.next(false), Err(Malformed), "4,096 bytes from a stranger");
        assert_eq!(stream.next(true), Ok(None));
        stream.push(&[0; 10]);
    }

    proptest! {
        #[test]
        fn a_stream_of_anything_makes_no_more_than_came(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..20)) {
            let mut stream = Stream::default();
            let (mut came, mut taken) = (0, 0);
            for piece in pieces {
                stream.push(&piece);
                came += piece.len();
                loop {
                    match stream.next(true) {
                        Ok(Some((batch, stride))) => {
                            prop_assert!(stride >= 4 && batch.len() % stride == 0);
                            taken += batch.len();
                        }
                        Ok(None) => break,
                        Err(Malformed) => return Ok(()),
                    }
                }
                prop_assert!(taken <= came);
            }
        }
    }
}
