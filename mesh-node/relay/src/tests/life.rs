//! How an allocation comes to be, is kept, lost and had again.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn an_address_takes_three_requests_and_names_ours() {
    let mut world = World::new();
    let mut a = Runner::new(1, &world);
    settle(&mut world, &mut [&mut a]);
    assert_eq!(a.events, [Event::Allocated { relayed: a.relayed(), reflexive: Some(runner(1)) }]);
    assert_eq!(a.relayed().ip(), relay().ip());
    // Without credentials, with them, and the permission.
    assert_eq!(world.asked, 3);
}

#[test]
fn what_is_asked_without_credentials_is_as_long_as_the_answer() {
    let world = World::new();
    let mut a = Runner::new(1, &world);
    a.client.handle_timeout(world.now);
    assert!(a.client.poll_transmit().expect("Allocate").len() >= 64);
    assert!(crate::Look::new(world.now).poll_transmit().expect("Binding").len() >= 64);
}

#[test]
fn a_silent_day_keeps_it_by_a_sign_of_life_every_twenty_seconds() {
    let (mut world, mut a, mut b) = pair();
    let (relayed, before) = (a.relayed(), world.asked);
    pass(&mut world, &mut [&mut a, &mut b], 3600 * SECOND);
    assert_eq!((a.relayed(), a.events.len()), (relayed, 1));
    let each = (world.asked - before) / 2;
    // A Refresh every 20 to 25 s and a permission every 240 s, some of them twice for a new nonce.
    assert!((3600 / 25..3600 / 20 + 25).contains(&each), "{each}");
    a.send(&mut world, b.relayed(), &[b"still"]);
    settle(&mut world, &mut [&mut a, &mut b]);
    assert_eq!(b.got, [(a.relayed(), b"still".to_vec())]);
}

#[test]
fn datagrams_are_signs_of_life() {
    let (mut world, mut a, mut b) = pair();
    let to = b.relayed();
    a.send(&mut world, to, &[b"x"]);
    settle(&mut world, &mut [&mut a, &mut b]);
    let before = world.asked;
    for _ in 0..40 {
        pass(&mut world, &mut [&mut a, &mut b], SECOND);
        a.send(&mut world, to, &[b"x"]);
        let back = a.relayed();
        b.send(&mut world, back, &[b"y"]);
    }
    settle(&mut world, &mut [&mut a, &mut b]);
    // b binds its channel, and that is all beside the data.
    assert_eq!(world.asked - before, 80 + 1);
}

#[test]
fn a_restarted_relay_is_noticed_and_asked_again() {
    let (mut world, mut a, mut b) = pair();
    world.restart();
    pass(&mut world, &mut [&mut a, &mut b], 26 * SECOND);
    for runner in [&a, &b] {
        assert!(matches!(runner.events[..], [Event::Allocated { .. }, Event::Lost, Event::Allocated { .. }]));
    }
    a.send(&mut world, b.relayed(), &[b"again"]);
    settle(&mut world, &mut [&mut a, &mut b]);
    assert_eq!(b.got, [(a.relayed(), b"again".to_vec())]);
}

#[test]
fn data_without_an_answer_makes_it_ask_at_once() {
    let (mut world, mut a, b) = pair();
    world.restart();
    a.send(&mut world, b.relayed(), &[b"lost"]);
    pass(&mut world, &mut [&mut a], 1500 * SECOND / 1000);
    assert!(matches!(a.events[1..], [Event::Lost, Event::Allocated { .. }]), "{:?}", a.events);
}

#[test]
fn a_relay_that_is_away_for_a_minute_is_found_within_five_seconds() {
    let (mut world, mut a, mut b) = pair();
    let relayed = a.relayed();
    world.cut = true;
    a.send(&mut world, b.relayed(), &[b"lost"]);
    pass(&mut world, &mut [&mut a, &mut b], 60 * SECOND);
    assert_eq!(a.events[1..], [Event::Lost]);
    assert_eq!(a.client.standing(), Standing::Unanswered);
    world.cut = false;
    pass(&mut world, &mut [&mut a, &mut b], 5 * SECOND);
    assert_eq!((a.events.len(), a.relayed()), (3, relayed), "the same address, since the relay has kept it");
    world.cut = true;
    pass(&mut world, &mut [&mut a, &mut b], 3600 * SECOND);
    world.cut = false;
    world.restart();
    pass(&mut world, &mut [&mut a, &mut b], 5 * SECOND);
    assert!(matches!(a.client.standing(), Standing::Allocated(_)));
}

#[test]
fn a_nat_that_forgets_us_costs_the_address_and_no_more() {
    let (mut world, mut a, mut b) = pair();
    a.at = runner(9);
    pass(&mut world, &mut [&mut a, &mut b], 26 * SECOND);
    assert_eq!(a.events[2], Event::Allocated { relayed: a.relayed(), reflexive: Some(runner(9)) });
}

#[test]
fn what_a_killed_process_left_is_ended_first() {
    let (mut world, a, _) = pair();
    let left = a.relayed();
    let (mut next, before) = (Runner::new(1, &world), world.asked);
    // Some relays end an allocation a second after they have said so.
    pass(&mut world, &mut [&mut next], SECOND);
    assert_eq!(next.events, []);
    assert!(world.asked - before <= 5, "no storm of requests");
    pass(&mut world, &mut [&mut next], SECOND);
    assert_ne!(next.relayed(), left);
    assert_eq!(next.events.len(), 1);

    // The same with a login that the coordinator has renewed since.
    let mut renewed = Runner::named(1, login("new"), Some(login("1")), &world);
    pass(&mut world, &mut [&mut renewed], 2 * SECOND);
    assert!(matches!(renewed.client.standing(), Standing::Allocated(_)), "{:?}", renewed.client.standing());
}

#[test]
fn wrong_credentials_are_refused_until_there_are_others() {
    let mut world = World::new();
    let wrong = Login::new("1", Zeroizing::new("guess".to_owned()));
    let mut a = Runner::named(1, wrong, None, &world);
    pass(&mut world, &mut [&mut a], 20 * SECOND);
    assert_eq!(a.events, [Event::Refused(401)]);
    assert!(world.asked < 5, "no storm of requests");
    a.client.set_login(login("1"), world.now);
    settle(&mut world, &mut [&mut a]);
    assert!(matches!(a.events[..], [_, Event::Allocated { .. }]), "{:?}", a.events);
}

#[test]
fn silence_from_the_start_is_told_after_three_requests() {
    let mut world = World::new();
    world.cut = true;
    let mut a = Runner::new(1, &world);
    pass(&mut world, &mut [&mut a], 3 * SECOND);
    assert_eq!(a.events, []);
    pass(&mut world, &mut [&mut a], SECOND);
    assert_eq!((&a.events[..], a.client.standing()), (&[Event::Unanswered][..], Standing::Unanswered));
}

#[test]
fn a_released_allocation_is_gone_at_the_relay() {
    let (mut world, mut a, mut b) = pair();
    let (left, now) = (a.relayed(), world.now);
    a.client.release(now);
    let bye = a.client.poll_transmit().expect("a last word");
    world.arrive(a.at, relay(), bye);
    world.out.clear();
    b.send(&mut world, left, &[b"to no one"]);
    assert!(world.out.iter().all(|(to, _)| *to != a.at));
}

#[test]
fn no_secret_is_shown() {
    let text = format!("{:?}", Runner::new(1, &World::new()).client);
    assert!(!text.contains("password of"), "{text}");
}
