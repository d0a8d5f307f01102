//! What is on its way to the UDP socket: datagrams of one length to one address, collected until there are as many as one
//! `sendmsg(2)` with `UDP_SEGMENT` takes.

use std::net::{IpAddr, SocketAddr};

use crate::{MAX_BATCH, MAX_SEGMENTS, Sink};

/// The most that a single datagram can need while it is made: an IPv4 packet and WireGuard's overhead.
const DATAGRAM: usize = 65535 + 32;

/// Between which addresses a datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hop {
    pub(crate) to: SocketAddr,
    /// Which of our own addresses it leaves from; `None`: whichever the system takes. What is answered leaves from the
    /// address that was asked: a firewall or a NAT in between lets nothing else through.
    pub(crate) from: Option<IpAddr>,
}

impl From<SocketAddr> for Hop {
    fn from(to: SocketAddr) -> Self {
        Self { to, from: None }
    }
}

/// Datagrams waiting for more of their kind.
pub(crate) struct Outbox {
    octets: Box<[u8]>,
    hop: Hop,
    /// The length of every datagram but the last.
    stride: usize,
    /// How many there are, and how many octets.
    count: usize,
    len: usize,
    /// Whether the last one is shorter, so that none can follow.
    closed: bool,
    enabled: bool,
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Self {
            octets: vec![0; MAX_BATCH + DATAGRAM].into(),
            hop: SocketAddr::from(([0, 0, 0, 0], 0)).into(),
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

    /// Adds a datagram of `len` octets, written by `write`, which gets a larger buffer and says whether it wrote.
    #[inline]
    pub(crate) fn push(
        &mut self,
        hop: Hop,
        len: usize,
        sink: &mut impl Sink,
        write: impl FnOnce(&mut [u8]) -> bool,
    ) -> bool {
        let fits = self.hop == hop
            && !self.closed
            && len <= self.stride
            && self.count < MAX_SEGMENTS
            && self.len + len <= MAX_BATCH;
        if !fits {
            self.flush(sink);
        }
        if !write(&mut self.octets[self.len..]) {
            return false;
        }
        if self.count == 0 {
            (self.hop, self.stride) = (hop, len);
        }
        self.closed = len < self.stride;
        self.count += 1;
        self.len += len;
        if !self.enabled {
            self.flush(sink);
        }
        true
    }

    /// Sends a datagram of its own, behind those that wait.
    pub(crate) fn send(&mut self, hop: Hop, datagram: &[u8], sink: &mut impl Sink) {
        self.flush(sink);
        sink.send_from(hop.from, hop.to, datagram, datagram.len());
    }

    /// Sends what waits.
    pub(crate) fn flush(&mut self, sink: &mut impl Sink) {
        if self.count > 0 {
            let stride = if self.count == 1 { self.len } else { self.stride };
            sink.send_from(self.hop.from, self.hop.to, &self.octets[..self.len], stride);
        }
        (self.count, self.len, self.closed) = (0, 0, false);
    }
}

#[cfg(test)]
mod tests {
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
    fn what_could_not_be_written_is_not_sent() {
        let (mut outbox, mut sink) = (Outbox::new(), Recorder::default());
        assert!(!outbox.push(to(1).into(), 50, &mut sink, |_| false));
        outbox.flush(&mut sink);
        assert!(sink.sent.is_empty());
    }
}
