//! What no sequence of packets brings about.

use proptest::prelude::*;

use super::{super::knock::KNOCKS, *};

#[derive(Debug, Clone)]
enum Op {
    Heard(u8),
    Answered(u8),
    Pinged(u8),
    Pong(usize, bool),
    Doubt,
    Met(bool, Vec<u8>),
    Data,
    Wait(u64),
}

/// A direct address or one at a relay.
fn hop(n: u8) -> Hop {
    match n {
        0..4 => relayed(u64::from(n) + 1),
        4..8 => Hop::Relayed { relay: RELAY, peer: at(u16::from(n)) },
        8..12 => near(u16::from(n)).into(),
        _ => at(u16::from(n)).into(),
    }
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => any::<u8>().prop_map(|n| Op::Heard(n % 40)),
        1 => any::<u8>().prop_map(|n| Op::Answered(n % 40)),
        2 => any::<u8>().prop_map(|n| Op::Pinged(n % 40)),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(n, latest)| Op::Pong(n, latest)),
        1 => Just(Op::Doubt),
        1 => (any::<bool>(), proptest::collection::vec(12..255u8, 0..8)).prop_map(|(answer, all)| Op::Met(answer, all)),
        1 => Just(Op::Data),
        3 => (0..3000u64).prop_map(Op::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Changes between a relay and a direct path, pings to addresses that have not answered, and memory are bounded.
    #[test]
    fn nothing_makes_a_runner_flap_or_flood(ops in proptest::collection::vec(op(), 0..600), lower in any::<bool>()) {
        let mut world = World::new();
        if !lower {
            world.site.runner = Some(RunnerId(3));
        }
        let start = world.now;
        let (mut sent, mut rises): (Vec<(Hop, Ping)>, u32) = (vec![], 0);
        let mut knocks: Vec<Instant> = vec![];
        for op in ops {
            let before = world.used();
            let doubted = world.link.is_in_doubt() || !world.link.is_up();
            match op {
                Op::Heard(n) => world.heard(hop(n)),
                Op::Answered(n) => world.act(|link, around, now| link.answered(Way::from(hop(n)), around, now)),
                Op::Pinged(n) => world.act(|link, around, now| link.pinged(Way::from(hop(n)), around, now)),
                Op::Pong(n, latest) if !sent.is_empty() => {
                    let i = if latest { sent.len() - 1 - n % sent.len().min(8) } else { n % sent.len() };
                    let ping = sent[i].1;
                    world.pong(ping);
                }
                Op::Pong(..) => {}
                Op::Doubt => world.doubt(),
                Op::Met(is_answer, all) => {
                    let all: Vec<SocketAddr> = all.into_iter().map(|n| at(u16::from(n))).collect();
                    let meet = Meet::new(is_answer, &all);
                    world.act(|link, around, now| link.met(&meet, Way::from(relayed(1)), around, now));
                }
                Op::Data => world.data(),
                Op::Wait(millis) => world.wait(millis),
            }
            let contact = world.link.contact();
            prop_assert!(contact.others.len() < PATHS);
            let open: Vec<Hop> = contact.others.iter().chain(&contact.used).filter(|path| path.reach.is_open()).map(|path| path.hop).collect();
            let used = world.used();
            for (way, ping) in world.pings.drain(..) {
                sent.push((way.to, ping));
                if !way.to.is_relayed() && Some(way.to) != used && Some(way.to) != before && !open.contains(&way.to) {
                    prop_assert_eq!(ping.len, SHORT, "long pings go only to who has answered");
                    knocks.push(world.now);
                }
            }
            let rose = before.is_some_and(Hop::is_relayed) && used.is_some_and(|hop| !hop.is_relayed());
            rises += u32::from(rose && !doubted);
        }
        let elapsed = world.now - start;
        let more = elapsed.as_secs() / RISES.every.as_secs();
        prop_assert!(rises <= RISES.at_once + 1 + more as u32, "{rises} in {elapsed:?}");
        for (i, first) in knocks.iter().enumerate() {
            let within = knocks[i..].iter().filter(|at| **at - *first <= Duration::from_secs(5)).count();
            prop_assert!(within <= KNOCKS.at_once as usize + 10 + 1, "{within} in 5 s");
        }
    }
}

#[test]
fn a_direct_path_that_fails_again_and_again_is_used_a_few_times_only() {
    let (mut world, mut changes) = (World::direct(), 0);
    let end = world.now + Duration::from_secs(600);
    while world.now < end {
        if world.used() == Some(at(1).into()) {
            world.wait(1500);
            world.doubt();
            world.answer(&[relayed(1)]);
            changes += 1;
        } else {
            world.wait(250);
            world.answer(&[at(1).into()]);
            changes += u32::from(world.used() == Some(at(1).into()));
        }
        world.pings.clear();
    }
    assert!(changes <= 12, "{changes}");
}

#[test]
fn what_is_kept_of_a_runner_in_contact_is_about_a_kilobyte() {
    assert!(size_of::<Contact>() <= 640, "{}", size_of::<Contact>());
    assert!(size_of::<Path>() <= 144, "{}", size_of::<Path>());
}
