//! Packets that can't be handed over yet. Their TUNs aren't read meanwhile, so there is one for each at most.

use std::collections::{HashMap, HashSet};

use mesh_engine::{LaneIx, Order, Port};

use super::Buffer;

/// The packets that wait, by their TUNs.
#[derive(Default)]
pub(in crate::dataplane) struct Held {
    packets: HashMap<Port, Waiting>,
    /// The TUNs that epoll doesn't wait for.
    muted: HashSet<Port>,
}

/// A packet that waits.
pub(in crate::dataplane) struct Waiting {
    pub(in crate::dataplane) lane: LaneIx,
    pub(in crate::dataplane) order: Order,
    pub(in crate::dataplane) packet: (Buffer, usize),
    /// The number of its segments, which is what the work is proportional to.
    pub(in crate::dataplane) segments: usize,
    /// Whether it waits for the end of a move, and not only for room.
    pub(in crate::dataplane) moves: bool,
}

impl Held {
    pub(in crate::dataplane) fn has(&self, port: Port) -> bool {
        self.packets.contains_key(&port)
    }

    pub(in crate::dataplane) fn put(&mut self, port: Port, waiting: Waiting) {
        self.packets.insert(port, waiting);
    }

    pub(in crate::dataplane) fn take(&mut self, port: Port) -> Option<Waiting> {
        self.packets.remove(&port)
    }

    pub(in crate::dataplane) fn is_muted(&self, port: Port) -> bool {
        self.muted.contains(&port)
    }

    pub(in crate::dataplane) fn mute(&mut self, port: Port, muted: bool) {
        if muted {
            self.muted.insert(port);
        } else {
            self.muted.remove(&port);
        }
    }

    /// A TUN is gone. What waits is returned.
    pub(super) fn forget(&mut self, port: Port) -> Option<Waiting> {
        self.muted.remove(&port);
        self.take(port)
    }

    /// The TUNs whose packets wait for room, and on which lane.
    pub(super) fn for_room(&self) -> impl Iterator<Item = (Port, LaneIx)> {
        self.packets.iter().filter(|(_, waiting)| !waiting.moves).map(|(port, waiting)| (*port, waiting.lane))
    }

    /// All TUNs whose packets wait.
    pub(in crate::dataplane) fn all(&self) -> Vec<Port> {
        self.packets.keys().copied().collect()
    }

    /// Whether a packet waits for room on a lane.
    pub(super) fn has_waiting(&self, lane: LaneIx) -> bool {
        self.packets.values().any(|waiting| waiting.lane == lane && !waiting.moves)
    }
}
