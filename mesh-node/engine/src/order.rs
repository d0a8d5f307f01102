//! What the engine tells a lane to do, and what a lane tells the engine.

use std::net::{IpAddr, SocketAddr};

use mesh_proto::{PublicKey, RunnerId};

use crate::{Reason, Switches, hop::Way, index::TunnelIx, tunnel::CONTROL};

/// What a lane has to do. The owner hands it to [`crate::Lane::handle_order`] without a look inside, after the earlier
/// orders for this lane.
#[derive(Debug)]
pub struct Order(pub(crate) Errand);

#[derive(Debug)]
pub(crate) enum Errand {
    Send(Course),
    /// Starts a handshake with a runner, by this tunnel.
    Begin(TunnelIx, PublicKey, Way),
    /// Handles a message of a handshake that the engine has admitted.
    Handshake(TunnelIx, PublicKey, Way, Box<Message>),
    /// Handles data that has come to another lane's socket.
    Open(Way, Box<[u8]>),
    /// Forgets a tunnel with its keys.
    Close(TunnelIx),
    Switch(Switches),
}

/// A handshake's message and its length.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) bytes: [u8; CONTROL],
    pub(crate) len: usize,
}

/// Where a packet goes, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Course {
    pub(crate) tunnel: TunnelIx,
    pub(crate) runner: RunnerId,
    pub(crate) way: Way,
    /// The longest packet for the path, and the length that no packet is padded beyond.
    pub(crate) cut: usize,
    pub(crate) mtu: usize,
    /// Whether the packet has to wait for the end of a move.
    pub(crate) waits: bool,
}

impl Order {
    /// Switches offloads: see [`crate::Engine::handle_switches`].
    #[must_use]
    pub const fn switch(switches: Switches) -> Self {
        Self(Errand::Switch(switches))
    }

    /// Whether the order is about the packet that [`crate::Engine::handle_tun`] or [`crate::Engine::handle_again`] has just
    /// been given, which goes with it. The result is that packet's runner, and whether it has to wait for
    /// [`crate::Sink::moved`].
    #[must_use]
    pub const fn packet(&self) -> Option<(RunnerId, bool)> {
        match &self.0 {
            Errand::Send(course) => Some((course.runner, course.waits)),
            _ => None,
        }
    }
}

/// What a lane tells the engine: [`crate::Engine::handle_lane`].
#[derive(Debug)]
pub struct News(pub(crate) Said);

#[derive(Debug)]
pub(crate) enum Said {
    /// A packet, or several that were joined, has come by this way.
    Packet(TunnelIx, Way),
    /// A session stands.
    Up(TunnelIx),
    /// The tunnel is forgotten.
    Down(TunnelIx),
    Dropped(Reason, u64),
}

/// Receives the effects of a lane.
pub trait LaneSink {
    /// Sends datagrams: see [`crate::Sink::send_from`].
    fn send(&mut self, from: Option<IpAddr>, to: SocketAddr, batch: &[u8], stride: usize);

    /// Tells the engine, in this order. `packet`, [`crate::VNET`] bytes of `virtio_net_hdr` first, belongs to the news, and
    /// is empty if they are about none.
    fn tell(&mut self, news: News, packet: &[u8]);

    /// A datagram isn't this lane's: it is for [`crate::Engine::handle_udp`].
    fn stray(&mut self, from: SocketAddr, local: Option<IpAddr>, datagram: &[u8]);
}
