//! What a datagram is, by its first bytes (RFC 8656 §12, RFC 8489 §5).

/// The magic cookie of STUN.
const COOKIE: [u8; 4] = 0x2112_a442_u32.to_be_bytes();

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// ChannelData.
    Channel,
    /// A STUN request.
    Request,
    /// A STUN indication.
    Indication,
    /// Anything else, also STUN answers, for which a relay never asks.
    Other,
}

impl Kind {
    /// The kind of a message.
    #[must_use]
    pub fn of(message: &[u8]) -> Self {
        let Some((head, rest)) = message.split_first_chunk::<4>() else { return Self::Other };
        match u16::from_be_bytes([head[0], head[1]]) {
            0x4000..=0x4fff => Self::Channel,
            kind @ 0..=0x3fff if rest.starts_with(&COOKIE) => match kind & 0x0110 {
                0x0000 => Self::Request,
                0x0010 => Self::Indication,
                _ => Self::Other,
            },
            _ => Self::Other,
        }
    }
}

/// How much of a batch is of one kind from its beginning on: all successive ChannelData, or one other message. Each
/// datagram but the last has `stride` bytes.
#[must_use]
pub fn run(batch: &[u8], stride: usize) -> (Kind, usize) {
    let stride = stride.clamp(1, batch.len().max(1));
    let mut datagrams = batch.chunks(stride);
    let first = datagrams.next().unwrap_or_default();
    match Kind::of(first) {
        Kind::Channel => {
            let rest = datagrams.take_while(|datagram| Kind::of(datagram) == Kind::Channel);
            (Kind::Channel, first.len() + rest.map(<[u8]>::len).sum::<usize>())
        }
        kind => (kind, first.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_say_what_it_is() {
        let stun = |kind: u16| [&kind.to_be_bytes()[..], &[0, 0], &COOKIE, &[7; 12]].concat();
        assert_eq!(Kind::of(&[0x40, 0, 0, 0]), Kind::Channel);
        assert_eq!(Kind::of(&[0x4f, 0xff, 0, 9]), Kind::Channel);
        assert_eq!(Kind::of(&stun(0x0003)), Kind::Request);
        assert_eq!(Kind::of(&stun(0x0016)), Kind::Indication);
        assert_eq!(Kind::of(&stun(0x0103)), Kind::Other, "an answer");
        assert_eq!(Kind::of(&stun(0x0113)), Kind::Other, "an error");
        for other in [&[][..], &[0x40], &[0x40, 0, 0], &[0x50, 0, 0, 0], &[1, 0, 0, 0, 9, 9, 9, 9], &[0; 148]] {
            assert_eq!(Kind::of(other), Kind::Other, "{other:?}");
        }
    }

    #[test]
    fn channel_data_stays_together_and_the_rest_comes_singly() {
        let channel = [0x40, 0, 0, 0, 1, 2, 3, 4];
        let stun = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
        let batch = [channel, channel, stun, channel].concat();
        assert_eq!(run(&batch, 8), (Kind::Channel, 16));
        assert_eq!(run(&batch[16..], 8), (Kind::Request, 8));
        assert_eq!(run(&batch[24..], 8), (Kind::Channel, 8));
        assert_eq!(run(&batch[..13], 8), (Kind::Channel, 13), "the last one may be shorter");
        assert_eq!(run(&[], 0), (Kind::Other, 0));
    }
}
