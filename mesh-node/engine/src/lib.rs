//! The packet engine: packets and time in, packets and events out. It is sans-IO: it opens nothing, reads no clock, spawns
//! nothing and locks nothing. One thread owns an [`Engine`] and feeds it.
//!
//! Every input is a `handle_…` method. In each turn of its loop the owner calls [`Engine::handle_udp`] and
//! [`Engine::handle_tun`] for what it has read, then [`Engine::flush`] once; it sleeps until [`Engine::next_timeout`] and
//! then calls [`Engine::handle_timeout`]. All effects go to the [`Sink`] that is passed in. A change of the mesh arrives
//! as a [`Map`], which another thread compiles from a [`mesh_proto::View`].
//!
//! One clock is read nevertheless: boringtun's own (see `tunnel`). Tests replace it by a mock.
//!
//! Inside, each input becomes a call of `engine::core::Core` with one `Cx` (time, sink, counters).

#[cfg(any(test, feature = "bench"))]
#[doc(hidden)]
pub mod bench;
mod coalesce;
mod cx;
mod delayed;
mod denial_log;
mod departed;
mod drop;
mod engine;
mod filter;
mod flow;
mod hop;
mod index;
mod lane;
mod lane_set;
mod limit;
mod map;
mod mss;
mod number;
#[cfg(test)]
mod oracle;
mod order;
mod outbox;
mod packet;
mod path;
mod peer;
mod peers;
mod ports;
mod probe;
mod ready;
mod reject_packet;
mod route;
mod search;
mod segment;
mod sink;
mod staged;
mod stats;
#[cfg(test)]
mod testing;
mod tunnel;
mod vnet;

pub use drop::Reason;
pub use engine::{Datagrams, Engine};
pub use flow::{MAX_CONNECTIONS, PIN_MEMORY, PinMemory};
pub use hop::Hop;
pub use lane::Lane;
pub use lane_set::{LANES, LaneIx};
pub use map::Map;
pub use mesh_proto::{message::Switches, telemetry::Side};
pub use order::{LaneSink, News, Order};
pub use segment::split;
pub use sink::{Event, Port, Sink};
pub use stats::{Denied, Failing, InstanceReport, PairReport, PathReport, PeerReport, Report};

/// The length in bytes of `struct virtio_net_hdr` (linux/virtio_net.h) without mergeable buffers, which precedes every
/// packet of a TUN that was opened with `IFF_VNET_HDR`.
pub const VNET: usize = 10;

/// The most bytes in one read or write of a TUN: [`VNET`] and an IPv4 packet. A read buffer has to have this length.
pub const TUN_BUFFER: usize = VNET + 65535;

/// The most bytes in one message from a UDP socket, with or without `UDP_GRO`. A receive buffer has to have this length.
pub const UDP_BUFFER: usize = 65535;

/// The bytes before each datagram that goes by a relay: room for the header of ChannelData (RFC 8656 §12.4).
pub const HEADROOM: usize = 4;

/// The most datagrams in one [`Sink::send`], which every kernel with `UDP_SEGMENT` accepts (`UDP_MAX_SEGMENTS`, 64 at
/// first and 128 later).
pub const MAX_SEGMENTS: usize = 64;

/// The most bytes in one [`Sink::send`] or [`Sink::send_relayed`]: the longest UDP payload over IPv4.
pub const MAX_BATCH: usize = 65507;
