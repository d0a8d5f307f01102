//! The addresses of a runner that may be tried.

use std::net::{IpAddr, SocketAddr};

use mesh_proto::{Ability, Range, RelayId, RunnerId, view::Runner};

use crate::hop::{Hop, canonical};

/// The most addresses of a runner that are tried. The coordinator lists fewer.
pub(super) const CANDIDATES: usize = 16;

/// What this runner knows of its own place.
#[derive(Debug, Default)]
pub(crate) struct Site {
    pub(crate) runner: Option<RunnerId>,
    /// The range of overlay addresses.
    pub(crate) range: Option<Range>,
    /// Whether other runners may be at loopback addresses.
    pub(crate) has_loopback: bool,
    /// The MTU of every `mesh0`.
    pub(crate) mtu: usize,
    /// The relays at which it has an allocation.
    pub(crate) relays: Vec<RelayId>,
    /// Its own addresses, as others see them too.
    pub(crate) own: Vec<SocketAddr>,
}

/// This runner's place, and the other runner as the map has it.
#[derive(Clone, Copy)]
pub(crate) struct Around<'a> {
    pub(crate) site: &'a Site,
    pub(crate) runner: &'a Runner,
}

impl<'a> Around<'a> {
    /// Whether the other runner takes part in the search for paths.
    pub(crate) fn is_able(self) -> bool {
        self.runner.can.has(Ability::Paths) && self.runner.can.has(Ability::Relays)
    }

    /// The paths by relays at which both have an allocation.
    pub(crate) fn relayed(self) -> impl Iterator<Item = Hop> + use<'a> {
        let shared =
            self.runner.relayed.iter().filter(move |at| self.is_able() && self.site.relays.contains(&at.relay));
        shared.map(|at| Hop::Relayed { relay: at.relay, peer: canonical(at.address) })
    }

    /// Whether both share a relay.
    pub(crate) fn has_relay(self) -> bool {
        self.relayed().next().is_some()
    }

    /// Whether the other runner can have this address: not what can be no runner's, nor this runner's own, nor one of the
    /// mesh, nor a relayed one.
    pub(crate) fn can_be(self, at: SocketAddr) -> bool {
        let in_mesh = |at| self.site.range.is_some_and(|range| range.contains(at));
        let is_overlay = matches!(at.ip(), IpAddr::V4(at) if in_mesh(at));
        let is_relayed = || self.runner.relayed.iter().any(|relayed| canonical(relayed.address) == at);
        is_usable(at.ip())
            && (self.site.has_loopback || !at.ip().is_loopback())
            && !is_overlay
            && !self.site.own.contains(&at)
            && !is_relayed()
    }

    /// Where the outside sees the other runner.
    pub(crate) fn reflexive(self) -> impl Iterator<Item = SocketAddr> + use<'a> {
        let able = self.is_able();
        let listed = self.runner.reflexive.iter().take(CANDIDATES).map(|at| canonical(*at));
        listed.filter(move |at| able && is_usable(at.ip()) && !holds(&self.runner.endpoints, *at))
    }

    /// Whether one of the runner's addresses may be that of a NAT in front of it, where a datagram that comes too early does
    /// harm: the outside sees the runner there, and it has another address within. That of the NAT may be private too, as in
    /// an office. (What the runner's own interfaces have is never told as what the outside sees.)
    pub(crate) fn is_outside(self, at: SocketAddr) -> bool {
        let Runner { endpoints, reflexive, .. } = self.runner;
        let ips = |list: &'a [SocketAddr]| list.iter().map(|at| canonical(*at).ip());
        ips(reflexive).any(|seen| seen == at.ip())
            && ips(endpoints).any(|within| within != at.ip() && is_private(within))
    }

    /// Whether an address of the runner is one of its own, without a NAT in front.
    pub(crate) fn is_listed(self, at: SocketAddr) -> bool {
        holds(&self.runner.endpoints, at) && !self.is_outside(at)
    }

    /// Whether this runner begins the meetings.
    pub(crate) fn leads(self) -> bool {
        self.site.runner.is_some_and(|own| own < self.runner.id)
    }

    /// The longest packet of all.
    pub(crate) fn top(self) -> u16 {
        u16::try_from(self.site.mtu).unwrap_or(u16::MAX)
    }
}

/// How good a kind of path is; the least is the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Direct, to an address that is of use within a site only.
    Near,
    Direct,
    Relayed,
}

impl Kind {
    pub(super) const fn of(hop: Hop) -> Self {
        match hop {
            Hop::Relayed { .. } => Self::Relayed,
            Hop::Direct(at) if is_private(at.ip()) => Self::Near,
            Hop::Direct(_) => Self::Direct,
        }
    }
}

const fn is_private(at: IpAddr) -> bool {
    match at {
        IpAddr::V4(at) => at.is_private() || at.is_loopback(),
        IpAddr::V6(at) => at.is_unique_local() || at.is_loopback(),
    }
}

/// The candidates that are tried, in canonical form. The last one, where the coordinator has seen the runner, comes third,
/// so that it is among the first three.
pub(super) fn tried(candidates: &[SocketAddr]) -> impl Iterator<Item = SocketAddr> {
    let candidates = &candidates[..candidates.len().min(CANDIDATES)];
    let (first, others) = candidates.split_at(candidates.len().min(2));
    let (seen, others) = others.split_last().map_or((None, others), |(seen, others)| (Some(seen), others));
    let usable = |at: &SocketAddr| is_usable(at.ip());
    first.iter().chain(seen).chain(others).map(|at| canonical(*at)).filter(usable)
}

/// Whether a runner can have this address: not one that means many machines, or another one on each machine. A coordinator
/// of version 0.1 doesn't filter these. (For loopback addresses see [`crate::route::Route`].)
fn is_usable(at: IpAddr) -> bool {
    match at {
        IpAddr::V4(at) => !at.is_unspecified() && !at.is_multicast() && !at.is_broadcast() && !at.is_link_local(),
        IpAddr::V6(at) => !at.is_unspecified() && !at.is_multicast() && !at.is_unicast_link_local(),
    }
}

pub(super) fn holds(candidates: &[SocketAddr], at: SocketAddr) -> bool {
    tried(candidates).any(|candidate| candidate == at)
}
