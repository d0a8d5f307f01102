//! Meetings.

use super::*;

fn reflexive(port: u16) -> SocketAddr {
    ([203, 0, 113, 77], port).into()
}

/// By the relay, with one reflexive address.
fn world(lower: bool) -> World {
    let mut world = World::new();
    world.runner = Runner { reflexive: vec![reflexive(1)], ..Runner::clone(&world.runner) }.into();
    if !lower {
        world.site.runner = Some(RunnerId(3));
    }
    world.heard(relayed(1));
    world.link.note_rtt(Duration::from_millis(40));
    world
}

/// When pings to this address go out, in milliseconds after now, within `millis`.
fn times(world: &mut World, to: SocketAddr, millis: u64) -> Vec<u128> {
    let (start, mut times) = (world.now, vec![]);
    world.pings.clear();
    for _ in 0..millis {
        world.wait(1);
        let count = world.pings.drain(..).filter(|(way, _)| way.to == to.into()).count();
        times.extend(std::iter::repeat_n((world.now - start).as_millis(), count));
    }
    times
}

#[test]
fn the_lower_one_tells_its_addresses_and_begins_half_a_round_trip_later() {
    let mut world = world(true);
    world.wait(1000);
    assert!(world.meets.is_empty(), "before there is data nothing is sent");
    world.data();
    let (way, meet) = &world.meets[0];
    assert_eq!((way.to, meet.is_answer, meet.addresses()), (relayed(1), false, &world.site.own[..]));
    assert_eq!(times(&mut world, reflexive(1), 1000), [20, 60, 120, 220, 420]);
}

#[test]
fn the_other_one_begins_on_receipt_and_answers() {
    let mut world = world(false);
    world.data();
    world.wait(500);
    assert!(world.meets.is_empty(), "it leaves it to the other side");
    let told = reflexive(2);
    world.pings.clear();
    world.act(|link, around, now| link.met(&Meet::new(false, &[told]), Way::from(relayed(1)), around, now));
    assert!(world.meets.iter().all(|(way, meet)| way.to == relayed(1) && meet.is_answer) && world.meets.len() == 1);
    let first = world.pinged();
    assert!([told, reflexive(1), near(1), at(1)].iter().all(|at| first.contains(&((*at).into(), SHORT))), "{first:?}");
    assert_eq!(times(&mut world, told, 1000), [40, 100, 200, 400]);
    assert_eq!(times(&mut world, at(1), 1000), [0; 0], "others get one ping");
    // If the other side never begins, it does so itself.
    let mut world = meetings::world(false);
    world.data();
    world.wait(2000);
    world.data();
    assert_eq!(world.meets.len(), 1);
}

#[test]
fn meetings_are_few_and_end_with_use() {
    let mut world = world(true);
    let start = world.now;
    world.data();
    let mut met = vec![];
    for second in 0..3600u64 {
        if !world.meets.is_empty() {
            met.push((world.now - start).as_secs() / 5 * 5);
            world.meets.clear();
        }
        world.wait(1000);
        if second < 3200 {
            world.data();
        }
    }
    // Without data, whatever else keeps the tunnel in use, there is none.
    assert_eq!(met, [0, 35, 105, 705, 1305, 1905, 2505, 3105]);
}

#[test]
fn new_addresses_of_either_side_are_one_more_meeting() {
    let mut world = world(true);
    world.data();
    world.wait(10_000);
    world.meets.clear();
    let before = Arc::clone(&world.runner);
    world.runner = Runner { reflexive: vec![reflexive(9)], ..Runner::clone(&before) }.into();
    world.link.offer(
        Around { site: &world.site, runner: &before },
        Around { site: &world.site, runner: &world.runner },
        world.now,
    );
    world.data();
    assert_eq!(world.meets.len(), 1);
    assert_eq!(times(&mut world, reflexive(9), 1000).len(), 5);
    // An answer with news.
    world.wait(10_000);
    world.meets.clear();
    let news = |at| Meet::new(true, &[at]);
    world.act(|link, around, now| link.met(&news(reflexive(9)), Way::from(relayed(1)), around, now));
    world.wait(6000);
    assert!(world.meets.is_empty(), "none");
    world.act(|link, around, now| link.met(&news(reflexive(10)), Way::from(relayed(1)), around, now));
    world.wait(5000);
    world.data();
    assert_eq!(times(&mut world, reflexive(10), 1000).len(), 5);
    assert_eq!(world.meets.len(), 1);
}

#[test]
fn a_ping_from_an_address_that_was_not_told_is_answered_by_one() {
    let mut world = world(true);
    let unknown = Way::from(at(4444));
    world.act(|link, around, now| link.pinged(unknown, around, now));
    assert_eq!(world.pinged(), [(unknown.to, SHORT)]);
    world.answer(&[unknown.to]);
    assert_eq!(world.used(), Some(unknown.to), "a symmetric NAT on the other side");
}

#[test]
fn what_can_be_no_runners_address_is_not_pinged() {
    let mut world = world(true);
    let own = world.site.own[0];
    let overlay = SocketAddr::from((Range::DEFAULT.first(), 51820));
    let bad = [own, overlay, ([127, 0, 0, 1], 1).into(), ([224, 0, 0, 1], 1).into(), relayed(1).address()];
    world.act(|link, around, now| link.met(&Meet::new(false, &bad), Way::from(relayed(1)), around, now));
    bad.into_iter().for_each(|at| world.act(|link, around, now| link.pinged(Way::from(at), around, now)));
    world.wait(1000);
    for (hop, _) in world.pinged() {
        assert!(hop.direct().is_none_or(|at| !bad.contains(&at)), "{hop}");
    }
}
