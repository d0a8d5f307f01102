//! Parts of the path by themselves, for `benches/`. Not a part of the interface: only the feature `bench` shows it.

use std::net::Ipv4Addr;

use crate::{
    Map, Port, Sink,
    coalesce::Coalescer,
    flow::Role,
    packet::{Content, Packet},
};

/// Builds super-packets of segments that somebody else has decrypted.
pub struct Coalescing(Coalescer);

impl Coalescing {
    /// With nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self(Coalescer::new())
    }

    /// Takes a segment from a runner, as a copy of it, for a TUN of the same number. False: it is none.
    pub fn take(&mut self, runner: u32, segment: &[u8], sink: &mut impl Sink) -> bool {
        self.decrypt(segment);
        if self.0.join(runner, segment.len(), sink) {
            return true;
        }
        match Packet::parse(self.0.packet(segment.len())) {
            Ok(packet @ Packet { content: Content::Tcp(tcp), .. }) => {
                self.0.deliver(runner, Port(runner), (0, Role::Caller), &packet, &tcp, sink);
                true
            }
            _ => {
                self.0.discard();
                false
            }
        }
    }

    /// Takes what turns out not to be authentic, and leaves these octets.
    pub fn forged(&mut self, octets: &[u8]) {
        self.decrypt(octets);
        self.0.discard();
    }

    /// Puts octets where they would be decrypted to, with their authentication behind them.
    fn decrypt(&mut self, octets: &[u8]) {
        let slot = self.0.slot();
        slot[..octets.len()].copy_from_slice(octets);
        slot[octets.len()..][..16].fill(0xee);
    }

    /// Switches super-packets on or off.
    pub const fn enable(&mut self, enabled: bool) {
        self.0.enable(enabled);
    }

    /// Delivers what is open.
    pub fn flush(&mut self, sink: &mut impl Sink) {
        self.0.flush(sink);
    }
}

impl Default for Coalescing {
    fn default() -> Self {
        Self::new()
    }
}

/// The verdict on a segment between two addresses of a map: who they are, and whether it may.
#[must_use]
pub fn verdict(map: &Map, source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16), opens: bool) -> bool {
    let owner = |address| map.route.owner(address).map(|owner| map.route.service_of(owner));
    let (Some(from), Some(to)) = (owner(source.0), owner(destination.0)) else { return false };
    let segment = mesh_proto::rules::Segment { source_port: source.1, destination_port: destination.1, opens };
    map.filter.verdict(from, to, segment).is_ok()
}
