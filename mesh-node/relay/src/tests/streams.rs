//! Relays that are reached by connections where no datagram gets through.

use mesh_proto::RelayId;

use super::{
    several::{Relaying, address, config},
    *,
};
use crate::{Config, Relays, To};

const SECOND: Duration = Duration::from_secs(1);

/// Relays that take connections too. `cut`: no datagram reaches them.
fn relaying(distances: &[u32], cut: bool) -> Relaying {
    let mut relaying = Relaying::new(distances);
    relaying.worlds.iter_mut().for_each(|(.., world)| world.cut = cut);
    relaying.client = Relays::new(3, relaying.now);
    let both = |n| Config { streams: true, ..config(n, vec![address(n)]) };
    relaying.client.set((0..distances.len()).map(both).collect(), relaying.now);
    relaying
}

/// What carries the messages with the first relay, and where data goes.
fn carried(relaying: &mut Relaying) -> (Transport, Option<To>) {
    let transport = relaying.client.reports().next().expect("a relay").transport;
    let peer = (RELAY, 50_999).into();
    let to = relaying.client.wrap(RelayId(0), peer, &mut [0; 40], 40, relaying.now);
    (transport, to.map(|(to, _)| to))
}

#[test]
fn where_datagrams_get_through_no_connection_is_asked_for() {
    let mut relaying = relaying(&[40], false);
    relaying.pass(SECOND * 600);
    assert_eq!((relaying.at(), relaying.asked.len()), (vec![0], 0));
}

#[test]
fn a_far_relay_that_answers_is_waited_for() {
    let mut relaying = relaying(&[400], false);
    relaying.pass(SECOND * 600);
    assert_eq!(carried(&mut relaying), (Transport::Datagram, Some(To::Address(address(0)))));
    assert!(relaying.open.is_empty(), "the connection is closed again");
}

#[test]
fn without_datagrams_a_connection_is_asked_for_after_250_ms_and_used() {
    let mut relaying = relaying(&[40], true);
    relaying.pass(Duration::from_millis(250 + 4 * 40));
    assert_eq!(relaying.asked, [Duration::from_millis(250)]);
    assert_eq!(relaying.at(), [0]);
    assert_eq!(carried(&mut relaying), (Transport::Stream, Some(To::Stream(RelayId(0)))));
    assert_eq!(relaying.client.reports().next().and_then(|report| report.reflexive), None);
    // It is kept.
    relaying.pass(SECOND * 3600);
    assert_eq!((relaying.at(), relaying.asked.len()), (vec![0], 1));
}

#[test]
fn datagrams_take_over_when_they_get_through() {
    let mut relaying = relaying(&[40], true);
    relaying.pass(SECOND);
    assert_eq!(relaying.open, [RelayId(0)]);
    relaying.worlds[0].2.cut = false;
    relaying.pass(SECOND * 65);
    assert_eq!(carried(&mut relaying), (Transport::Datagram, Some(To::Address(address(0)))));
    assert!(relaying.open.is_empty() && relaying.at() == [0]);
}

#[test]
fn a_connection_takes_over_when_datagrams_no_longer_get_through() {
    let mut relaying = relaying(&[40], false);
    relaying.pass(SECOND);
    relaying.worlds[0].2.cut = true;
    // Data without an answer: the relay is asked.
    assert_eq!(carried(&mut relaying).0, Transport::Datagram);
    relaying.pass(SECOND * 6);
    assert_eq!(carried(&mut relaying).0, Transport::Stream);
    assert_eq!(relaying.at(), [0]);
}

#[test]
fn a_connection_that_ends_is_replaced_at_once() {
    let mut relaying = relaying(&[40], true);
    relaying.pass(SECOND);
    relaying.open.clear();
    relaying.client.handle_disconnected(RelayId(0), relaying.now);
    assert_eq!(relaying.at(), [0; 0]);
    relaying.pass(SECOND);
    assert_eq!((relaying.at(), relaying.asked.len()), (vec![0], 2));
}

#[test]
fn connections_that_fail_are_tried_less_and_less_often() {
    let mut relaying = relaying(&[40], true);
    relaying.connects = false;
    relaying.pass(SECOND * 600);
    assert!((10..20).contains(&relaying.asked.len()), "{:?}", relaying.asked);
    relaying.connects = true;
    relaying.pass(SECOND * 61);
    assert_eq!(relaying.at(), [0]);
}

#[test]
fn of_many_relays_two_are_chosen_without_datagrams_too() {
    let mut relaying = relaying(&[40, 10, 20, 30], true);
    relaying.pass(SECOND * 10);
    assert_eq!((relaying.at().len(), relaying.open.len()), (2, 2));
}

#[test]
fn a_relay_that_is_removed_has_its_connection_closed() {
    let mut relaying = relaying(&[40], true);
    relaying.pass(SECOND);
    relaying.client.set(vec![], relaying.now);
    relaying.pass(SECOND);
    assert!(relaying.open.is_empty() && relaying.at().is_empty());
    assert!(!relaying.client.handle_connected(RelayId(0), relaying.now), "a connection that comes late is not wanted");
}
