//! What a datagram from a relay is, by its first bytes (RFC 8656 §12, RFC 7983), and the header of ChannelData.

/// The length in bytes of ChannelData's header, which precedes a datagram to or from a peer: the number of the channel and
/// the length of what follows, two bytes each (RFC 8656 §12.4).
pub const HEADER: usize = 4;

/// The first number of a channel, and the number behind the last (RFC 8656 §12).
pub(crate) const CHANNELS: std::ops::Range<u16> = 0x4000..0x5000;

/// The length in bytes of a STUN message without attributes.
pub(crate) const STUN_HEADER: usize = 20;

/// The third to sixth byte of every STUN message (RFC 8489 §5).
const COOKIE: [u8; 4] = 0x2112_a442_u32.to_be_bytes();

/// What the first bytes of a datagram say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// ChannelData with this channel, and this length without header and padding.
    Channel { number: u16, length: usize },
    /// A STUN message of this length.
    Stun { length: usize },
    /// Neither: nothing that a relay sends.
    Foreign,
}

/// Looks at the first bytes. Nothing is said of whether all bytes are there.
#[inline]
pub(crate) fn kind(bytes: &[u8]) -> Kind {
    match bytes {
        [a @ 0x40..=0x4f, b, c, d, ..] => {
            Kind::Channel { number: u16::from_be_bytes([*a, *b]), length: u16::from_be_bytes([*c, *d]).into() }
        }
        [0..=0x3f, _, a, b, cookie @ ..] if cookie.len() >= STUN_HEADER - 4 && cookie.starts_with(&COOKIE) => {
            let length = usize::from(u16::from_be_bytes([*a, *b]));
            if length.is_multiple_of(4) { Kind::Stun { length: STUN_HEADER + length } } else { Kind::Foreign }
        }
        _ => Kind::Foreign,
    }
}

/// Writes the header of ChannelData into the first bytes of `datagram`. Returns false if the datagram is too short or too
/// long for one.
#[inline]
pub(crate) fn write_header(number: u16, datagram: &mut [u8]) -> bool {
    let Some((header, data)) = datagram.split_at_mut_checked(HEADER) else { return false };
    let Ok(length) = u16::try_from(data.len()) else { return false };
    header[..2].copy_from_slice(&number.to_be_bytes());
    header[2..].copy_from_slice(&length.to_be_bytes());
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_wireguard_sends_is_never_taken_for_a_relays() {
        for first in 1..=4 {
            let mut datagram = [0x21; 148];
            datagram[..4].copy_from_slice(&[first, 0, 0, 0]);
            assert_eq!(kind(&datagram), Kind::Foreign);
        }
        assert_eq!(kind(&[]), Kind::Foreign);
        assert_eq!(kind(&[0x40, 0, 0]), Kind::Foreign);
    }

    proptest! {
        #[test]
        fn a_header_is_read_as_it_was_written(number in CHANNELS, data in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let mut datagram = [&[0; HEADER][..], &data].concat();
            prop_assert!(write_header(number, &mut datagram));
            prop_assert_eq!(kind(&datagram), Kind::Channel { number, length: data.len() });
            prop_assert_eq!(&datagram[HEADER..], &data);
        }

        #[test]
        fn any_bytes_are_of_one_kind(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            match kind(&bytes) {
                Kind::Channel { number, .. } => prop_assert!(CHANNELS.contains(&number)),
                Kind::Stun { length } => prop_assert!(bytes[4..8] == COOKIE && length >= STUN_HEADER),
                Kind::Foreign => {}
            }
        }
    }
}
