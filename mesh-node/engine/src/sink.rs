//! The outputs of the engine.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use mesh_proto::{RelayId, RunnerId};

use crate::{Hop, LaneIx, Order};

/// A TUN device, by a number that the owner chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(pub u32);

/// Receives the effects of the engine, at once. The engine keeps nothing back except for batches, see
/// [`crate::Engine::flush`].
pub trait Sink {
    /// Sends datagrams of `stride` bytes each, of which the last may be shorter, to `to`: by one `sendmsg(2)`, with
    /// `UDP_SEGMENT` unless there is only one datagram (`stride == batch.len()`). There are at most
    /// [`crate::MAX_SEGMENTS`] datagrams of at most [`crate::MAX_BATCH`] bytes together. `to` is never an IPv4-mapped
    /// address.
    fn send(&mut self, to: SocketAddr, batch: &[u8], stride: usize);

    /// Sends datagrams from the machine's address `from`, if it still has that address: an answer leaves from the address
    /// that the question was sent to.
    fn send_from(&mut self, from: Option<IpAddr>, to: SocketAddr, batch: &[u8], stride: usize) {
        let _ = from;
        self.send(to, batch, stride);
    }

    /// Sends one datagram, as [`Self::send_from`] does, in one piece or not at all: it finds out how long a datagram the
    /// path carries. It may be longer than the path's MTU, and that the system refuses it is no failure.
    fn send_whole(&mut self, from: Option<IpAddr>, to: SocketAddr, datagram: &[u8]) {
        self.send_from(from, to, datagram, datagram.len());
    }

    /// Sends datagrams to another runner's relayed address `peer` by a relay at which this runner has an allocation, as
    /// [`Self::send`] does. Each datagram begins with [`crate::HEADROOM`] bytes, which the owner fills in, and `stride`
    /// counts them. `whole`: in one piece or not at all, see [`Self::send_whole`].
    ///
    /// An owner that names no relay to the engine has nothing to send here.
    fn send_relayed(&mut self, relay: RelayId, peer: SocketAddr, batch: &mut [u8], stride: usize, whole: bool) {
        let _ = (relay, peer, batch, stride, whole);
    }

    /// Hands an order over to a lane: see [`crate::Lane`]. If the order is about a packet, that is the one which the engine has
    /// just been given, and it goes with the order. An owner that has set no lanes gets none.
    fn order(&mut self, lane: LaneIx, order: Order) {
        let _ = (lane, order);
    }

    /// The packet of `port` that waits for the end of a move ([`Order::packet`]) goes now: by its lane, or, if it has waited in
    /// vain, back to [`crate::Engine::handle_again`]. There may be none any more.
    fn moved(&mut self, port: Port, by_lane: bool) {
        let _ = (port, by_lane);
    }

    /// Writes a packet, [`crate::VNET`] bytes of `virtio_net_hdr` first, to a TUN by one `write(2)`. If that fails with
    /// `EINVAL`, [`crate::split`] can cut the packet.
    fn deliver(&mut self, to: Port, packet: &[u8]);

    /// Notifies the owner of the engine.
    fn event(&mut self, event: Event);
}

/// A notification for the owner of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A runner was authenticated at a new address, without a relay between, which is worth remembering.
    Endpoint {
        /// The runner.
        runner: RunnerId,
        /// Its address; never an IPv4-mapped one.
        endpoint: SocketAddr,
    },
    /// Handshakes with a runner have gone unanswered for so long that traffic for it is rejected from now on.
    Unreachable {
        /// The runner.
        runner: RunnerId,
    },
    /// A runner that was unreachable has answered.
    Reachable {
        /// The runner.
        runner: RunnerId,
    },
    /// A runner has answered a ping of [`crate::Engine::handle_ping`].
    Ping {
        /// The runner.
        runner: RunnerId,
        /// The number that the owner has given to the ping.
        ticket: u64,
        /// The path by which it went.
        path: Hop,
        /// The time from the ping to its answer.
        rtt: Duration,
        /// The longest packet in bytes that the path carries, if that is known.
        mtu: Option<u16>,
    },
    /// A runner can be reached by a relay at which this runner has no allocation, and by none at which it has one.
    NeedRelay {
        /// The runner.
        runner: RunnerId,
        /// The relay.
        relay: RelayId,
    },
}
