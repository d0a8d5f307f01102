//! Where the engine's effects go.

use std::net::{IpAddr, SocketAddr};

use mesh_proto::RunnerId;

/// A TUN device, by a number of the caller's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(pub u32);

/// Takes what the engine has to say, at once: nothing is kept for later by the engine but what it says it keeps.
pub trait Sink {
    /// Sends datagrams of `stride` octets each, of which the last may be shorter, to `to`: one `sendmsg(2)` with
    /// `UDP_SEGMENT`, or without it if there is one datagram only (`stride == batch.len()`). At most
    /// [`crate::MAX_SEGMENTS`] datagrams, at most [`crate::MAX_BATCH`] octets. IPv4 addresses are never mapped.
    fn send(&mut self, to: SocketAddr, batch: &[u8], stride: usize);

    /// The same, from one of the machine's own addresses if that is still one: what was sent there is answered from there.
    fn send_from(&mut self, from: Option<IpAddr>, to: SocketAddr, batch: &[u8], stride: usize) {
        let _ = from;
        self.send(to, batch, stride);
    }

    /// Writes a packet, [`crate::VNET`] octets of `virtio_net_hdr` first, to a TUN by one `write(2)`. What that refuses
    /// with `EINVAL` can be cut with [`crate::split`].
    fn deliver(&mut self, to: Port, packet: &[u8]);

    /// Takes note of something.
    fn event(&mut self, event: Event);
}

/// Something that the owner of the engine wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A runner was authenticated at this address, which is another one than before: worth remembering.
    Endpoint {
        /// Who.
        runner: RunnerId,
        /// Where; never an IPv4-mapped address.
        endpoint: SocketAddr,
    },
    /// Handshakes with a runner have gone unanswered for so long that traffic for it is refused from now on.
    Unreachable {
        /// Who.
        runner: RunnerId,
    },
    /// It has answered.
    Reachable {
        /// Who.
        runner: RunnerId,
    },
}
