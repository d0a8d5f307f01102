use proptest::prelude::*;

use super::*;
use crate::{
    split,
    testing::{Recorder, Segment, complete, is_sound, packet, sum, tcp},
};

const PORT: Port = Port(3);

/// Passes decrypted segments to a coalescer and returns its deliveries.
fn coalesce<'a>(segments: impl IntoIterator<Item = (u32, &'a [u8])>) -> Vec<Vec<u8>> {
    let (mut coalescer, mut sink) = (Coalescer::new(), Recorder::default());
    for (runner, bytes) in segments {
        take(&mut coalescer, runner, bytes, &mut sink);
    }
    coalescer.flush(&mut sink);
    sink.delivered.into_iter().map(|(port, bytes)| (assert_eq!(port, PORT), bytes).1).collect()
}

fn take(coalescer: &mut Coalescer, runner: u32, bytes: &[u8], sink: &mut Recorder) {
    let slot = coalescer.slot();
    assert!(slot.len() >= UDP_BUFFER);
    slot[..bytes.len()].copy_from_slice(bytes);
    // Decryption leaves the authentication code behind the packet.
    slot[bytes.len()..][..16].fill(0xee);
    if !coalescer.join(RunnerIx(runner), bytes.len(), sink) {
        assert_eq!(coalescer.packet(bytes.len()), bytes);
        let (packet, tcp) = packet(bytes);
        coalescer.deliver(RunnerIx(runner), PORT, (Slot(0), Role::Caller), &packet, &tcp, sink);
    }
}

fn one_by_one(segments: &[Segment]) -> Vec<Vec<u8>> {
    let built: Vec<_> = segments.iter().map(Segment::build).collect();
    coalesce(built.iter().map(|bytes| (0, bytes.as_slice())))
}

/// Segments of 100 bytes in a row.
fn row(count: u32) -> Vec<Segment> {
    (0..count).map(|i| tcp().sequence(1000 + 100 * i).payload(&[i as u8; 100])).collect()
}

#[test]
fn segments_in_a_row_become_a_super_packet_as_the_kernel_makes_them() {
    let mut segments = row(5);
    segments[4] = segments[4].clone().flags(Flags::ACK | Flags::PSH).payload(&[4; 30]);
    let whole: Vec<u8> = segments.iter().flat_map(|s| s.payload.clone()).collect();
    let expected = tcp().flags(Flags::ACK | Flags::PSH).payload(&whole).read(100);
    assert_eq!(one_by_one(&segments), [expected]);
}

#[test]
fn the_end_of_a_row_is_where_something_differs() {
    let differing: [fn(Segment) -> Segment; 12] = [
        |s| s.source_port(40001),
        |s| s.ports(40000, 80),
        |s| s.between([100, 112, 0, 11].into(), [100, 112, 0, 20].into()),
        |s| s.between([100, 112, 0, 10].into(), [100, 112, 0, 21].into()),
        |s| s.sequence(1201),
        |s| s.sequence(1199),
        |s| Segment { acknowledgment: 2001, ..s },
        |s| Segment { window: 513, ..s },
        |s| s.options(&[1, 1, 1, 1]),
        |s| s.flags(Flags::ACK | Flags::ECE),
        |s| s.flags(Flags::ACK | Flags::CWR),
        |s| s.payload(&[9; 101]),
    ];
    for (i, differ) in differing.into_iter().enumerate() {
        let mut segments = row(3);
        segments[2] = differ(segments[2].clone());
        let delivered = one_by_one(&segments);
        assert_eq!(delivered.len(), 2, "difference {i}");
        assert_eq!(delivered[0].len(), VNET + 40 + 200, "difference {i}");
        assert_eq!(delivered[1], complete(&segments[2].build()), "difference {i}");
    }
}

#[test]
fn fields_of_the_ip_header_must_be_equal_too() {
    // Type of service, flags (don't fragment), time to live: with the checksum corrected.
    for (at, value) in [(1, 0x02), (6, 0x00), (8, 63)] {
        let mut bytes: Vec<Vec<u8>> = row(2).iter().map(Segment::build).collect();
        bytes[1][at] = value;
        bytes[1][10..12].fill(0);
        let check = !sum(&[&bytes[1][..20]]);
        bytes[1][10..12].copy_from_slice(&check.to_be_bytes());
        assert_eq!(coalesce(bytes.iter().map(|o| (0, o.as_slice()))).len(), 2, "byte {at}");
    }
}

#[test]
fn what_ends_a_row_is_not_followed() {
    let ends: [fn(Segment) -> Segment; 3] =
        [|s| s.payload(&[1; 99]), |s| s.flags(Flags::ACK | Flags::PSH), |s| s.flags(Flags::ACK | Flags::FIN)];
    for (i, end) in ends.into_iter().enumerate() {
        let mut segments = row(2);
        segments[1] = end(segments[1].clone());
        let next = 1100 + segments[1].payload.len() as u32;
        segments.push(tcp().sequence(next).payload(&[2; 100]));
        let lengths: Vec<usize> = one_by_one(&segments).iter().map(|d| d.len() - VNET - 40).collect();
        assert_eq!(lengths, [100 + segments[1].payload.len(), 100], "end {i}");
    }
    // Each of these, and a segment without payload, is delivered at once.
    let (mut coalescer, mut sink) = (Coalescer::new(), Recorder::default());
    for segment in [tcp(), tcp().syn(), tcp().flags(Flags::RST), tcp().flags(Flags::ACK | Flags::PSH).payload(b"x")] {
        take(&mut coalescer, 0, &segment.build(), &mut sink);
        assert_eq!(sink.delivered.pop().unwrap().1, complete(&segment.build()));
    }
}

#[test]
fn runners_are_not_mixed() {
    let bytes: Vec<Vec<u8>> = row(2).iter().map(Segment::build).collect();
    assert_eq!(coalesce([(0, bytes[0].as_slice()), (1, bytes[1].as_slice())]).len(), 2);
}

#[test]
fn switched_off_nothing_is_joined() {
    let (mut coalescer, mut sink) = (Coalescer::new(), Recorder::default());
    coalescer.enable(false);
    for segment in row(3) {
        take(&mut coalescer, 0, &segment.build(), &mut sink);
    }
    assert_eq!(sink.delivered.len(), 3);
}

#[test]
fn a_super_packet_has_at_most_65535_bytes() {
    let segments: Vec<_> = (0..60).map(|i| tcp().sequence(1000 + 1292 * i).payload(&[i as u8; 1292])).collect();
    let delivered = one_by_one(&segments);
    let lengths: Vec<usize> = delivered.iter().map(Vec::len).collect();
    assert_eq!(lengths, [VNET + 40 + 50 * 1292, VNET + 40 + 10 * 1292]);
    assert!(lengths[0] <= crate::TUN_BUFFER);
}

#[test]
fn a_failed_decryption_leaves_the_group_as_it_was() {
    for size in [1, 10, 39, 40, 41, 500] {
        let (mut coalescer, mut sink) = (Coalescer::new(), Recorder::default());
        let payload = vec![5; size];
        take(&mut coalescer, 0, &tcp().payload(&payload).build(), &mut sink);
        coalescer.slot()[..3000].fill(0xee);
        coalescer.discard();
        take(&mut coalescer, 0, &tcp().sequence(1000 + size as u32).payload(&payload).build(), &mut sink);
        coalescer.flush(&mut sink);
        assert_eq!(sink.delivered[0].1, tcp().payload(&[5; 1000][..2 * size]).read(size), "{size}");
    }
}

#[test]
fn nothing_is_delivered_to_a_tun_that_is_gone() {
    let (mut coalescer, mut sink) = (Coalescer::new(), Recorder::default());
    take(&mut coalescer, 0, &row(1)[0].build(), &mut sink);
    coalescer.forget(Port(4));
    coalescer.forget(PORT);
    coalescer.flush(&mut sink);
    assert!(sink.delivered.is_empty());
}

proptest! {
    /// Segmenting and coalescing restores the packet except for the identification, which the kernel assigns.
    #[test]
    fn cutting_and_joining_gives_the_same(
        payload in prop::collection::vec(any::<u8>(), 2..30000),
        size in 1usize..2000,
        words in 0usize..=10,
        sequence: u32,
        last in prop::sample::select(vec![0, Flags::PSH, Flags::FIN, Flags::PSH | Flags::FIN]),
        echo in prop::sample::select(vec![0, Flags::ECE]),
    ) {
        let whole = tcp()
            .sequence(sequence)
            .flags(Flags::ACK | last | echo)
            .options(&[1; 40][..4 * words])
            .payload(&payload)
            .read(size);
        prop_assume!(payload.len() > size);
        let mut segments = vec![];
        split(&mut whole.clone(), |segment| segments.push(segment.to_vec()));
        let joined = coalesce(segments.iter().map(|segment| (0, &segment[VNET..])));
        prop_assert_eq!(joined, [whole]);
    }

    /// Every packet is delivered in the order of arrival, complete and valid.
    #[test]
    fn nothing_is_lost_or_reordered(
        steps in prop::collection::vec((0u16..3, 0usize..120, prop::sample::select(vec![0, Flags::PSH, Flags::CWR]), any::<bool>()), 1..60),
    ) {
        let mut next = [0u32; 3];
        let mut streams: [Vec<u8>; 3] = Default::default();
        let mut segments = vec![];
        for (flow, len, flag, gap) in steps {
            let i = usize::from(flow);
            next[i] = next[i].wrapping_add(u32::from(gap));
            let payload: Vec<u8> = (0..len).map(|n| n as u8 ^ next[i] as u8).collect();
            let segment = tcp().source_port(flow).sequence(next[i]).flags(Flags::ACK | flag).payload(&payload);
            segments.push(segment.build());
            next[i] = next[i].wrapping_add(len as u32);
            streams[i].extend(payload);
        }
        let delivered = coalesce(segments.iter().map(|bytes| (0, bytes.as_slice())));
        let mut seen: [Vec<u8>; 3] = Default::default();
        for bytes in delivered {
            let mut bytes = bytes;
            let mut parts = vec![];
            split(&mut bytes, |part| parts.push(part.to_vec()));
            for part in parts {
                prop_assert!(is_sound(&part[VNET..]));
                let (packet, tcp) = packet(&part[VNET..]);
                seen[usize::from(tcp.source_port)].extend(&part[VNET + tcp.headers..VNET + packet.len]);
            }
        }
        prop_assert_eq!(seen, streams);
    }
}
