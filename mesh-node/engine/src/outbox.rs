//! Outgoing datagrams: those of one length to one address are collected into batches for `sendmsg(2)` with
//! `UDP_SEGMENT`.

use std::net::{IpAddr, SocketAddr};

use crate::{MAX_BATCH, MAX_SEGMENTS, Sink};

/// The most bytes that one datagram needs while it is written: an IPv4 packet and WireGuard's overhead.
const DATAGRAM: usize = 65535 + 32;

/// The addresses of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AddressPair {
    pub(crate) to: SocketAddr,
    /// The machine's address that it leaves from; `None`: the system chooses. An answer leaves from the address that the
    /// question was sent to: a firewall or a NAT in between lets nothing else through.
    pub(crate) from: Option<IpAddr>,
}

impl From<SocketAddr> for AddressPair {
    fn from(to: SocketAddr) -> Self {
        Self { to, from: None }
    }
}

/// Datagrams that wait for more of their kind.
pub(crate) struct Outbox {
    bytes: Box<[u8]>,
    addresses: AddressPair,
    /// The length of every datagram but the last.
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
            addresses: SocketAddr::from(([0, 0, 0, 0], 0)).into(),
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
        addresses: AddressPair,
        len: usize,
        sink: &mut impl Sink,
        write: impl FnOnce(&mut [u8]) -> bool,
    ) -> bool {
        let fits = self.addresses == addresses
            && !self.closed
            && len <= self.stride
            && self.count < MAX_SEGMENTS
            && self.len + len <= MAX_BATCH;
        if !fits {
            self.flush(sink);
        }
        if !write(&mut self.bytes[self.len..]) {
            return false;
        }
        if self.count == 0 {
            (self.addresses, self.stride) = (addresses, len);
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
    pub(crate) fn send(&mut self, addresses: AddressPair, datagram: &[u8], sink: &mut impl Sink) {
        self.flush(sink);
        sink.send_from(addresses.from, addresses.to, datagram, datagram.len());
    }

    /// Sends one datagram by itself that must not be fragmented, after those that wait. `write` gets room for a packet, and
    /// a buffer for the datagram that carries it, and returns the length of the datagram.
    pub(crate) fn send_whole(
        &mut self,
        addresses: AddressPair,
        sink: &mut impl Sink,
        write: impl FnOnce(&mut [u8], &mut [u8]) -> Option<usize>,
    ) {
        self.flush(sink);
        let (datagram, packet) = self.bytes.split_at_mut(MAX_BATCH);
        if let Some(len) = write(packet, datagram) {
            sink.send_whole(addresses.from, addresses.to, &datagram[..len]);
        }
    }

    /// Sends the datagrams that wait.
    pub(crate) fn flush(&mut self, sink: &mut impl Sink) {
        if self.count > 0 {
            let stride = if self.count == 1 { self.len } else { self.stride };
            sink.send_from(self.addresses.from, self.addresses.to, &self.bytes[..self.len], stride);
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
