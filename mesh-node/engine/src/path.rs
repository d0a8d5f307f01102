//! The endpoint of a runner, and how far the path to it reaches.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use crate::hop::{Hop, Way, canonical};

mod reach;

pub(crate) use self::reach::{LEAST, Reach, Volley};

/// The most addresses of a runner that are tried. The coordinator lists fewer.
const CANDIDATES: usize = 16;

/// What is known of a runner's endpoint, apart from the map's candidates.
#[derive(Debug, Default)]
pub(crate) struct Path {
    /// Where the runner was authenticated last, perhaps in an earlier run.
    endpoint: Option<SocketAddr>,
    /// Whether it was in this run.
    authenticated: bool,
    /// Made when it is needed.
    hints: Option<Box<Hints>>,
}

#[derive(Debug, Default)]
struct Hints {
    /// The source of an initiation that no data has followed yet. An attacker may have replayed it, so that it is only
    /// one more address to try.
    claimed: Option<Way>,
    /// The address of this machine that the runner sends to from its endpoint.
    local: Option<IpAddr>,
    /// Of the path to the endpoint.
    reach: Reach,
}

impl Path {
    /// The address for packets.
    pub(crate) const fn endpoint(&self) -> Option<SocketAddr> {
        self.endpoint
    }

    /// Whether more is known than the map.
    pub(crate) fn is_known(&self) -> bool {
        self.endpoint.is_some() || self.claimed().is_some()
    }

    /// Where the runner was authenticated in this run.
    pub(crate) fn authenticated(&self) -> Option<SocketAddr> {
        self.endpoint.filter(|_| self.authenticated)
    }

    /// Takes new candidates. Returns whether the runner has left its endpoint. (Only an endpoint that the map held before
    /// can be left; behind a NAT the map never holds it.)
    pub(crate) fn offer(&mut self, before: &[SocketAddr], candidates: &[SocketAddr]) -> bool {
        let left = self.endpoint.is_some_and(|at| holds(before, at) && !holds(candidates, at));
        if left {
            (self.endpoint, self.authenticated) = (None, false);
            self.leave();
        }
        left
    }

    /// Takes the endpoint of an earlier run, unless this run knows better.
    pub(crate) fn recall(&mut self, endpoint: SocketAddr) {
        if !self.authenticated {
            self.endpoint = Some(endpoint);
            self.leave();
        }
    }

    /// Notes the way back to the sender of an initiation.
    pub(crate) fn claim(&mut self, way: Way) {
        if !way.to.is_relayed() {
            self.hints.get_or_insert_default().claimed = Some(way);
        }
    }

    /// Notes the way back to the authenticated runner. Returns the endpoint if it is new. What comes by a relay moves
    /// nothing.
    #[inline]
    pub(crate) fn confirm(&mut self, way: Way) -> Option<SocketAddr> {
        let to = way.to.direct()?;
        if self.local() != way.from {
            self.hints.get_or_insert_default().local = way.from;
        }
        if self.authenticated && self.endpoint == Some(to) {
            return None;
        }
        if let Some(hints) = &mut self.hints {
            hints.claimed = None;
            if self.endpoint != Some(to) {
                hints.reach.leave();
            }
        }
        (self.endpoint, self.authenticated) = (Some(to), true);
        Some(to)
    }

    /// The endpoint is another one, or none.
    fn leave(&mut self) {
        self.forget_reach();
        self.forget_local();
    }

    /// How far the path to the endpoint reaches.
    pub(crate) fn reach(&mut self) -> &mut Reach {
        &mut self.hints.get_or_insert_default().reach
    }

    /// When pings are due, if there are any.
    pub(crate) fn pings_due(&self) -> Option<Instant> {
        self.hints.as_ref()?.reach.due()
    }

    /// Whether it isn't known how far the path reaches, and nothing was sent to find out.
    #[inline]
    pub(crate) fn is_untried(&self) -> bool {
        self.hints.as_ref().is_none_or(|hints| hints.reach.is_untried())
    }

    /// The longest packet for the path, if that was tried.
    #[inline]
    pub(crate) fn cut(&self) -> Option<usize> {
        self.hints.as_ref()?.reach.cut().map(usize::from)
    }

    /// See [`Reach::proven`].
    pub(crate) fn proven(&self) -> Option<u16> {
        self.hints.as_ref()?.reach.proven()
    }

    /// The path is measured anew, if it is.
    pub(crate) fn forget_reach(&mut self) {
        if let Some(hints) = &mut self.hints {
            hints.reach.leave();
        }
    }

    /// The machine's own addresses have changed.
    pub(crate) fn forget_local(&mut self) {
        if let Some(hints) = &mut self.hints {
            hints.local = None;
        }
    }

    #[inline]
    fn local(&self) -> Option<IpAddr> {
        self.hints.as_ref()?.local
    }

    fn claimed(&self) -> Option<Way> {
        self.hints.as_ref()?.claimed
    }

    /// Where packets go.
    #[inline]
    pub(crate) fn way(&self) -> Option<Way> {
        Some(Way { to: Hop::Direct(self.endpoint?), from: self.local() })
    }

    /// Where a handshake to one of the candidates goes.
    pub(crate) fn way_to(&self, to: SocketAddr) -> Way {
        let known = self.way().into_iter().chain(self.claimed()).find(|way| way.to == Hop::Direct(to));
        known.unwrap_or(to.into())
    }

    /// The addresses that were never proven.
    pub(crate) fn unproven(&self, candidates: &[SocketAddr]) -> impl Iterator<Item = SocketAddr> {
        let claimed = self.claimed().and_then(|way| way.to.direct()).filter(|at| !holds(candidates, *at));
        claimed.into_iter().chain(tried(candidates)).filter(|at| Some(*at) != self.endpoint)
    }

    /// All addresses.
    pub(crate) fn all(&self, candidates: &[SocketAddr]) -> impl Iterator<Item = SocketAddr> {
        self.endpoint.into_iter().chain(self.unproven(candidates))
    }
}

/// The candidates that are tried, in canonical form. The last one, where the coordinator has seen the runner, comes third,
/// so that it is among the first three.
fn tried(candidates: &[SocketAddr]) -> impl Iterator<Item = SocketAddr> {
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
        assert_eq!((path.confirm(at(2).into()), path.confirm(at(2).into())), (Some(at(2)), None));
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
    fn answers_leave_from_the_address_that_was_asked() {
        let (asked, other): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let mut path = Path::default();
        path.claim(Way { to: at(7).into(), from: Some(other) });
        assert_eq!(path.way_to(at(7)).from, Some(other));
        assert!(path.confirm(Way { to: at(1).into(), from: Some(asked) }).is_some());
        assert_eq!((path.way(), path.way_to(at(2))), (Some(Way { to: at(1).into(), from: Some(asked) }), at(2).into()));
        assert_eq!(path.confirm(Way { to: at(1).into(), from: Some(other) }), None, "its place is no news");
        assert_eq!(path.way_to(at(1)).from, Some(other), "ours is");
        path.forget_local();
        assert_eq!(path.way(), Some(at(1).into()));
    }
    #[test]
    fn what_comes_by_a_relay_moves_nothing() {
        let relayed = Way::from(Hop::Relayed { relay: mesh_proto::RelayId(1), peer: at(4) });
        let mut path = Path::default();
        path.claim(relayed);
        assert_eq!((path.confirm(relayed), path.endpoint(), path.is_known()), (None, None, false));
        path.confirm(at(1).into());
        assert_eq!((path.confirm(relayed), path.endpoint()), (None, Some(at(1))));
    }
}
