use proptest::prelude::*;

use super::*;
use crate::testing::{complete, is_sound, packet, tcp};

/// Cuts by the public function.
fn cut(mut bytes: Vec<u8>) -> Vec<Vec<u8>> {
    let mut segments = vec![];
    split(&mut bytes, |segment| segments.push(segment.to_vec()));
    segments
}

#[test]
fn a_super_packet_becomes_its_segments() {
    let payload: Vec<u8> = (0..250).collect();
    let whole = tcp().flags(Flags::ACK | Flags::PSH | Flags::FIN | Flags::CWR).options(&[1, 1, 1, 0]).payload(&payload);
    let segments = cut(whole.read(100));
    let flags = [Flags::ACK | Flags::CWR, Flags::ACK, Flags::ACK | Flags::PSH | Flags::FIN];
    assert_eq!(segments.len(), 3);
    for (i, segment) in segments.iter().enumerate() {
        let expected = whole.clone().flags(flags[i]).sequence(1000 + 100 * i as u32);
        let mut expected = expected.payload(payload.chunks(100).nth(i).unwrap()).build();
        // The identification is incremented (RFC 6864 §4.1 allows it, since these can't be fragmented).
        let mut segment = segment.clone();
        assert_eq!(segment[..VNET], COMPLETE);
        assert!(is_sound(&segment[VNET..]), "segment {i}");
        assert_eq!(segment[VNET + 5], 0x34 + i as u8);
        for field in [4..6, 10..12] {
            segment[VNET..][field.clone()].fill(0);
            expected[field].fill(0);
        }
        assert_eq!(segment[VNET..], expected, "segment {i}");
    }
}

#[test]
fn what_is_no_super_packet_is_completed_only() {
    for payload in [&b""[..], b"x", b"hello"] {
        let segment = tcp().payload(payload);
        assert_eq!(cut(segment.read(1000)), [complete(&segment.build())]);
        assert_eq!(cut(complete(&segment.build())), [complete(&segment.build())]);
    }
    for odd in [&[][..], &[1; 5], &[0xff; 40]] {
        assert_eq!(cut(odd.to_vec()), [odd]);
    }
}

#[test]
fn a_size_beyond_the_payload_is_one_segment() {
    let mut bytes = tcp().payload(&[7; 50]).read(10);
    bytes[4..6].copy_from_slice(&u16::MAX.to_ne_bytes());
    assert_eq!(cut(bytes), [complete(&tcp().payload(&[7; 50]).build())]);
}

proptest! {
    #[test]
    fn every_cut_is_sound_and_whole(
        payload in prop::collection::vec(any::<u8>(), 1..9000),
        size in 1usize..3000,
        words in 0usize..=10,
        sequence: u32,
    ) {
        let whole = tcp().sequence(sequence).options(&[1; 40][..4 * words]).payload(&payload);
        let segments = cut(whole.read(size));
        prop_assert_eq!(segments.len(), payload.len().div_ceil(size));
        let mut joined: Vec<u8> = vec![];
        for segment in &segments {
            prop_assert!(is_sound(&segment[VNET..]));
            let (packet, tcp) = packet(&segment[VNET..]);
            prop_assert_eq!(tcp.sequence, sequence.wrapping_add(joined.len() as u32));
            joined.extend(&segment[VNET + tcp.headers..VNET + packet.len]);
        }
        prop_assert_eq!(joined, payload);
    }

    #[test]
    fn nothing_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..200), genuine: bool, at: usize, to: u8) {
        if genuine {
            bytes = tcp().payload(&bytes).read(30);
        }
        if !bytes.is_empty() {
            let at = at % bytes.len();
            bytes[at] = to;
        }
        cut(bytes);
    }
}
