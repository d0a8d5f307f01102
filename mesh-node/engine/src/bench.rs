//! Parts of the path by themselves, for `benches/`. Not a part of the interface: only the feature `bench` shows it.

use std::net::Ipv4Addr;

use crate::{
    Map, Port, Sink,
    coalesce::Coalescer,
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

    /// Takes a segment, as a copy of it. False: it is none.
    pub fn take(&mut self, segment: &[u8], sink: &mut impl Sink) -> bool {
        let Some(slot) = self.0.slot().get_mut(..segment.len()) else { return false };
        slot.copy_from_slice(segment);
        if self.0.join(0, segment.len(), sink) {
            return true;
        }
        match Packet::parse(self.0.packet(segment.len())) {
            Ok(packet @ Packet { content: Content::Tcp(tcp), .. }) => {
                self.0.deliver(0, Port(0), &packet, &tcp, sink);
                true
            }
            _ => false,
        }
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
