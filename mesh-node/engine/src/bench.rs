//! Parts of the packet path for `benches/`. They are no part of the interface: only the feature `bench` shows them.

use std::net::Ipv4Addr;

use crate::{
    Map, Port, Sink,
    coalesce::Coalescer,
    flow::{Role, Slot},
    index::RunnerIx,
    packet::{Content, Packet},
};

/// Builds super-packets of decrypted segments.
pub struct Coalescing(Coalescer);

impl Coalescing {
    /// Without an open group.
    #[must_use]
    pub fn new() -> Self {
        Self(Coalescer::new())
    }

    /// Takes a copy of a segment from a runner, for a TUN of the same number. Returns false if it isn't a segment.
    pub fn take(&mut self, runner: u32, segment: &[u8], sink: &mut impl Sink) -> bool {
        self.decrypt(segment);
        if self.0.join(RunnerIx(runner), segment.len(), sink) {
            return true;
        }
        match Packet::parse(self.0.packet(segment.len())) {
            Ok(packet @ Packet { content: Content::Tcp(tcp), .. }) => {
                self.0.deliver(RunnerIx(runner), Port(runner), (Slot(0), Role::Caller), &packet, &tcp, sink);
                true
            }
            _ => {
                self.0.discard();
                false
            }
        }
    }

    /// Takes bytes that turn out not to be authentic.
    pub fn forged(&mut self, bytes: &[u8]) {
        self.decrypt(bytes);
        self.0.discard();
    }

    /// Puts bytes into the slot, with their authentication behind them.
    fn decrypt(&mut self, bytes: &[u8]) {
        let slot = self.0.slot();
        slot[..bytes.len()].copy_from_slice(bytes);
        slot[bytes.len()..][..16].fill(0xee);
    }

    /// Switches super-packets on or off.
    pub const fn enable(&mut self, enabled: bool) {
        self.0.enable(enabled);
    }

    /// Delivers the open group.
    pub fn flush(&mut self, sink: &mut impl Sink) {
        self.0.flush(sink);
    }
}

impl Default for Coalescing {
    fn default() -> Self {
        Self::new()
    }
}

/// The verdict on a segment between two addresses of a map, with the look-up of their owners.
#[must_use]
pub fn verdict(map: &Map, source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16), opens: bool) -> bool {
    let owner = |address| map.route.owner(address).map(|owner| map.route.service_of(owner));
    let (Some(from), Some(to)) = (owner(source.0), owner(destination.0)) else { return false };
    let segment = mesh_proto::rules::Segment { source_port: source.1, destination_port: destination.1, opens };
    map.filter.verdict(from, to, segment).is_ok()
}
