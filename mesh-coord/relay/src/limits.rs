//! Every bound of a relay.

use std::time::Duration;

/// What a relay holds at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Allocations.
    pub allocations: usize,
    /// Channels of one allocation.
    pub channels: usize,
    /// Channels of all allocations. None has more than what is still free.
    pub all_channels: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { allocations: 16_384, channels: 1024, all_channels: 262_144 }
    }
}

/// The first port of a relayed address.
pub(crate) const FIRST_PORT: u16 = 1024;
/// How long an allocation and a channel live without a refresh, in seconds (RFC 8656 §3.2, §12).
pub(crate) const LIFETIME: u32 = 600;
/// How long a permission lives without a refresh, in seconds (RFC 8656 §9).
pub(crate) const PERMISSION: u32 = 300;
/// How long a nonce is taken, in seconds.
pub(crate) const NONCE: u32 = 600;
/// The longest request in bytes: one with every attribute that a relay knows has about 300.
pub(crate) const REQUEST: usize = 1024;
/// The longest message on a stream in bytes: ChannelData with the longest datagram of a link with jumbo frames.
pub(crate) const MESSAGE: usize = 16 << 10;
/// Answers a second to one network (IPv4: /24, IPv6: /64) that has proved nothing.
pub(crate) const STRANGERS: u8 = 20;
/// Requests a second that one address (IPv6: /64) has looked at for who sends them.
pub(crate) const PROVEN: u16 = 1000;
/// The revoked pseudonyms that are remembered.
pub(crate) const REVOKED: usize = 65_536;
/// How long a turn is, in which clients have equal shares of a busy thread.
pub(crate) const TURN: Duration = Duration::from_millis(10);
/// What each client may always send in a turn, in bytes: 200 Mbit/s.
pub(crate) const LEAST_SHARE: u32 = 256 << 10;
/// What a datagram costs beside its bytes.
pub(crate) const DATAGRAM: u32 = 64;
