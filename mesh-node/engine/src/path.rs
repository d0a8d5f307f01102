//! Where a runner is.

use std::net::{IpAddr, SocketAddr};

use crate::{outbox::Hop, route::canonical};

/// The most addresses of a runner that are tried; the coordinator gives fewer.
const CANDIDATES: usize = 16;

/// Where a runner is, or may be. Where the map says that it may be (the candidates) is kept elsewhere.
#[derive(Debug, Default)]
pub(crate) struct Path {
    /// Where it was authenticated last, or was in an earlier run.
    endpoint: Option<SocketAddr>,
    /// Whether that was in this run.
    authenticated: bool,
    /// Made when there are any.
    hints: Option<Box<Hints>>,
}

/// What else is known of where a runner is.
#[derive(Debug, Default)]
struct Hints {
    /// Where an initiation of its came from that no data has followed yet. It may have been recorded and sent again by
    /// anybody, so it is one more address to try and nothing else.
    claimed: Option<Hop>,
    /// To which of our own addresses it was that it sent, at the endpoint.
    local: Option<IpAddr>,
}

impl Path {
    /// Where packets go.
    pub(crate) const fn endpoint(&self) -> Option<SocketAddr> {
        self.endpoint
    }

    /// Whether there was ever more to go by than the map.
    pub(crate) fn is_known(&self) -> bool {
        self.endpoint.is_some() || self.claimed().is_some()
    }

    /// Where it was authenticated in this run.
    pub(crate) fn authenticated(&self) -> Option<SocketAddr> {
        self.endpoint.filter(|_| self.authenticated)
    }

    /// Takes note of other candidates; whether it has left the place where it was. (An endpoint that the map never held,
    /// as behind a NAT, says nothing by its absence.)
    pub(crate) fn offer(&mut self, before: &[SocketAddr], candidates: &[SocketAddr]) -> bool {
        let left = self.endpoint.is_some_and(|at| holds(before, at) && !holds(candidates, at));
        if left {
            (self.endpoint, self.authenticated) = (None, false);
            self.forget_local();
        }
        left
    }

    /// Where it was in an earlier run, unless this run knows better.
    pub(crate) fn recall(&mut self, endpoint: SocketAddr) {
        if !self.authenticated {
            self.endpoint = Some(endpoint);
            self.forget_local();
        }
    }

    /// Notes that an initiation of its came by `hop`, seen from here.
    pub(crate) fn claim(&mut self, hop: Hop) {
        self.hints.get_or_insert_default().claimed = Some(hop);
    }

    /// Notes that it was authenticated by `hop`, seen from here; whether the other end of it is news.
    #[inline]
    pub(crate) fn confirm(&mut self, hop: Hop) -> bool {
        if self.local() != hop.from {
            self.hints.get_or_insert_default().local = hop.from;
        }
        if self.authenticated && self.endpoint == Some(hop.to) {
            return false;
        }
        if let Some(hints) = &mut self.hints {
            hints.claimed = None;
        }
        (self.endpoint, self.authenticated) = (Some(hop.to), true);
        true
    }

    /// Our own addresses have changed.
    pub(crate) fn forget_local(&mut self) {
        if let Some(hints) = &mut self.hints {
            hints.local = None;
        }
    }

    #[inline]
    fn local(&self) -> Option<IpAddr> {
        self.hints.as_ref()?.local
    }

    fn claimed(&self) -> Option<Hop> {
        self.hints.as_ref()?.claimed
    }

    /// How packets go to it.
    #[inline]
    pub(crate) fn hop(&self) -> Option<Hop> {
        Some(Hop { to: self.endpoint?, from: self.local() })
    }

    /// How a handshake goes to one of the places where it may be.
    pub(crate) fn hop_to(&self, to: SocketAddr) -> Hop {
        let known = self.hop().into_iter().chain(self.claimed()).find(|hop| hop.to == to);
        known.unwrap_or(to.into())
    }

    /// Where it was never proven to be: tried in turn.
    pub(crate) fn unproven(&self, candidates: &[SocketAddr]) -> impl Iterator<Item = SocketAddr> {
        let claimed = self.claimed().map(|hop| hop.to).filter(|at| !holds(candidates, *at));
        claimed.into_iter().chain(tried(candidates)).filter(|at| Some(*at) != self.endpoint)
    }

    /// Everywhere that it may be.
    pub(crate) fn all(&self, candidates: &[SocketAddr]) -> impl Iterator<Item = SocketAddr> {
        self.endpoint.into_iter().chain(self.unproven(candidates))
    }
}

/// The candidates that are tried, so that equal places compare equal. The last, where the coordinator has seen the
/// runner, comes third, and so with the first three that are tried.
fn tried(candidates: &[SocketAddr]) -> impl Iterator<Item = SocketAddr> {
    let candidates = &candidates[..candidates.len().min(CANDIDATES)];
    let (first, others) = candidates.split_at(candidates.len().min(2));
    let (seen, others) = others.split_last().map_or((None, others), |(seen, others)| (Some(seen), others));
    let usable = |at: &SocketAddr| is_usable(at.ip());
    first.iter().chain(seen).chain(others).map(|at| canonical(*at)).filter(usable)
}

/// Whether a runner can be there: not what means another machine to everyone, or many. A coordinator refuses these, and one
/// of version 0.1 does not. (Of loopback see [`crate::route::Route`].)
fn is_usable(at: IpAddr) -> bool {
    match at {
        IpAddr::V4(at) => !at.is_unspecified() && !at.is_multicast() && !at.is_broadcast() && !at.is_link_local(),
        IpAddr::V6(at) => !at.is_unspecified() && !at.is_multicast() && !at.is_unicast_link_local(),
    }
}

fn holds(candidates: &[SocketAddr], at: SocketAddr) -> bool {
    tried(candidates).any(|candidate| candidate == at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    fn unproven(path: &Path, candidates: &[SocketAddr]) -> Vec<SocketAddr> {
        path.unproven(candidates).collect()
    }

    fn all(path: &Path, candidates: &[SocketAddr]) -> Vec<SocketAddr> {
        path.all(candidates).collect()
    }

    #[test]
    fn the_known_endpoint_comes_first_and_then_all() {
        let (mut path, candidates) = (Path::default(), [at(1), at(2)]);
        assert_eq!(all(&path, &candidates), [at(1), at(2)], "nothing is known");
        path.recall(at(9));
        assert_eq!(unproven(&path, &candidates), [at(1), at(2)]);
        assert_eq!(all(&path, &candidates), [at(9), at(1), at(2)]);
        assert_eq!(path.authenticated(), None, "what an earlier run knew is a guess");
        assert!(path.confirm(at(2).into()) && !path.confirm(at(2).into()));
        path.recall(at(9));
        assert_eq!(unproven(&path, &candidates), [at(1)], "this run knows better");
        assert_eq!(all(&path, &candidates), [at(2), at(1)]);
    }

    #[test]
    fn where_an_initiation_came_from_is_tried_as_well_and_moves_nothing() {
        let (mut path, candidates) = (Path::default(), [at(1)]);
        path.claim(at(7).into());
        assert_eq!(unproven(&path, &candidates), [at(7), at(1)]);
        assert_eq!(path.endpoint(), None);
        path.confirm(at(1).into());
        path.claim(at(7).into());
        assert_eq!(all(&path, &candidates), [at(1), at(7)]);
        path.claim(at(1).into());
        assert_eq!(all(&path, &candidates), [at(1)], "each once, and one claim at a time");
    }

    #[test]
    fn an_endpoint_that_the_map_no_longer_holds_is_left() {
        let mut path = Path::default();
        path.confirm(at(9).into());
        assert!(
            !path.offer(&[at(1), at(2)], &[at(1), at(3)]) && path.endpoint() == Some(at(9)),
            "the map never held it"
        );
        path.confirm(at(3).into());
        assert!(
            !path.offer(&[at(1), at(3)], &[at(3), at(4)]) && path.endpoint() == Some(at(3)),
            "the map still holds it"
        );
        assert!(path.offer(&[at(3), at(4)], &[at(4)]) && path.endpoint().is_none() && path.authenticated().is_none());
    }

    #[test]
    fn a_mapped_candidate_is_the_place_that_it_maps_and_few_are_tried() {
        let mapped = SocketAddr::from((std::net::Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped(), 1));
        let mut path = Path::default();
        assert_eq!(all(&path, &[mapped]), [at(1)]);
        path.confirm(at(1).into());
        assert_eq!(all(&path, &[mapped, at(2)]), [at(1), at(2)]);
        assert!(!path.offer(&[at(1)], &[mapped]) && path.offer(&[mapped], &[at(2)]));
        let many: Vec<_> = (1..100).map(at).collect();
        assert_eq!(all(&path, &many).len(), CANDIDATES);
        assert_eq!(
            all(&path, &many[..5]),
            [at(1), at(2), at(5), at(3), at(4)],
            "the one seen by the coordinator is early"
        );
    }

    #[test]
    fn what_can_be_no_runners_address_is_not_tried() {
        let named =
            ["169.254.169.254:80", "[fe80::1]:1", "224.0.0.1:1", "[ff02::1]:1", "255.255.255.255:1", "0.0.0.0:1"];
        let named: Vec<SocketAddr> = named.iter().map(|at| at.parse().unwrap()).chain([at(1)]).collect();
        assert_eq!(all(&Path::default(), &named), [at(1)]);
    }

    #[test]
    fn what_is_answered_leaves_from_the_address_that_was_asked() {
        let (asked, other): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let mut path = Path::default();
        path.claim(Hop { to: at(7), from: Some(other) });
        assert_eq!(path.hop_to(at(7)).from, Some(other));
        assert!(path.confirm(Hop { to: at(1), from: Some(asked) }));
        assert_eq!((path.hop(), path.hop_to(at(2))), (Some(Hop { to: at(1), from: Some(asked) }), at(2).into()));
        assert!(!path.confirm(Hop { to: at(1), from: Some(other) }), "its place is no news");
        assert_eq!(path.hop_to(at(1)).from, Some(other), "ours is");
        path.forget_local();
        assert_eq!(path.hop(), Some(at(1).into()));
    }
}
