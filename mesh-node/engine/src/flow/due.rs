//! When flows are forgotten.

use std::time::{Duration, Instant};

use crate::index::Slot;

/// How long the end of a flow is remembered: TIME-WAIT, as in Linux (include/net/tcp.h, `TCP_TIMEWAIT_LEN`).
pub(super) const LINGER: Duration = Duration::from_secs(60);

/// How long an attempt is remembered after its last SYN: longer than the wait between any two SYNs but the last (RFC
/// 6298 §2; 1, 2, 4 … 32 s). A claim is remembered as long.
pub(super) const ATTEMPT: Duration = Duration::from_secs(70);

/// How much later than it is due a flow may be forgotten. Otherwise each of thousands of connections in a second would wake
/// the owner of the engine once for its attempt and once for its end.
pub(super) const TOGETHER: Duration = Duration::from_secs(1);

/// How many more entries than four for each flow the queues may have.
pub(super) const SLACK: usize = 1024;

/// How long an open flow may be silent (net/netfilter/nf_conntrack_proto_tcp.c, five days).
pub(super) const SILENCE: Duration = Duration::from_secs(5 * 24 * 3600);

/// How long a flow may be silent after both FINs while an acknowledgment is missing: longer than Linux retransmits a
/// FIN (`tcp_retries2`, a quarter of an hour).
pub(super) const CLOSING: Duration = Duration::from_secs(3600);

/// How often to look for silent flows.
pub(super) const SILENCE_CHECK: Duration = Duration::from_secs(3600);

/// A slot is due at this time, if it still holds the same flow.
pub(super) struct Due {
    pub(super) at: Instant,
    pub(super) slot: Slot,
    pub(super) generation: u64,
}
