//! What cuts super-packets and joins segments is checked against an implementation that shares nothing with it: that of
//! tun-rs. An input, whoever makes it, is read as a super-packet or as a stream of segments.
//!
//! Where the two differ, and why:
//! * tun-rs joins nothing with ECE or FIN. We do, as Linux does (net/ipv4/tcp_offload.c, `tcp_gro_receive`).
//! * tun-rs joins segments whose windows differ, and so gives all of them the first one's. Linux and we don't.
//! * tun-rs joins what comes before a group to its front, and segments of connections that alternate. We join to the end
//!   of the latest packet only, so that nothing is ever delivered out of order.
//! * tun-rs joins no segment whose checksum is wrong. Here it is taken for right: what an instance sends is checked or
//!   completed before it is sealed, and protected by better means from then on. (A runner that lies about the checksum
//!   of what it has made up gains nothing.)
//! * The identifications of joined segments count on from the first one's, whatever they were: they mean nothing in
//!   packets that can't be fragmented (RFC 6864 §4.1).

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

/// Where the flags stand in a packet without IPv4 options.
const FLAGS: usize = IPV4 + 13;
const FIN: u8 = 1;
const PSH: u8 = 8;
const ACK: u8 = 16;
const ECE: u8 = 64;
const CWR: u8 = 128;

/// Has `split` cut the super-packet that the input describes: it has to give the very octets that tun-rs gives, each
/// packet with an empty `virtio_net_hdr`.
pub(crate) fn cutting(input: &[u8], split: impl FnOnce(&mut [u8]) -> Vec<Vec<u8>>) {
    let mut input = Input(input);
    let flow = Flow::any(&mut input);
    let size = 8 + usize::from(input.half() % 2000);
    let payload = match input.octet() % 4 {
        0 => 1 + usize::from(input.octet()),
        // A whole number of segments, or one octet more or less.
        1 => size * usize::from(1 + input.octet() % 64) + usize::from(input.octet() % 3) - 1,
        _ => 1 + usize::from(input.half()),
    };
    let mut whole = flow.segment(input.octet(), payload.min(LONGEST - flow.headers()), input.octet());
    // The pseudo-header's sum is what the kernel puts there; nobody looks.
    whole[36..38].copy_from_slice(&input.half().to_be_bytes());
    let mut header = VirtioNetHdr {
        flags: 1,
        gso_type: 1 | input.octet() & 0x80,
        hdr_len: flow.headers() as u16,
        gso_size: size as u16,
        csum_start: IPV4 as u16,
        csum_offset: 16,
    };
    let theirs = cut(&whole, header);

    // Of packets that were forwarded the length of the headers is something else. Padding may follow a packet.
    header.hdr_len += input.half() % 100;
    let mut octets = with_header(header, &whole);
    octets.extend(vec![0xee; usize::from(input.octet() % 8)]);
    let ours = split(&mut octets);
    assert_eq!(ours.len(), theirs.len(), "how many segments");
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours, &with_header(VirtioNetHdr::default(), theirs));
    }
}

/// Has `join` take the steps that the input describes, with a flush at the end, and give what was delivered: what went in
/// has to come out, in order, with as much of it joined as the rules allow and no more.
pub(crate) fn joining(input: &[u8], join: impl FnOnce(&[Step]) -> Vec<Vec<u8>>) {
    let steps = stream(&mut Input(input));
    let arrivals = arrivals(&steps);
    let (mut rest, mut last) = (&arrivals[..], &arrivals[..0]);
    for delivered in join(&steps) {
        let segments = parts(&delivered);
        assert!(segments.len() <= rest.len(), "nothing is delivered that hasn't arrived");
        let (group, after) = rest.split_at(segments.len());
        match group {
            [single] => assert_eq!(delivered, with_header(VirtioNetHdr::default(), single.octets)),
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
    octets: &'a [u8],
    /// A turn ended just before, or nothing is to be joined at all.
    apart: bool,
}

fn arrivals(steps: &[Step]) -> Vec<Arrival<'_>> {
    let (mut arrivals, mut apart, mut enabled) = (vec![], true, true);
    for step in steps {
        match step {
            Step::Segment(runner, octets) => {
                arrivals.push(Arrival { runner: *runner, octets, apart: apart || !enabled });
                apart = false;
            }
            Step::Forged(_) => {}
            Step::Flush => apart = true,
            Step::Enable(on) => (apart, enabled) = (true, *on),
        }
    }
    arrivals
}

/// Checks a group against what went into it, and against what tun-rs makes of the same.
fn may_be_joined(delivered: &[u8], segments: &[Vec<u8>], group: &[Arrival<'_>]) {
    assert!(group[1..].iter().all(|arrival| !arrival.apart), "joined with what was delivered before");
    assert!(group.iter().all(|arrival| arrival.runner == group[0].runner), "joined with what another runner sent");
    for (segment, arrival) in segments.iter().zip(group) {
        assert_eq!(without_identity(segment), without_identity(arrival.octets));
    }
    let flags = group.iter().fold(0, |flags, arrival| flags | arrival.octets[FLAGS]) & (ECE | FIN);
    let mut theirs = joined(&group.iter().collect::<Vec<_>>());
    theirs[VNET + FLAGS] |= flags;
    assert_eq!(delivered, theirs, "joined as tun-rs does it");
}

/// Whether a segment is the next one of a group that nothing has ended, by what tun-rs doesn't look at.
fn follows(group: &[Arrival<'_>], next: &Arrival<'_>) -> bool {
    let (Some(first), Some(last)) = (group.first(), group.last()) else { return false };
    let payload = |arrival: &Arrival<'_>| arrival.octets.len() - headers(arrival.octets);
    let before: usize = group.iter().map(payload).sum();
    let sequence = |arrival: &Arrival<'_>| u32::from_be_bytes(arrival.octets[24..28].try_into().expect("four octets"));
    // Reserved bits, the flags that have to be equal, window, urgent pointer.
    let alike = |at: usize, mask: u8| (first.octets[at] ^ next.octets[at]) & mask == 0;
    !next.apart
        && payload(next) > 0
        && next.runner == first.runner
        && sequence(next) == sequence(first).wrapping_add(before as u32)
        && last.octets[FLAGS] & FIN == 0
        && [FLAGS - 1, 34, 35, 38, 39].into_iter().all(|at| alike(at, 0xff))
        && alike(FLAGS, ECE)
}

/// Whether tun-rs makes one packet of these segments.
fn is_joined(segments: &[&Arrival<'_>]) -> bool {
    let all: usize = segments.iter().map(|arrival| arrival.octets.len()).sum();
    joined(segments).len() == VNET + all - (segments.len() - 1) * headers(segments[0].octets)
}

/// What tun-rs makes of these segments, if it makes one packet of them, without the flags that it joins nothing with.
fn joined(segments: &[&Arrival<'_>]) -> Vec<u8> {
    thread_local! {
        static TABLE: RefCell<GROTable> = RefCell::new(GROTable::new());
    }
    let plain = |arrival: &&Arrival<'_>| {
        let mut octets = arrival.octets.to_vec();
        octets[FLAGS] &= !(ECE | FIN);
        with_header(VirtioNetHdr::default(), &sound(&octets))
    };
    let mut buffers: Vec<Vec<u8>> = segments.iter().map(plain).collect();
    // It joins what the first buffer has room for.
    let room = 2 * VNET + LONGEST - buffers[0].len();
    buffers[0].reserve_exact(room);
    TABLE.with_borrow_mut(|table| table.apply_gro(&mut buffers, VNET, false)).expect("buffers of its liking");
    buffers.swap_remove(0)
}

/// The segments that something delivered consists of.
fn parts(delivered: &[u8]) -> Vec<Vec<u8>> {
    let header = VirtioNetHdr::decode(delivered).expect("a header");
    match header.gso_type {
        0 => vec![delivered[VNET..].to_vec()],
        _ => cut(&delivered[VNET..], header),
    }
}

/// What tun-rs cuts a super-packet into.
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
    let mut octets = vec![0; VNET];
    header.encode(&mut octets).expect("as much as it takes");
    octets.extend(packet);
    octets
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
pub(crate) fn checksum(octets: &[u8]) -> [u8; 2] {
    let halves = octets.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = halves.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}
