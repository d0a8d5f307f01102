use proptest::prelude::*;

use super::*;
use crate::testing::{ipv4, packet, tcp};

const A: Ipv4Addr = Ipv4Addr::new(100, 112, 0, 10);
const B: Ipv4Addr = Ipv4Addr::new(100, 112, 0, 20);

fn foreign(bytes: &[u8]) -> (Reason, bool) {
    match Packet::parse(bytes).unwrap().content {
        Content::Foreign { why, answerable } => (why, answerable),
        Content::Tcp(_) => panic!("TCP"),
    }
}

/// An IPv4 packet with these flags and this fragment offset.
fn fragment(field: u16, protocol: u8) -> Vec<u8> {
    let mut bytes = ipv4(A, B, protocol, &[], &[8; 64]);
    bytes[6..8].copy_from_slice(&field.to_be_bytes());
    bytes
}

#[test]
fn a_segment_is_read() {
    let bytes = tcp().options(&[1, 1, 1, 0]).payload(b"hello").build();
    let (packet, tcp) = packet(&bytes);
    assert_eq!((packet.source, packet.destination, packet.len), (A, B, 49));
    assert_eq!((tcp.source_port, tcp.destination_port, tcp.headers), (40000, 5432, 44));
    assert_eq!((tcp.sequence, tcp.acknowledgment, tcp.flags), (1000, 2000, Flags(Flags::ACK)));
}

#[test]
fn a_syn_opens_whatever_stands_beside_it_unless_it_answers() {
    for (flags, opens) in [
        (Flags::SYN, true),
        (Flags::SYN | Flags::FIN, true),
        (Flags::SYN | Flags::RST | Flags::URG, true),
        (Flags::SYN | Flags::ACK, false),
        (Flags::ACK, false),
        (Flags::RST, false),
        (0, false),
    ] {
        assert_eq!(Flags(flags).opens(), opens, "{flags:#x}");
    }
}

#[test]
fn what_is_not_plain_tcp_is_told_apart() {
    let udp = ipv4(A, B, 17, &[], &[0; 8]);
    assert_eq!(foreign(&udp), (Reason::NotTcp, true));
    assert_eq!(foreign(&ipv4(A, B, 132, &[], &[0; 12])), (Reason::NotTcp, true), "SCTP");
    assert_eq!(foreign(&ipv4(A, B, 6, &[1, 1, 1, 0], &[0; 20])), (Reason::IpOptions, true));
    for protocol in [6, 17] {
        assert_eq!(foreign(&fragment(0x2000, protocol)), (Reason::Fragment, true), "the first one");
        assert_eq!(foreign(&fragment(0x2001, protocol)), (Reason::Fragment, false), "a later one");
        assert_eq!(foreign(&fragment(0x0001, protocol)), (Reason::Fragment, false), "the last one");
    }
}

#[test]
fn icmp_errors_are_never_answered_and_queries_are() {
    for (kind, answerable) in
        [(8, true), (0, true), (13, true), (3, false), (4, false), (5, false), (11, false), (12, false)]
    {
        assert_eq!(foreign(&ipv4(A, B, 1, &[], &[kind, 0, 0, 0, 0, 0, 0, 0])), (Reason::NotTcp, answerable), "{kind}");
    }
    assert_eq!(foreign(&ipv4(A, B, 1, &[], &[])), (Reason::NotTcp, false), "it might be one");
}

#[test]
fn packets_for_many_hosts_are_not_answered() {
    let to = |to: [u8; 4]| Packet::parse(&ipv4(A, to.into(), 17, &[], &[0; 8])).unwrap().is_between_hosts();
    assert!(to([100, 112, 0, 20]) && to([8, 8, 8, 8]));
    assert!(!to([255, 255, 255, 255]) && !to([224, 0, 0, 251]) && !to([0, 0, 0, 0]) && !to([127, 0, 0, 1]));
}

#[test]
fn lengths_that_lie_are_malformed() {
    let good = tcp().payload(b"hello").build();
    assert_eq!(Packet::parse(&[]), Err(Reason::Malformed));
    assert_eq!(Packet::parse(&[0x60; 60]), Err(Reason::NotIpv4));
    for cut in 0..good.len() {
        assert_eq!(Packet::parse(&good[..cut]), Err(Reason::Malformed), "cut to {cut}");
    }
    for (at, value) in [(0, 0x44), (2, 0xff), (3, 19), (3, 39), (32, 0x40), (32, 0xf0)] {
        let mut bad = good.clone();
        bad[at] = value;
        assert_eq!(Packet::parse(&bad), Err(Reason::Malformed), "byte {at} is {value:#x}");
    }
    let longer = [good.as_slice(), &[0; 9]].concat();
    assert_eq!(Packet::parse(&longer).unwrap().len, good.len(), "what follows isn't part of it");
}

proptest! {
    #[test]
    fn whatever_is_read_lies_within(bytes in prop::collection::vec(any::<u8>(), 0..120), first: bool) {
        let mut bytes = bytes;
        if first && bytes.len() > 9 {
            (bytes[0], bytes[9]) = (0x45, 6);
            (bytes[2], bytes[6], bytes[7]) = (0, 0, 0);
        }
        if let Ok(packet) = Packet::parse(&bytes) {
            prop_assert!(packet.len <= bytes.len());
            if let Content::Tcp(tcp) = packet.content {
                prop_assert!(tcp.headers <= packet.len && tcp.headers <= HEADERS && tcp.headers >= 40);
            }
        }
    }
}
