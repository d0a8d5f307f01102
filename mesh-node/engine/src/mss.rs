//! The maximum segment size in a SYN (RFC 9293 §3.7.1), lowered to what the path carries.
//!
//! Nothing depends on it: longer segments are cut. But segments that fit need no cutting, which leaves odd pieces.

use crate::packet::IPV4;

/// The offsets of the checksum and of the options in a packet with an IPv4 header without options.
const CHECKSUM: usize = IPV4 + 16;
const OPTIONS: usize = IPV4 + 20;

/// Kinds of options (RFC 9293 §3.2).
const END: u8 = 0;
const NOTHING: u8 = 1;
const MSS: u8 = 2;

/// Lowers the maximum segment size of the SYN in `packet`, whose headers have `headers` bytes, so that its receiver sends no
/// packet longer than `cut`. The checksum stays as right, or as wrong, as it was.
pub(crate) fn lower(packet: &mut [u8], headers: usize, cut: u16) {
    let most = cut.saturating_sub((IPV4 + 20) as u16);
    let Some(at) = packet.get(..headers).and_then(option) else { return };
    let old = u16::from_be_bytes([packet[at], packet[at + 1]]);
    if old <= most {
        return;
    }
    packet[at..at + 2].copy_from_slice(&most.to_be_bytes());
    // RFC 1624, equation 3. An option at an odd offset lies across two words of the sum.
    let word = |value: u16| if at % 2 == 0 { value } else { value.swap_bytes() };
    let check = u16::from_be_bytes([packet[CHECKSUM], packet[CHECKSUM + 1]]);
    let sum = u32::from(!check) + u32::from(!word(old)) + u32::from(word(most));
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    packet[CHECKSUM..CHECKSUM + 2].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

/// The offset of the maximum segment size in the headers of a segment.
fn option(headers: &[u8]) -> Option<usize> {
    let mut at = OPTIONS;
    loop {
        match (*headers.get(at)?, headers.get(at + 1)) {
            (END, _) => return None,
            (NOTHING, _) => at += 1,
            (MSS, Some(4)) if at + 4 <= headers.len() => return Some(at + 2),
            (_, Some(len)) if *len >= 2 => at += usize::from(*len),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{is_sound, packet, tcp};

    fn lowered(options: &[u8], cut: u16) -> Vec<u8> {
        let mut syn = tcp().syn().options(options).build();
        let (_, parsed) = packet(&syn);
        lower(&mut syn, parsed.headers, cut);
        assert!(is_sound(&syn), "{options:?}");
        syn[OPTIONS..].to_vec()
    }

    #[test]
    fn a_larger_size_is_lowered_and_a_smaller_one_is_kept() {
        assert_eq!(lowered(&[2, 4, 0x05, 0x18, 1, 3, 3, 7], 1184), [2, 4, 0x04, 0x78, 1, 3, 3, 7], "1304 to 1144");
        assert_eq!(lowered(&[2, 4, 0x02, 0x18, 1, 3, 3, 7], 1184), [2, 4, 0x02, 0x18, 1, 3, 3, 7], "536");
        assert_eq!(lowered(&[1, 2, 4, 0xff, 0xff, 1, 1, 0], 1184), [1, 2, 4, 0x04, 0x78, 1, 1, 0], "at an odd offset");
        assert_eq!(lowered(&[4, 2, 2, 4, 0x23, 0, 1, 1], 1184), [4, 2, 2, 4, 0x04, 0x78, 1, 1], "behind another one");
    }

    #[test]
    fn options_without_a_size_or_that_cannot_be_read_are_kept() {
        for options in [&[][..], &[0, 2, 4, 255], &[2, 4, 255, 255][..2], &[3, 0, 2, 4], &[3, 9, 1, 1], &[2, 3, 255, 1]]
        {
            let padded = [options, &[0, 0, 0, 0][options.len() % 4..][..(4 - options.len() % 4) % 4]].concat();
            assert_eq!(lowered(&padded, 1184), padded);
        }
    }

    proptest! {
        #[test]
        fn the_checksum_stays_as_right_as_it_was(
            mut options in proptest::collection::vec(prop_oneof![0..5u8, any::<u8>()], 0..40), cut in 576..9000u16,
        ) {
            options.resize(options.len().next_multiple_of(4), 1);
            let after = lowered(&options, cut);
            prop_assert!(after.len() == options.len());
        }
    }
}
