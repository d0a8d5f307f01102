//! Allocations and data between clients.

use stun_types::message::Message;

use super::{
    client::{Answered::*, Client, channel, heard},
    *,
};
use crate::framed;

#[test]
fn two_clients_reach_each_other_first_by_indications_then_by_channels() {
    let mut world = World::new();
    let a = Client::ready(&mut world, 1, "192.0.2.1:1000");
    let b = Client::ready(&mut world, 2, "198.51.100.2:2000");
    assert!(a.relayed() != b.relayed() && a.relayed().ip() == b.relayed().ip());
    a.send(&mut world, b.relayed(), b"first");
    let [message] = &world.sent_to(&b)[..] else { panic!("one message") };
    assert_eq!(heard(message), (a.relayed(), b"first".to_vec()));
    assert_eq!(a.bind(&mut world, 0x4000, b.relayed()), Yes);
    a.say(&mut world, 0x4000, b"by a channel");
    let [message] = &world.sent_to(&b)[..] else { panic!("one message") };
    assert_eq!(heard(message), (a.relayed(), b"by a channel".to_vec()), "who has bound none gets an indication");
    assert_eq!(b.bind(&mut world, 0x4fff, a.relayed()), Yes);
    a.say(&mut world, 0x4000, b"both");
    assert_eq!(world.sent_to(&b), [channel(0x4fff, b"both")]);
    a.send(&mut world, b.relayed(), b"and");
    assert_eq!(world.sent_to(&b), [channel(0x4fff, b"and")], "also where it comes by an indication");
    b.say(&mut world, 0x4fff, b"back");
    assert_eq!(world.sent_to(&a), [channel(0x4000, b"back")]);
}

#[test]
fn a_batch_stays_a_batch() {
    let mut world = World::new();
    let a = Client::ready(&mut world, 1, "192.0.2.1:1000");
    let b = Client::ready(&mut world, 2, "198.51.100.2:2000");
    let c = Client::ready(&mut world, 3, "198.51.100.3:3000");
    assert_eq!((a.bind(&mut world, 0x4001, b.relayed()), b.bind(&mut world, 0x4002, a.relayed())), (Yes, Yes));
    assert_eq!((a.bind(&mut world, 0x4003, c.relayed()), c.bind(&mut world, 0x4004, a.relayed())), (Yes, Yes));
    let to = |number, count: u8| -> Vec<u8> { (0..count).flat_map(|i| channel(number, &[i; 60])).collect() };
    let broken = [&[0x40, 1, 0xff, 0xff][..], &[0; 60]].concat();
    let short = channel(0x4001, &[7; 20]);
    let mut batch = [to(0x4001, 10), to(0x4003, 3), broken, to(0x4001, 2), short].concat();
    world.relay.carry(a.way.client(), &mut batch, 64, world.now, &mut world.turn, &mut world.sent);
    let expected = [
        (b.way, to(0x4002, 10), 64),
        (c.way, to(0x4004, 3), 64),
        (b.way, [to(0x4002, 2), channel(0x4002, &[7; 20])].concat(), 64),
    ];
    assert_eq!(world.sent.0, expected);
    let counted = world.relay.counters.read();
    assert_eq!((counted.datagrams, counted.dropped_malformed), (16, 1));
}

#[test]
fn only_its_own_allocations_are_peers() {
    let mut world = World::new();
    let a = Client::ready(&mut world, 1, "192.0.2.1:1000");
    let b = Client::ready(&mut world, 2, "198.51.100.2:2000");
    for peer in ["192.0.2.77", "127.0.0.1", "10.0.0.1", "169.254.169.254", "198.51.100.2", "::1", "2001:db8::1"] {
        assert_eq!(a.permit(&mut world, peer), No(403), "{peer}");
        assert_eq!(a.bind(&mut world, 0x4000, (peer.parse::<std::net::IpAddr>().unwrap(), 53).into()), No(403));
        a.send(&mut world, (peer.parse::<std::net::IpAddr>().unwrap(), b.relayed().port()).into(), b"x");
    }
    let free = if b.relayed().port() == 5555 { 5556 } else { 5555 };
    assert_eq!(a.bind(&mut world, 0x4000, public(free)), No(403), "a port without an owner");
    a.send(&mut world, public(free), b"x");
    assert_eq!(world.sent.0, []);
}

#[test]
fn data_needs_the_permission_of_who_gets_it() {
    let mut world = World::new();
    let a = Client::ready(&mut world, 1, "192.0.2.1:1000");
    let mut b = Client::new(2, "198.51.100.2:2000");
    assert_eq!(b.allocate(&mut world), Yes);
    a.send(&mut world, b.relayed(), b"x");
    assert_eq!(a.bind(&mut world, 0x4000, b.relayed()), Yes);
    a.say(&mut world, 0x4000, b"x");
    assert_eq!(world.sent_to(&b).len(), 0);
    assert_eq!(b.permit(&mut world, PUBLIC), Yes);
    a.say(&mut world, 0x4000, b"x");
    assert_eq!(world.sent_to(&b).len(), 1);
    world.pass(299);
    a.say(&mut world, 0x4000, b"x");
    assert_eq!(world.sent_to(&b).len(), 1);
    world.pass(1);
    a.say(&mut world, 0x4000, b"x");
    a.send(&mut world, b.relayed(), b"x");
    assert_eq!(world.sent_to(&b).len(), 0, "a permission lives for 300 s");
}

#[test]
fn an_allocation_lives_ten_minutes_from_its_last_refresh() {
    let mut world = World::new();
    let mut a = Client::ready(&mut world, 1, "192.0.2.1:1000");
    world.pass(590);
    assert_eq!(a.refresh(&mut world, 3600), Yes);
    world.pass(590);
    assert_eq!(a.refresh(&mut world, 1), No(438), "the nonce is old");
    assert_eq!(a.allocate_again(&mut world, 5.into()), No(438));
    let answer = world.take(a.way, &a.request(turn_types::message::REFRESH, &[], 9.into())).unwrap();
    assert_eq!(a.challenged(&answer), 438);
    assert_eq!(a.refresh(&mut world, 1), Yes);
    world.pass(599);
    assert_eq!(world.relay.sweep(world.now), []);
    world.pass(1);
    assert_eq!(world.relay.sweep(world.now), [a.way]);
    assert_eq!((world.relay.size(), a.refresh(&mut world, 600)), ((0, 0), No(437)));
}

#[test]
fn a_client_ends_its_allocation() {
    let mut world = World::new();
    let a = Client::ready(&mut world, 1, "192.0.2.1:1000");
    let b = Client::ready(&mut world, 2, "198.51.100.2:2000");
    assert_eq!((a.bind(&mut world, 0x4000, b.relayed()), b.refresh(&mut world, 0)), (Yes, Yes));
    a.say(&mut world, 0x4000, b"x");
    assert_eq!(world.sent.0, []);
    assert_eq!(b.bind(&mut world, 0x4000, a.relayed()), No(437));
    assert_eq!(world.relay.size(), (1, 1));
}

#[test]
fn the_newest_of_one_pseudonym_wins_and_keeps_the_relayed_address() {
    let mut world = World::new();
    let a = Client::ready(&mut world, 1, "192.0.2.1:1000");
    let b = Client::ready(&mut world, 2, "198.51.100.2:2000");
    assert_eq!(a.bind(&mut world, 0x4000, b.relayed()), Yes);
    let moved = Client::ready(&mut world, 2, "198.51.100.2:40000");
    assert_eq!(moved.relayed(), b.relayed());
    a.say(&mut world, 0x4000, b"x");
    assert_eq!((world.sent_to(&b).len(), world.sent_to(&moved).len()), (0, 1), "the channel leads to where it is now");
    assert_eq!(b.refresh(&mut world, 600), No(437));
    let again = Client::ready(&mut world, 2, "198.51.100.2:40000");
    assert_eq!(again.relayed(), b.relayed(), "also where an earlier process had the same port");
    assert_eq!(world.relay.size(), (2, 1));
    let stranger = Client::ready(&mut world, 3, "198.51.100.2:40000");
    assert_eq!((world.relay.size(), again.refresh(&mut world, 600)), ((2, 1), No(441)));
    assert!(stranger.relayed() != again.relayed());
    a.say(&mut world, 0x4000, b"x");
    assert_eq!(world.sent.0, [], "a channel leads to no other client");
}

#[test]
fn an_allocate_that_comes_twice_is_answered_twice() {
    let mut world = World::new();
    let mut a = Client::ready(&mut world, 1, "192.0.2.1:1000");
    assert_eq!(a.allocate_again(&mut world, 77.into()), Yes);
    assert_eq!(a.permit(&mut world, PUBLIC), Yes);
    assert_eq!(a.allocate_again(&mut world, 77.into()), Yes);
    let b = Client::ready(&mut world, 2, "198.51.100.2:2000");
    b.send(&mut world, a.relayed(), b"x");
    assert_eq!(world.sent_to(&a).len(), 1, "its permission stands");
}

#[test]
fn the_same_relayed_address_comes_back_after_a_restart() {
    let mut first = World::new();
    let before: Vec<_> = (1..50).map(|i| Client::ready(&mut first, i, &format!("192.0.{i}.1:1")).relayed()).collect();
    let mut second = World::new();
    let after: Vec<_> = (1..50).map(|i| Client::ready(&mut second, i, &format!("198.51.{i}.9:1")).relayed()).collect();
    assert_eq!(before, after);
}

#[test]
fn a_stream_needs_no_padding_and_is_one_more_way() {
    let mut world = World::new();
    let way = Way::Stream { id: 9, remote: "192.0.2.1:1000".parse().unwrap() };
    let mut a = Client::of(1, way, YEAR_2026 + 60);
    let answer = world.take(way, &Client::greeting(0)).unwrap();
    assert_eq!(a.challenged(&answer), 401);
    assert_eq!((a.allocate_again(&mut world, 1.into()), a.permit(&mut world, PUBLIC)), (Yes, Yes));
    let b = Client::ready(&mut world, 2, "198.51.100.2:2000");
    assert_eq!((a.bind(&mut world, 0x4000, b.relayed()), b.bind(&mut world, 0x4001, a.relayed())), (Yes, Yes));
    b.say(&mut world, 0x4001, b"12345");
    let mut bytes = Vec::new();
    for (_, batch, stride) in &world.sent.0 {
        framed(batch, *stride, &mut bytes);
    }
    assert_eq!(bytes, [&channel(0x4000, b"12345")[..], &[0; 3]].concat());
    world.relay.gone(way.client());
    assert_eq!(world.relay.size(), (1, 1));
}

#[test]
fn a_binding_request_tells_where_it_came_from() {
    let mut world = World::new();
    let a = Client::ready(&mut world, 1, "192.0.2.1:1000");
    for (way, length) in [(a.way, 20), (udp("198.51.100.7:7"), 64), (udp("[2001:db8::7]:7"), 64)] {
        let question = Client::binding(length);
        let answer = world.take(way, &question).unwrap();
        let answer = Message::from_bytes(&answer).unwrap();
        let mapped = answer.attribute::<stun_types::attribute::XorMappedAddress>().unwrap();
        assert_eq!(mapped.addr(answer.transaction_id()), way.remote());
    }
}
