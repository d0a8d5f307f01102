//! Outgoing datagrams: those of one length to one address are collected into batches for `sendmsg(2)` with
//! `UDP_SEGMENT`.

use std::net::SocketAddr;

use crate::{
    HEADROOM, MAX_BATCH, MAX_SEGMENTS, Sink,
    hop::{Hop, Way},
};

/// The most bytes that one datagram needs while it is written: an IPv4 packet, WireGuard's overhead and a relay's.
const DATAGRAM: usize = 65535 + 32 + HEADROOM;

/// Datagrams that wait for more of their kind.
pub(crate) struct Outbox {
    bytes: Box<[u8]>,
    way: Way,
    /// The length of every datagram but the last, with its headroom.
    stride: usize,
    /// The number of datagrams, and of their bytes.
    count: usize,
    len: usize,
    /// Whether the last datagram is shorter, so that none can follow.
    closed: bool,
    enabled: bool,
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Self {
            bytes: vec![0; MAX_BATCH + DATAGRAM].into(),
            way: SocketAddr::from(([0, 0, 0, 0], 0)).into(),
            stride: 0,
            count: 0,
            len: 0,
            closed: false,
            enabled: true,
        }
    }

    /// Switches batches on or off.
    pub(crate) const fn enable(&mut self, enabled: bool) {
        self.enabled = enabled;
    }

    /// Adds a datagram of `len` bytes. `write` gets a larger buffer and returns whether it wrote the datagram.
    #[inline]
    pub(crate) fn push(
        &mut self,
        way: Way,
        len: usize,
        sink: &mut impl Sink,
        write: impl FnOnce(&mut [u8]) -> bool,
    ) -> bool {
        let headroom = headroom(way);
        let len = headroom + len;
        let fits = self.way == way
            && !self.closed
            && len <= self.stride
            && self.count < MAX_SEGMENTS
            && self.len + len <= MAX_BATCH;
        if !fits {
            self.flush(sink);
        }
        if !write(&mut self.bytes[self.len + headroom..]) {
            return false;
        }
        if self.count == 0 {
            (self.way, self.stride) = (way, len);
        }
        self.closed = len < self.stride;
        self.count += 1;
        self.len += len;
        if !self.enabled {
            self.flush(sink);
        }
        true
    }

    /// Sends one datagram by itself, after those that wait.
    pub(crate) fn send(&mut self, way: Way, datagram: &[u8], sink: &mut impl Sink) {
        self.flush(sink);
        match way.to {
            Hop::Direct(to) => sink.send_from(way.from, to, datagram, datagram.len()),
            Hop::Relayed { relay, peer } => {
                let whole = &mut self.bytes[..HEADROOM + datagram.len()];
                whole[HEADROOM..].copy_from_slice(datagram);
                sink.send_relayed(relay, peer, whole, HEADROOM + datagram.len(), false);
            }
        }
    }

    /// Sends one datagram by itself that must not be fragmented, after those that wait. `write` gets room for a packet, and
    /// a buffer for the datagram that carries it, and returns the length of the datagram.
    pub(crate) fn send_whole(
        &mut self,
        way: Way,
        sink: &mut impl Sink,
        write: impl FnOnce(&mut [u8], &mut [u8]) -> Option<usize>,
    ) {
        self.flush(sink);
        let (datagram, packet) = self.bytes.split_at_mut(MAX_BATCH);
        let headroom = headroom(way);
        let Some(len) = write(packet, &mut datagram[headroom..]) else { return };
        let datagram = &mut datagram[..headroom + len];
        match way.to {
            Hop::Direct(to) => sink.send_whole(way.from, to, datagram),
            Hop::Relayed { relay, peer } => sink.send_relayed(relay, peer, datagram, headroom + len, true),
        }
    }

    /// Sends the datagrams that wait.
    pub(crate) fn flush(&mut self, sink: &mut impl Sink) {
        if self.count > 0 {
            let stride = if self.count == 1 { self.len } else { self.stride };
            let batch = &mut self.bytes[..self.len];
            match self.way.to {
                Hop::Direct(to) => sink.send_from(self.way.from, to, batch, stride),
                Hop::Relayed { relay, peer } => sink.send_relayed(relay, peer, batch, stride, false),
            }
        }
        (self.count, self.len, self.closed) = (0, 0, false);
    }
}

/// The bytes that the owner fills in before each datagram.
#[inline]
fn headroom(way: Way) -> usize {
    if way.to.is_relayed() { HEADROOM } else { 0 }
}

#[cfg(test)]
mod tests {
    use mesh_proto::RelayId;

    use super::*;
    use crate::testing::Recorder;

    fn to(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    fn pushed(lengths: &[(u16, usize)], enabled: bool) -> Vec<(u16, usize, usize)> {
        let (mut outbox, mut sink) = (Outbox::new(), Recorder::default());
        outbox.enable(enabled);
        for (port, len) in lengths {
            assert!(outbox.push(to(*port).into(), *len, &mut sink, |buffer| {
                buffer[..*len].fill(7);
                true
            }));
        }
        outbox.flush(&mut sink);
        outbox.flush(&mut sink);
        sink.sent.iter().map(|(to, batch, stride)| (to.port(), batch.len(), *stride)).collect()
    }

    #[test]
    fn equal_datagrams_go_together_and_a_shorter_one_ends_them() {
        assert_eq!(pushed(&[(1, 100), (1, 100), (1, 60), (1, 60)], true), [(1, 260, 100), (1, 60, 60)]);
        assert_eq!(pushed(&[(1, 60), (1, 100)], true), [(1, 60, 60), (1, 100, 100)]);
        assert_eq!(pushed(&[(1, 60), (2, 60)], true), [(1, 60, 60), (2, 60, 60)]);
        assert_eq!(pushed(&[(1, 60), (1, 60)], false), [(1, 60, 60), (1, 60, 60)]);
    }

    #[test]
    fn a_batch_keeps_to_the_kernels_limits() {
        assert_eq!(pushed(&[(1, 32); 65], true), [(1, 32 * 64, 32), (1, 32, 32)]);
        let sent = pushed(&[(1, 1476); 48], true);
        assert_eq!(sent, [(1, 1476 * 44, 1476), (1, 1476 * 4, 1476)]);
        assert!(sent[0].1 <= MAX_BATCH);
        assert_eq!(pushed(&[(1, MAX_BATCH), (1, MAX_BATCH)], true).len(), 2);
    }

    #[test]
    fn datagrams_by_a_relay_have_room_for_its_header_and_go_together() {
        let (mut outbox, mut sink) = (Outbox::new(), Recorder::default());
        let way = Way::from(Hop::Relayed { relay: RelayId(3), peer: to(1) });
        let write = |buffer: &mut [u8]| {
            buffer[..100].fill(7);
            true
        };
        assert!((0..3).all(|_| outbox.push(way, 100, &mut sink, write)));
        outbox.send(way, &[8; 50], &mut sink);
        outbox.send_whole(way, &mut sink, |_, datagram| {
            datagram[..60].fill(9);
            Some(60)
        });
        assert!(outbox.push(to(1).into(), 100, &mut sink, write), "the same address without a relay");
        outbox.flush(&mut sink);
        let sent: Vec<_> = sink.relayed.iter().map(|sent| (sent.relay.0, sent.peer, sent.stride, sent.whole)).collect();
        assert_eq!(sent, [(3, to(1), 104, false), (3, to(1), 54, false), (3, to(1), 64, true)]);
        let contents: Vec<Vec<u8>> = sink.relayed.iter().flat_map(|sent| sent.datagrams()).collect();
        assert_eq!(contents, [vec![7; 100], vec![7; 100], vec![7; 100], vec![8; 50], vec![9; 60]]);
        assert_eq!(sink.sent, [(to(1), vec![7; 100], 100)]);
    }

    #[test]
    fn a_batch_by_a_relay_keeps_to_the_kernels_limits_with_its_headers() {
        let (mut outbox, mut sink) = (Outbox::new(), Recorder::default());
        let way = Way::from(Hop::Relayed { relay: RelayId(3), peer: to(1) });
        (0..48).for_each(|_| assert!(outbox.push(way, 1476, &mut sink, |_| true)));
        assert!(outbox.push(way, MAX_BATCH - HEADROOM, &mut sink, |_| true));
        outbox.flush(&mut sink);
        let lengths: Vec<_> = sink.relayed.iter().map(|sent| sent.batch.len()).collect();
        assert_eq!(lengths, [1480 * 44, 1480 * 4, MAX_BATCH]);
    }

    #[test]
    fn what_could_not_be_written_is_not_sent() {
        let (mut outbox, mut sink) = (Outbox::new(), Recorder::default());
        assert!(!outbox.push(to(1).into(), 50, &mut sink, |_| false));
        outbox.flush(&mut sink);
        assert!(sink.sent.is_empty());
    }
}
