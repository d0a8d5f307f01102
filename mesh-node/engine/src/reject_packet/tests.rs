use proptest::prelude::*;

use super::*;
use crate::testing::{ipv4, is_sound, packet, sum, tcp};

#[test]
fn icmp_quotes_what_was_refused() {
    let udp = ipv4([100, 112, 0, 10].into(), [100, 112, 0, 20].into(), 17, &[], &[7; 100]);
    for (code, number) in [(Unreachable::Host, 1), (Unreachable::Prohibited, 13)] {
        let refusal = RejectPacket::unreachable(&udp, &Packet::parse(&udp).unwrap(), code);
        let bytes = &refusal.bytes()[VNET..];
        assert_eq!(refusal.bytes()[..VNET], COMPLETE);
        assert_eq!((bytes[9], &bytes[12..16], &bytes[16..20]), (1, &[100, 112, 0, 20][..], &[100, 112, 0, 10][..]));
        assert_eq!((bytes[20], bytes[21]), (3, number));
        assert_eq!(bytes[28..], udp);
        assert_eq!((sum(&[&bytes[..20]]), sum(&[&bytes[20..]])), (0xffff, 0xffff), "checksums");
    }
}

#[test]
fn icmp_is_at_most_576_bytes_long() {
    let long = tcp().payload(&[7; 5000]).build();
    let refusal = RejectPacket::unreachable(&long, &packet(&long).0, Unreachable::Host);
    assert_eq!(refusal.bytes().len(), VNET + 576);
    assert_eq!(refusal.bytes()[VNET + 28..], long[..548]);
}

fn reset(segment: &[u8]) -> Option<(u32, u32, Flags)> {
    let (parsed, header) = packet(segment);
    let refusal = RejectPacket::reset(&parsed, &header)?;
    let bytes = &refusal.bytes()[VNET..];
    assert!(is_sound(bytes));
    let (answer, tcp) = packet(bytes);
    assert_eq!((answer.source, answer.destination), (parsed.destination, parsed.source));
    assert_eq!((tcp.source_port, tcp.destination_port), (header.destination_port, header.source_port));
    Some((tcp.sequence, tcp.acknowledgment, tcp.flags))
}

/// RFC 9293 §3.10.7.1, the CLOSED state.
#[test]
fn a_reset_is_what_the_sender_believes() {
    const RST_ACK: Flags = Flags(Flags::RST | Flags::ACK);
    assert_eq!(reset(&tcp().payload(b"abc").build()), Some((2000, 0, Flags(Flags::RST))));
    assert_eq!(reset(&tcp().flags(Flags::SYN | Flags::ACK).build()), Some((2000, 0, Flags(Flags::RST))));
    assert_eq!(reset(&tcp().syn().build()), Some((0, 1001, RST_ACK)), "a SYN counts");
    assert_eq!(reset(&tcp().flags(Flags::FIN).payload(b"abc").build()), Some((0, 1004, RST_ACK)), "and so does a FIN");
    assert_eq!(reset(&tcp().flags(0).sequence(u32::MAX).payload(b"abc").build()), Some((0, 2, RST_ACK)));
    assert_eq!(reset(&tcp().flags(Flags::RST).build()), None, "a RST is never answered");
    assert_eq!(reset(&tcp().flags(Flags::RST | Flags::ACK).build()), None);
}

proptest! {
    #[test]
    fn no_reset_answers_a_reset(flags: u8, sequence: u32) {
        let answer = reset(&tcp().flags(flags).sequence(sequence).build());
        prop_assert_eq!(answer.is_none(), flags & Flags::RST != 0);
        prop_assert!(answer.is_none_or(|(_, _, flags)| flags.has(Flags::RST)));
    }
}
