//! Who has no business here.

use proptest::prelude::*;
use turn_types::message::REFRESH;

use super::{
    client::{Answered::*, Client, channel},
    *,
};

#[test]
fn a_stranger_gets_nothing_longer_than_what_it_sent() {
    let mut world = World::new();
    let answers = |world: &mut World, length, make: fn(usize) -> Vec<u8>, remote: &str| {
        world.pass(1);
        let question = make(length);
        let answer = world.take(udp(remote), &question);
        assert!(answer.as_ref().is_none_or(|answer| answer.len() <= question.len()));
        answer.is_some()
    };
    assert!(!answers(&mut world, 0, Client::greeting, "192.0.2.1:1"), "as short as it can be");
    assert!(!answers(&mut world, 52, Client::greeting, "192.0.2.1:1"));
    assert!(answers(&mut world, 56, Client::greeting, "192.0.2.1:1"));
    assert!(!answers(&mut world, 20, Client::binding, "192.0.2.1:1"));
    assert!(answers(&mut world, 32, Client::binding, "192.0.2.1:1"));
    assert!(!answers(&mut world, 32, Client::binding, "[2001:db8::1]:1"));
    assert!(answers(&mut world, 44, Client::binding, "[2001:db8::1]:1"));
    assert!(world.unproven.1 <= world.unproven.0);
}

#[test]
fn a_network_of_strangers_gets_twenty_answers_a_second() {
    let mut world = World::new();
    let mut client = Client::ready(&mut world, 1, "192.0.2.200:1000");
    world.pass(1);
    let answers: usize = (0..1000)
        .filter(|i| world.take(udp(&format!("192.0.2.{}:{}", i % 100, 1000 + i)), &Client::greeting(64)).is_some())
        .count();
    assert_eq!(answers, 20);
    assert_eq!(client.refresh(&mut world, 600), Yes, "who has proved itself is not concerned");
    assert_eq!(Client::new(2, "198.51.100.1:1").allocate(&mut world), Yes, "and no network elsewhere");
    world.pass(1);
    assert_eq!(client.allocate(&mut world), Yes);
}

#[test]
fn without_good_credentials_there_is_no_allocation() {
    let mut world = World::new();
    let good = || Client::new(1, "192.0.2.1:1000");
    let mut expired = Client::of(1, udp("192.0.2.1:1000"), YEAR_2026);
    let mut password = Client { password: "guess".to_owned(), ..good() };
    let mut longer = Client { username: good().username.replacen("178", "999", 1), ..good() };
    let mut other = Client { username: Client::new(2, "192.0.2.1:1000").username, ..good() };
    let mut named = Client { username: "admin".to_owned(), ..good() };
    let mut realm = Client { realm: "else", ..good() };
    for client in [&mut expired, &mut password, &mut longer, &mut other, &mut named, &mut realm] {
        world.pass(1);
        assert_eq!(client.allocate(&mut world), No(401), "{}", client.username);
    }
    assert_eq!((world.relay.size(), world.relay.counters.read().denied), ((0, 0), 6));
}

#[test]
fn a_nonce_of_another_address_is_of_no_use() {
    let mut world = World::new();
    let mut here = Client::new(1, "192.0.2.1:1000");
    here.challenged(&world.take(here.way, &Client::greeting(64)).unwrap());
    let mut spoofed = Client { way: udp("198.51.100.66:1000"), ..here };
    assert_eq!(spoofed.allocate_again(&mut world, 4.into()), No(438));
    assert_eq!(world.relay.size(), (0, 0));
}

#[test]
fn credentials_that_expire_end_nothing_that_stands() {
    let mut world = World::new();
    let mut a = Client::of(1, udp("192.0.2.1:1000"), YEAR_2026 + 60);
    assert_eq!(a.allocate(&mut world), Yes);
    world.pass(100);
    assert_eq!((a.refresh(&mut world, 600), a.permit(&mut world, PUBLIC)), (Yes, Yes));
    assert_eq!(a.allocate_again(&mut world, 5.into()), No(401));
}

/// A runner that was removed while the relay heard nothing may have been forgotten since.
#[test]
fn expired_credentials_keep_nothing_once_the_coordinator_was_there() {
    let mut world = World::new();
    let mut a = Client::of(1, udp("192.0.2.1:1000"), YEAR_2026 + 60);
    assert_eq!(a.allocate(&mut world), Yes);
    world.pass(59);
    world.relay.inform(world.now);
    assert_eq!((a.refresh(&mut world, 600), a.permit(&mut world, PUBLIC)), (Yes, Yes), "the last second");
    world.pass(500);
    assert_eq!(a.refresh(&mut world, 600), Yes, "away");
    world.relay.inform(world.now);
    assert_eq!((a.refresh(&mut world, 600), a.permit(&mut world, PUBLIC)), (No(437), No(437)));
    assert_eq!(a.allocate_again(&mut world, 5.into()), No(401));
    world.pass(600);
    assert_eq!(world.relay.sweep(world.now), [a.way]);
    let mut renewed = Client::of(1, udp("192.0.2.1:1000"), world.now.unix + 60);
    assert_eq!(renewed.allocate(&mut world), Yes);
}

#[test]
fn a_revoked_pseudonym_ends_at_once_and_stays_out() {
    let mut world = World::new();
    let a = Client::ready(&mut world, 1, "192.0.2.1:1000");
    let mut b = Client::ready(&mut world, 2, "198.51.100.2:2000");
    assert_eq!((a.bind(&mut world, 0x4000, b.relayed()), b.bind(&mut world, 0x4000, a.relayed())), (Yes, Yes));
    assert_eq!(world.relay.revoke(pseudonym(2), YEAR_2026 + 1000), Some(b.way));
    a.say(&mut world, 0x4000, b"x");
    b.say(&mut world, 0x4000, b"x");
    b.send(&mut world, a.relayed(), b"x");
    assert_eq!(world.sent.0, []);
    assert_eq!((b.refresh(&mut world, 600), b.allocate(&mut world)), (No(403), No(403)));
    world.pass(1000);
    world.relay.sweep(world.now);
    assert_eq!(world.relay.revoked().count(), 0, "remembered as long as its credentials could live");
}

#[test]
fn who_has_no_allocation_sends_nothing_to_anybody() {
    let mut world = World::new();
    let a = Client::ready(&mut world, 1, "192.0.2.1:1000");
    let stranger = Client::new(9, "203.0.113.66:1");
    stranger.send(&mut world, a.relayed(), b"x");
    (0x4000..0x4100).for_each(|number| stranger.say(&mut world, number, b"x"));
    assert_eq!(world.sent.0, []);
    assert_eq!(world.relay.counters.read().dropped_unbound, 257);
}

proptest! {
    /// Whatever comes, from whomever: no panic, nothing to anybody but allocations, and no answer to who has proved
    /// nothing that is longer than the question.
    #[test]
    fn nothing_that_comes_does_harm(
        messages in prop::collection::vec((0..4_u8, prop::collection::vec(any::<u8>(), 0..120), any::<u16>(), 0..6_u8), 1..60),
    ) {
        let mut world = World::new();
        let a = Client::ready(&mut world, 1, "192.0.2.1:1000");
        let b = Client::ready(&mut world, 2, "198.51.100.2:2000");
        a.bind(&mut world, 0x4000, b.relayed());
        b.bind(&mut world, 0x4000, a.relayed());
        for (from, bytes, at, kind) in messages {
            let way = [a.way, b.way, udp("203.0.113.66:6"), udp("[2001:db8::6]:6")][usize::from(from)];
            let signed = || a.request(REFRESH, &[], 7.into());
            let mut message = match kind {
                0 => bytes,
                1 => channel(0x4000 + at % 3, &bytes),
                2 => signed(),
                3 => Client::greeting(64),
                4 => [&[0, 1, 0, (bytes.len() & 0xfc) as u8, 0x21, 0x12, 0xa4, 0x42][..], &[5; 12], &bytes].concat(),
                _ => [&[0, 0x16, 0, (bytes.len() & 0xfc) as u8, 0x21, 0x12, 0xa4, 0x42][..], &[5; 12], &bytes].concat(),
            };
            if kind > 1 && at % 2 == 0 {
                let place = usize::from(at) % message.len();
                message[place] ^= (at >> 8) as u8;
            }
            let known = world.relay.knows(way.client());
            let answer = world.take(way, &message);
            prop_assert!(known || answer.is_none_or(|answer| answer.len() <= message.len()));
            let stride = 1 + usize::from(at % 70);
            world.relay.carry(way.client(), &mut message, stride, world.now, &mut world.turn, &mut world.sent);
        }
        prop_assert!(world.sent.0.iter().all(|(to, ..)| *to == a.way || *to == b.way));
        prop_assert!(world.relay.size().0 == 2);
    }
}
