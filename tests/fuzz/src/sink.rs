//! The outputs of the engine.

use std::net::SocketAddr;

use mesh_engine::{Event, MAX_BATCH, MAX_SEGMENTS, Port, Sink, TUN_BUFFER, VNET};

/// Checks what the engine promises of every effect, and counts them.
#[derive(Debug, Default)]
pub(crate) struct Counting {
    pub(crate) sent: u64,
    pub(crate) delivered: u64,
}

impl Sink for Counting {
    fn send(&mut self, _: SocketAddr, batch: &[u8], stride: usize) {
        is_sendable(batch, stride);
        self.sent += 1;
    }

    fn deliver(&mut self, _: Port, packet: &[u8]) {
        is_deliverable(packet);
        self.delivered += 1;
    }

    fn event(&mut self, _: Event) {}
}

/// The promises of [`Sink::send`].
pub(crate) fn is_sendable(batch: &[u8], stride: usize) {
    assert!(stride > 0 && stride <= batch.len() && batch.len() <= MAX_BATCH);
    assert!(batch.len().div_ceil(stride) <= MAX_SEGMENTS);
}

/// The promises of [`Sink::deliver`].
pub(crate) fn is_deliverable(packet: &[u8]) {
    assert!(packet.len() >= VNET + 20 && packet.len() <= TUN_BUFFER);
}
