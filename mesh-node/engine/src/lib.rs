//! The packet engine: packets and time in, packets and events out. Sans-IO: it opens nothing, reads no clock, spawns
//! nothing and locks nothing. One thread owns an [`Engine`] and feeds it.
//!
//! A turn of the owner's loop: [`Engine::handle_udp`] and [`Engine::handle_tun`] for what was read, then
//! [`Engine::flush`] once, then sleep until [`Engine::next_timeout`] and call [`Engine::handle_timeout`]. All effects
//! go to the [`Sink`] that is passed in. A change of the mesh arrives as a [`Map`], compiled on another thread from a
//! [`mesh_proto::View`].
//!
//! The one clock that is read nevertheless is boringtun's own (see `tunnel`): tests switch it to a mock.

#[cfg(any(test, feature = "bench"))]
#[doc(hidden)]
pub mod bench;
mod coalesce;
mod denied;
mod departed;
mod drop;
mod engine;
mod filter;
mod flow;
mod homes;
mod limit;
mod map;
mod number;
#[cfg(test)]
mod oracle;
mod outbox;
mod packet;
mod path;
mod peer;
mod peers;
mod refuse;
mod route;
mod search;
mod segment;
mod sink;
mod staged;
mod stats;
#[cfg(test)]
mod testing;
mod timers;
mod tunnel;
mod vnet;

pub use drop::Reason;
pub use engine::Engine;
pub use flow::{PIN_MEMORY, PinMemory};
pub use map::Map;
pub use mesh_proto::message::Switches;
pub use segment::split;
pub use sink::{Event, Port, Sink};
pub use stats::{Denied, Failing, InstanceReport, PeerReport, Report};

/// The length of `struct virtio_net_hdr` (linux/virtio_net.h) in octets, without mergeable buffers: what stands before
/// every packet that is read from or written to a TUN opened with `IFF_VNET_HDR`.
pub const VNET: usize = 10;

/// The largest thing that a TUN's read can give or its write can take: [`VNET`] and an IPv4 packet. A read buffer has
/// to have this length.
pub const TUN_BUFFER: usize = VNET + 65535;

/// The largest thing that a UDP socket can give, with or without `UDP_GRO`. A receive buffer has to have this length.
pub const UDP_BUFFER: usize = 65535;

/// The most datagrams in one [`Sink::send`]: what every kernel with `UDP_SEGMENT` takes (`UDP_MAX_SEGMENTS`, 64 at first
/// and 128 in later ones).
pub const MAX_SEGMENTS: usize = 64;

/// The most octets in one [`Sink::send`]: a UDP payload over IPv4.
pub const MAX_BATCH: usize = 65507;
