//! Bytes that depend on their position: lost, doubled, changed and reordered bytes are all detected.

use std::{
    io::{self, ErrorKind, Read, Write},
    sync::OnceLock,
};

/// The length is a prime, so that no multiple of a segment's or a buffer's length repeats the same bytes.
const LENGTH: usize = 1_000_003;

/// A position in an endless stream of pseudo-random bytes, which is the same at both ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pattern(usize);

impl Pattern {
    /// The beginning of the stream with this number.
    pub(crate) const fn new(stream: u64) -> Self {
        Self((stream.wrapping_mul(7919) % LENGTH as u64) as usize)
    }

    /// Sends the next `bytes` bytes, in writes of odd sizes: from one byte to more than a super-packet.
    pub(crate) fn send(&mut self, to: &mut impl Write, bytes: u64) -> io::Result<()> {
        let (mut left, mut size) = (bytes, 1);
        while left > 0 {
            let next = self.next(left.min(size));
            size = size * 7 % 131_071;
            to.write_all(next)?;
            left -= next.len() as u64;
            self.skip(next.len());
        }
        Ok(())
    }

    /// Reads the next `bytes` bytes, and checks each of them.
    pub(crate) fn check(&mut self, from: &mut impl Read, bytes: u64) -> io::Result<()> {
        let mut buffer = vec![0; bytes.min(256 << 10) as usize];
        let mut at = 0;
        while at < bytes {
            let expected = self.next(bytes - at);
            let room = buffer.len().min(expected.len());
            let got = from.read(&mut buffer[..room])?;
            if got == 0 {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, format!("the end came after {at} bytes")));
            }
            if buffer[..got] != expected[..got] {
                return Err(io::Error::new(ErrorKind::InvalidData, format!("wrong bytes after {at}")));
            }
            at += got as u64;
            self.skip(got);
        }
        Ok(())
    }

    fn next(self, most: u64) -> &'static [u8] {
        let rest = &bytes()[self.0..];
        &rest[..most.min(rest.len() as u64) as usize]
    }

    const fn skip(&mut self, bytes: usize) {
        self.0 = (self.0 + bytes) % LENGTH;
    }
}

fn bytes() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut next = || {
            // xorshift64
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        let mut bytes: Vec<u8> = std::iter::repeat_with(&mut next).take(LENGTH / 8 + 1).flatten().collect();
        bytes.truncate(LENGTH);
        bytes
    })
}
