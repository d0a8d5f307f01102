//! The addresses that are tried.

use super::{super::hops::CANDIDATES, *};

fn around(candidates: &[SocketAddr]) -> (Site, Runner) {
    let mut runner = Runner::clone(&World::new().runner);
    (runner.can, runner.relayed, runner.endpoints) = (Abilities::NONE, vec![], candidates.to_vec());
    (Site::default(), runner)
}

fn confirm(link: &mut Link, way: Way) -> Option<SocketAddr> {
    let (site, runner) = around(&[]);
    let now = Instant::now();
    let errands =
        if link.is_settled(&way) { vec![] } else { link.heard(way, Around { site: &site, runner: &runner }, now) };
    errands.into_iter().find_map(|errand| match errand {
        Errand::Endpoint(at) => Some(at),
        _ => None,
    })
}

fn offer(link: &mut Link, before: &[SocketAddr], after: &[SocketAddr]) -> bool {
    let ((site, before), (_, after)) = (around(before), around(after));
    link.offer(Around { site: &site, runner: &before }, Around { site: &site, runner: &after }, Instant::now())
}

fn endpoint(link: &Link) -> Option<SocketAddr> {
    link.known().and_then(|way| way.to.direct())
}

fn unproven(link: &Link, candidates: &[SocketAddr]) -> Vec<SocketAddr> {
    let (site, runner) = around(candidates);
    link.unproven(Around { site: &site, runner: &runner }, true).collect()
}

fn all(link: &Link, candidates: &[SocketAddr]) -> Vec<SocketAddr> {
    let (site, runner) = around(candidates);
    link.all(Around { site: &site, runner: &runner }).collect()
}

#[test]
fn the_known_endpoint_comes_first_and_then_all() {
    let (mut link, candidates) = (Link::default(), [at(1), at(2)]);
    assert_eq!(all(&link, &candidates), [at(1), at(2)], "nothing is known");
    link.recall(at(9));
    assert_eq!(unproven(&link, &candidates), [at(1), at(2)]);
    assert_eq!(all(&link, &candidates), [at(9), at(1), at(2)]);
    assert_eq!(link.authenticated(), None, "what an earlier run knew is a guess");
    assert_eq!((confirm(&mut link, at(2).into()), confirm(&mut link, at(2).into())), (Some(at(2)), None));
    link.recall(at(9));
    assert_eq!(unproven(&link, &candidates), [at(1)], "this run knows better");
    assert_eq!(all(&link, &candidates), [at(2), at(1)]);
}

#[test]
fn where_an_initiation_came_from_is_tried_as_well_and_moves_nothing() {
    let (mut link, candidates) = (Link::default(), [at(1)]);
    link.claim(at(7).into());
    assert_eq!(unproven(&link, &candidates), [at(7), at(1)]);
    assert_eq!(endpoint(&link), None);
    confirm(&mut link, at(1).into());
    link.claim(at(7).into());
    assert_eq!(all(&link, &candidates), [at(1), at(7)]);
    link.claim(at(1).into());
    assert_eq!(all(&link, &candidates), [at(1)], "each once, and one claim at a time");
}

#[test]
fn an_endpoint_that_the_map_no_longer_holds_is_left() {
    let mut link = Link::default();
    confirm(&mut link, at(9).into());
    assert!(
        !offer(&mut link, &[at(1), at(2)], &[at(1), at(3)]) && endpoint(&link) == Some(at(9)),
        "the map never held it"
    );
    confirm(&mut link, at(3).into());
    assert!(
        !offer(&mut link, &[at(1), at(3)], &[at(3), at(4)]) && endpoint(&link) == Some(at(3)),
        "the map still holds it"
    );
    assert!(offer(&mut link, &[at(3), at(4)], &[at(4)]) && endpoint(&link).is_none() && link.authenticated().is_none());
}

#[test]
fn a_mapped_candidate_is_the_place_that_it_maps_and_few_are_tried() {
    let mapped = SocketAddr::from((std::net::Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped(), 1));
    let mut link = Link::default();
    assert_eq!(all(&link, &[mapped]), [at(1)]);
    confirm(&mut link, at(1).into());
    assert_eq!(all(&link, &[mapped, at(2)]), [at(1), at(2)]);
    assert!(!offer(&mut link, &[at(1)], &[mapped]) && offer(&mut link, &[mapped], &[at(2)]));
    let many: Vec<_> = (1..100).map(at).collect();
    assert_eq!(all(&link, &many).len(), CANDIDATES);
    assert_eq!(all(&link, &many[..5]), [at(1), at(2), at(5), at(3), at(4)], "the one seen by the coordinator is early");
}

#[test]
fn what_can_be_no_runners_address_is_not_tried() {
    let named = ["169.254.169.254:80", "[fe80::1]:1", "224.0.0.1:1", "[ff02::1]:1", "255.255.255.255:1", "0.0.0.0:1"];
    let named: Vec<SocketAddr> = named.iter().map(|at| at.parse().unwrap()).chain([at(1)]).collect();
    assert_eq!(all(&Link::default(), &named), [at(1)]);
}

#[test]
fn answers_leave_from_the_address_that_was_asked() {
    let (asked, other): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    let mut link = Link::default();
    link.claim(Way { to: at(7).into(), from: Some(other) });
    assert_eq!(link.way_to(at(7)).from, Some(other));
    assert!(confirm(&mut link, Way { to: at(1).into(), from: Some(asked) }).is_some());
    assert_eq!((link.known(), link.way_to(at(2))), (Some(Way { to: at(1).into(), from: Some(asked) }), at(2).into()));
    assert_eq!(confirm(&mut link, Way { to: at(1).into(), from: Some(other) }), None, "its place is no news");
    assert_eq!(link.way_to(at(1)).from, Some(other), "ours is");
    link.forget_local();
    assert_eq!(link.known(), Some(at(1).into()));
}

#[test]
fn what_comes_by_a_relay_is_no_address_of_the_runner() {
    let relayed = Way::from(Hop::Relayed { relay: RELAY, peer: at(4) });
    let mut link = Link::default();
    link.claim(relayed);
    assert_eq!((confirm(&mut link, relayed), endpoint(&link), link.is_known()), (None, None, true));
    confirm(&mut link, at(1).into());
    assert_eq!(link.authenticated(), None, "without a relay between nothing decides but a ping");
}
