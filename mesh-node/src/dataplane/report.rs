//! The report of the data plane.

use super::counters::Counters;

/// The state of the data plane for `status`.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    /// The engine's report.
    pub(crate) engine: mesh_engine::Report,
    /// Every counter of the descriptors, by its name in kebab-case, including those that are zero.
    pub(crate) io: Vec<(&'static str, u64)>,
    /// What went through the descriptors.
    pub(crate) traffic: Traffic,
    /// What there is to say of each relay.
    pub(crate) relays: Vec<mesh_relay_client::RelayReport>,
    /// What each lane carries, the engine's own first.
    pub(crate) lanes: Vec<LaneReport>,
    /// How many allocations the thread has made.
    #[cfg(test)]
    pub(crate) allocations: u64,
}

/// The successful system calls of one kind, and how much they carried.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Calls {
    /// The number of calls.
    pub(crate) count: u64,
    /// The bytes in all of them, with headers.
    pub(crate) bytes: u64,
}

impl Traffic {
    /// Adds what went through other descriptors.
    pub(super) fn add(&mut self, other: &Self) {
        let Self { tun_reads, tun_writes, udp_sends, udp_receives } = self;
        let theirs = [other.tun_reads, other.tun_writes, other.udp_sends, other.udp_receives];
        for (ours, theirs) in [tun_reads, tun_writes, udp_sends, udp_receives].into_iter().zip(theirs) {
            (ours.count, ours.bytes) = (ours.count + theirs.count, ours.bytes + theirs.bytes);
        }
    }
}

impl Calls {
    /// Counts a call.
    pub(super) fn add(&mut self, bytes: usize) {
        self.count += 1;
        self.bytes += bytes as u64;
    }
}

/// What a lane carries.
#[derive(Debug, Default, Clone)]
pub(crate) struct LaneReport {
    /// What went through its descriptors.
    pub(crate) traffic: Traffic,
    /// The runners with which it has a session.
    pub(crate) runners: usize,
    pub(super) counters: Counters,
    /// How many allocations its thread has made.
    #[cfg(test)]
    pub(super) allocations: u64,
}

/// What went through the descriptors. Where offloads work, bulk traffic carries tens of kilobytes a call. Where one is
/// missing, a call carries 1.4 KB, at several times the cost.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Packets and super-packets from TUNs.
    pub(crate) tun_reads: Calls,
    /// Packets and super-packets to TUNs.
    pub(crate) tun_writes: Calls,
    /// Datagrams and batches sent.
    pub(crate) udp_sends: Calls,
    /// Datagrams and batches received.
    pub(crate) udp_receives: Calls,
}
