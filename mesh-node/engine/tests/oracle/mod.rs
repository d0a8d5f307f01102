//! Compares cutting and joining with an independent implementation, tun-rs. An input is read as a super-packet or as a
//! stream of segments.
//!
//! Where the two differ, and why:
//! * tun-rs joins no segments with ECE or FIN. The engine does, as Linux does (net/ipv4/tcp_offload.c,
//!   `tcp_gro_receive`).
//! * tun-rs joins segments whose windows differ, so that all of them get the first one's window. The engine and Linux
//!   don't.
//! * tun-rs joins segments to the front of a group, and segments of alternating connections. The engine joins only to the
//!   end of the latest packet, so that nothing is delivered out of order.
//! * tun-rs joins no segment with a wrong checksum. The engine trusts the checksum: a segment is checked or completed
//!   before it is sealed, and authenticated from then on. (A runner that lies about a checksum gains nothing.)
//! * The identifications of joined segments are counted from the first one's: they have no meaning in packets that can't
//!   be fragmented (RFC 6864 §4.1).

mod input;
mod stream;

use std::cell::RefCell;

use tun_rs::{GROTable, VirtioNetHdr, gso_split};

pub(crate) use self::stream::Step;
use self::{
    input::Input,
    stream::{Flow, stream},
};

/// The length of `virtio_net_hdr`.
const VNET: usize = 10;
const IPV4: usize = 20;
const LONGEST: usize = 65535;

/// The offset of the flags in a packet without IPv4 options.
const FLAGS: usize = IPV4 + 13;
const FIN: u8 = 1;
const PSH: u8 = 8;
const ACK: u8 = 16;
const ECE: u8 = 64;
const CWR: u8 = 128;

/// Checks that `split` cuts the super-packet of the input into the same bytes as tun-rs, each packet with an empty
/// `virtio_net_hdr`.
pub(crate) fn cutting(input: &[u8], split: impl FnOnce(&mut [u8]) -> Vec<Vec<u8>>) {
    let mut input = Input(input);
    let flow = Flow::any(&mut input);
    let size = 8 + usize::from(input.half() % 2000);
    let payload = match input.byte() % 4 {
        0 => 1 + usize::from(input.byte()),
        // A whole number of segments, or one byte more or less.
        1 => size * usize::from(1 + input.byte() % 64) + usize::from(input.byte() % 3) - 1,
        _ => 1 + usize::from(input.half()),
    };
    let mut whole = flow.segment(input.byte(), payload.min(LONGEST - flow.headers()), input.byte());
    // The kernel puts the pseudo-header's sum there, which isn't used.
    whole[36..38].copy_from_slice(&input.half().to_be_bytes());
    let mut header = VirtioNetHdr {
        flags: 1,
        gso_type: 1 | input.byte() & 0x80,
        hdr_len: flow.headers() as u16,
        gso_size: size as u16,
        csum_start: IPV4 as u16,
        csum_offset: 16,
    };
    let theirs = cut(&whole, header);

    // Forwarded packets have another length of headers. Padding may follow a packet.
    header.hdr_len += input.half() % 100;
    let mut bytes = with_header(header, &whole);
    bytes.extend(vec![0xee; usize::from(input.byte() % 8)]);
    let ours = split(&mut bytes);
    assert_eq!(ours.len(), theirs.len(), "how many segments");
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours, &with_header(VirtioNetHdr::default(), theirs));
    }
}

/// Checks that `join`, which takes the steps of the input and flushes at the end, delivers every segment in order, and joins
/// as many as the rules allow and no more.
pub(crate) fn joining(input: &[u8], join: impl FnOnce(&[Step]) -> Vec<Vec<u8>>) {
    let steps = stream(&mut Input(input));
    let arrivals = arrivals(&steps);
    let (mut rest, mut last) = (&arrivals[..], &arrivals[..0]);
    for delivered in join(&steps) {
        let segments = parts(&delivered);
        assert!(segments.len() <= rest.len(), "nothing is delivered that hasn't arrived");
        let (group, after) = rest.split_at(segments.len());
        match group {
            [single] => assert_eq!(delivered, with_header(VirtioNetHdr::default(), single.bytes)),
            group => may_be_joined(&delivered, &segments, group),
        }
        if let [first, ..] = group
            && follows(last, first)
        {
            let together: Vec<_> = last.iter().chain([first]).collect();
            assert!(!is_joined(&together), "what follows on a group is left by itself");
        }
        (rest, last) = (after, group);
    }
    assert!(rest.is_empty(), "everything is delivered");
}

/// A segment, and how it arrived.
struct Arrival<'a> {
    runner: u32,
    bytes: &'a [u8],
    /// A turn has just ended, or joining is off.
    apart: bool,
}

fn arrivals(steps: &[Step]) -> Vec<Arrival<'_>> {
    let (mut arrivals, mut apart, mut enabled) = (vec![], true, true);
    for step in steps {
        match step {
            Step::Segment(runner, bytes) => {
                arrivals.push(Arrival { runner: *runner, bytes, apart: apart || !enabled });
                apart = false;
            }
            Step::Forged(_) => {}
            Step::Flush => apart = true,
            Step::Enable(on) => (apart, enabled) = (true, *on),
        }
    }
    arrivals
}

/// Compares a group with its segments, and with tun-rs's group of them.
fn may_be_joined(delivered: &[u8], segments: &[Vec<u8>], group: &[Arrival<'_>]) {
    assert!(group[1..].iter().all(|arrival| !arrival.apart), "joined with what was delivered before");
    assert!(group.iter().all(|arrival| arrival.runner == group[0].runner), "joined with what another runner sent");
    for (segment, arrival) in segments.iter().zip(group) {
        assert_eq!(without_identity(segment), without_identity(arrival.bytes));
    }
    let flags = group.iter().fold(0, |flags, arrival| flags | arrival.bytes[FLAGS]) & (ECE | FIN);
    let mut theirs = joined(&group.iter().collect::<Vec<_>>());
    theirs[VNET + FLAGS] |= flags;
    assert_eq!(delivered, theirs, "joined as tun-rs does it");
}

/// Whether a segment continues an open group, by the fields that tun-rs ignores.
fn follows(group: &[Arrival<'_>], next: &Arrival<'_>) -> bool {
    let (Some(first), Some(last)) = (group.first(), group.last()) else { return false };
    let payload = |arrival: &Arrival<'_>| arrival.bytes.len() - headers(arrival.bytes);
    let before: usize = group.iter().map(payload).sum();
    let sequence = |arrival: &Arrival<'_>| u32::from_be_bytes(arrival.bytes[24..28].try_into().expect("four bytes"));
    // Reserved bits, the flags that have to be equal, window, urgent pointer.
    let alike = |at: usize, mask: u8| (first.bytes[at] ^ next.bytes[at]) & mask == 0;
    !next.apart
        && payload(next) > 0
        && next.runner == first.runner
        && sequence(next) == sequence(first).wrapping_add(before as u32)
        && last.bytes[FLAGS] & FIN == 0
        && [FLAGS - 1, 34, 35, 38, 39].into_iter().all(|at| alike(at, 0xff))
        && alike(FLAGS, ECE)
}

/// Whether tun-rs makes one packet of these segments.
fn is_joined(segments: &[&Arrival<'_>]) -> bool {
    let all: usize = segments.iter().map(|arrival| arrival.bytes.len()).sum();
    joined(segments).len() == VNET + all - (segments.len() - 1) * headers(segments[0].bytes)
}

/// The packet that tun-rs makes of these segments, if it makes one, without the flags that it doesn't join.
fn joined(segments: &[&Arrival<'_>]) -> Vec<u8> {
    thread_local! {
        static TABLE: RefCell<GROTable> = RefCell::new(GROTable::new());
    }
    let plain = |arrival: &&Arrival<'_>| {
        let mut bytes = arrival.bytes.to_vec();
        bytes[FLAGS] &= !(ECE | FIN);
        with_header(VirtioNetHdr::default(), &sound(&bytes))
    };
    let mut buffers: Vec<Vec<u8>> = segments.iter().map(plain).collect();
    // It joins as many as the first buffer has room for.
    let room = 2 * VNET + LONGEST - buffers[0].len();
    buffers[0].reserve_exact(room);
    TABLE.with_borrow_mut(|table| table.apply_gro(&mut buffers, VNET, false)).expect("buffers of its liking");
    buffers.swap_remove(0)
}

/// The segments of a delivered packet.
fn parts(delivered: &[u8]) -> Vec<Vec<u8>> {
    let header = VirtioNetHdr::decode(delivered).expect("a header");
    match header.gso_type {
        0 => vec![delivered[VNET..].to_vec()],
        _ => cut(&delivered[VNET..], header),
    }
}

/// The segments that tun-rs cuts a super-packet into.
fn cut(whole: &[u8], header: VirtioNetHdr) -> Vec<Vec<u8>> {
    let (headers, size) = (usize::from(header.hdr_len), usize::from(header.gso_size));
    let mut buffers = vec![vec![0; headers + size]; (whole.len() - headers).div_ceil(size)];
    let mut lengths = vec![0; buffers.len()];
    let count = gso_split(&mut whole.to_vec(), header, &mut buffers, &mut lengths, 0, false).expect("a super-packet");
    buffers.truncate(count);
    buffers.iter_mut().zip(lengths).for_each(|(buffer, length)| buffer.truncate(length));
    buffers
}

fn with_header(header: VirtioNetHdr, packet: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; VNET];
    header.encode(&mut bytes).expect("as much as it takes");
    bytes.extend(packet);
    bytes
}

/// The length of a packet's headers.
fn headers(packet: &[u8]) -> usize {
    IPV4 + usize::from(packet[32] >> 4) * 4
}

fn without_identity(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet[4..6].fill(0);
    sound(&packet)
}

/// With both checksums right.
fn sound(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet[10..12].fill(0);
    let check = checksum(&packet[..IPV4]);
    packet[10..12].copy_from_slice(&check);
    packet[36..38].fill(0);
    let length = ((packet.len() - IPV4) as u16).to_be_bytes();
    let check = checksum(&[&packet[12..IPV4], &[0, 6], &length, &packet[IPV4..]].concat());
    packet[36..38].copy_from_slice(&check);
    packet
}

/// The Internet checksum (RFC 1071).
pub(crate) fn checksum(bytes: &[u8]) -> [u8; 2] {
    let halves = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = halves.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}
