//! The rules by which a path is used, one by one.

use std::sync::Arc;

use mesh_proto::{Abilities, Range, RelayId, RunnerId, relay::Relayed, view::Runner};

use super::{choose::RISES, *};
use crate::{
    probe::{Ping, Pong, SHORT},
    testing::Builder,
};

const RELAY: RelayId = RelayId(1);

fn at(port: u16) -> SocketAddr {
    ([192, 0, 2, 1], port).into()
}

fn near(port: u16) -> SocketAddr {
    ([10, 0, 0, 1], port).into()
}

fn relayed(relay: u64) -> Hop {
    Hop::Relayed { relay: RelayId(relay), peer: ([198, 51, 100, relay as u8], 50_000).into() }
}

/// This runner, and what the map says of the other one.
struct World {
    site: Site,
    runner: Arc<Runner>,
    link: Link,
    now: Instant,
    /// What the last calls demanded.
    pings: Vec<(Way, Ping)>,
    meets: Vec<(Way, Meet)>,
    endpoints: Vec<SocketAddr>,
}

impl World {
    /// Runner 1 with an allocation at relay 1, which runner 2 has too.
    fn new() -> Self {
        let view = Builder::new(1).runner(2).0;
        let mut runner = view.runners().next().map(|runner| Runner::clone(runner)).expect("runner 2");
        runner.can = Abilities::ALL;
        runner.endpoints = vec![near(1), at(1)];
        runner.relayed = vec![Relayed { relay: RELAY, address: relayed(1).address() }];
        let site = Site {
            runner: Some(RunnerId(1)),
            range: Some(Range::DEFAULT),
            mtu: 1344,
            relays: vec![RELAY],
            own: vec![([203, 0, 113, 5], 51820).into()],
            ..Site::default()
        };
        let (link, now) = (Link::default(), Instant::now());
        Self { site, runner: runner.into(), link, now, pings: vec![], meets: vec![], endpoints: vec![] }
    }

    fn act(&mut self, act: impl FnOnce(&mut Link, Around<'_>, Instant) -> Vec<Errand>) {
        let errands = act(&mut self.link, Around { site: &self.site, runner: &self.runner }, self.now);
        for errand in errands {
            match errand {
                Errand::Ping(way, volley) => self.pings.extend(volley.pings().map(|ping| (way, ping))),
                Errand::Meet(way, meet) => self.meets.push((way, meet)),
                Errand::Endpoint(at) => self.endpoints.push(at),
                Errand::Moved => {}
            }
        }
    }

    fn heard(&mut self, hop: impl Into<Hop>) {
        let way = Way::from(hop.into());
        self.act(|link, around, now| link.heard(way, around, now));
    }

    fn data(&mut self) {
        self.act(Link::begin);
    }

    fn doubt(&mut self) {
        self.act(|link, around, now| link.doubt(around, true, now));
    }

    fn pong(&mut self, ping: Ping) {
        let pong = Pong { path: ping.path, serial: ping.serial, len: ping.len, seen: at(9) };
        self.act(|link, around, now| link.pong(&pong, around, now));
    }

    /// Lets time pass from timer to timer.
    fn wait(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        loop {
            let due = self.link.due(Around { site: &self.site, runner: &self.runner });
            let Some(due) = due.filter(|due| *due <= end) else { break };
            self.now = self.now.max(due);
            self.act(|link, around, now| link.poll(around, true, now));
            if self.link.due(Around { site: &self.site, runner: &self.runner }).is_some_and(|again| again <= self.now) {
                // What is due without a consequence must not keep the engine busy.
                self.now += Duration::from_millis(250);
            }
        }
        self.now = self.now.max(end);
    }

    /// Answers all pings to these hops, and those that follow.
    fn answer(&mut self, hops: &[Hop]) {
        for _ in 0..10 {
            let (these, others) = self.pings.drain(..).partition(|(way, _)| hops.contains(&way.to));
            self.pings = others;
            let these: Vec<(Way, Ping)> = these;
            these.into_iter().for_each(|(_, ping)| self.pong(ping));
        }
    }

    fn used(&self) -> Option<Hop> {
        self.link.way().map(|way| way.to)
    }

    fn pinged(&self) -> Vec<(Hop, u16)> {
        self.pings.iter().map(|(way, ping)| (way.to, ping.len)).collect()
    }

    /// By the relay, with data.
    fn by_relay() -> Self {
        let mut world = Self::new();
        world.heard(relayed(1));
        world.data();
        world
    }

    /// Direct, with the relay as what was used before.
    fn direct() -> Self {
        let mut world = Self::by_relay();
        world.wait(1000);
        world.answer(&[at(1).into()]);
        assert_eq!(world.used(), Some(at(1).into()));
        world.pings.clear();
        world
    }
}

#[test]
fn the_first_answer_decides_what_is_used() {
    for first in [relayed(1), at(1).into()] {
        let mut world = World::new();
        world.act(|link, around, now| link.answered(Way::from(first), around, now));
        assert_eq!(world.used(), Some(first));
        assert_eq!(world.endpoints, first.direct().into_iter().collect::<Vec<_>>(), "only a direct one is remembered");
    }
}

#[test]
fn what_arrives_by_the_other_kind_of_path_moves_nothing() {
    let mut world = World::by_relay();
    world.heard(at(1));
    assert_eq!(world.used(), Some(relayed(1)));
    let mut world = World::direct();
    world.heard(relayed(1));
    assert_eq!(world.used(), Some(at(1).into()));
}

#[test]
fn a_direct_path_is_used_once_a_long_ping_has_come_back() {
    let mut world = World::by_relay();
    world.wait(100);
    let (way, short) = *world.pings.iter().find(|(way, _)| way.to == at(1).into()).expect("a short ping");
    assert_eq!(short.len, SHORT, "nothing long goes to a stranger");
    world.pings.clear();
    world.pong(short);
    assert_eq!(world.used(), Some(relayed(1)), "it may carry short packets only");
    let long = world.pings.iter().find(|(to, ping)| *to == way && ping.len == 1344).expect("a long ping").1;
    world.pong(long);
    assert_eq!((world.used(), &world.endpoints[..]), (Some(at(1).into()), &[at(1)][..]));
    assert_eq!(world.link.cut(), Some(1344));
}

#[test]
fn a_nearer_path_takes_the_place_of_a_direct_one_and_not_the_other_way_round() {
    let mut world = World::by_relay();
    world.wait(1000);
    world.answer(&[near(1).into(), at(1).into()]);
    assert_eq!(world.used(), Some(near(1).into()));
}

#[test]
fn silence_of_data_asks_every_path_and_the_first_pong_decides() {
    let mut world = World::direct();
    world.doubt();
    let asked: Vec<Hop> = world.pinged().iter().map(|(hop, _)| *hop).collect();
    assert!(asked.contains(&at(1).into()) && asked.contains(&relayed(1)));
    assert!(!asked.contains(&near(1).into()), "it has never answered");
    world.answer(&[relayed(1)]);
    assert_eq!((world.used(), world.link.authenticated()), (Some(relayed(1)), None));
    // The used one answers: nothing moves.
    let mut world = World::direct();
    world.doubt();
    world.answer(&[at(1).into()]);
    assert!(world.link.is_up() && world.used() == Some(at(1).into()));
    // Data arrives after all.
    let mut world = World::direct();
    world.doubt();
    world.heard(at(1));
    assert!(world.link.is_up());
}

#[test]
fn a_pong_that_was_asked_for_before_the_silence_decides_nothing() {
    let mut world = World::by_relay();
    world.wait(0);
    let old = world.pings.iter().find(|(way, _)| way.to == relayed(1)).expect("a ping on the relay").1;
    world.wait(1000);
    world.answer(&[at(1).into()]);
    world.pings.clear();
    world.doubt();
    world.pong(old);
    assert!(world.link.is_in_doubt() && world.used() == Some(at(1).into()));
}

#[test]
fn no_answer_by_any_path_for_two_seconds_and_the_runner_is_lost() {
    let mut world = World::direct();
    world.doubt();
    world.wait(1900);
    assert_eq!(world.pinged().iter().filter(|(hop, len)| *hop == relayed(1) && *len == SHORT).count(), 3);
    assert!(matches!(world.link.contact().state, State::Doubtful { .. }));
    world.wait(200);
    assert!(matches!(world.link.contact().state, State::Lost));
    assert_eq!(world.used(), Some(at(1).into()), "data goes where it went");
    world.heard(relayed(1));
    assert_eq!((world.used(), world.link.is_up()), (Some(relayed(1)), true), "whatever comes first is used now");
}

#[test]
fn lost_pongs_alone_change_nothing() {
    let mut world = World::direct();
    world.wait(600_000);
    assert!(world.link.is_up() && world.used() == Some(at(1).into()));
}

#[test]
fn a_path_that_fell_silent_is_shut_for_longer_and_longer() {
    let mut world = World::direct();
    for seconds in [10, 20, 40, 80] {
        world.doubt();
        world.answer(&[relayed(1)]);
        assert_eq!(world.used(), Some(relayed(1)));
        world.data();
        world.pings.clear();
        // Whatever comes from there, it is no way back before the time.
        world.wait(seconds * 1000 - 100);
        world.heard(at(1));
        world.act(|link, around, now| link.pinged(Way::from(at(1)), around, now));
        assert!(!world.pinged().iter().any(|(hop, _)| *hop == at(1).into()), "{seconds}");
        // The next meeting, a moment later, finds it again.
        world.wait(6000);
        world.data();
        world.wait(500);
        world.answer(&[at(1).into()]);
        assert_eq!(world.used(), Some(at(1).into()), "{seconds}");
    }
    // After ten minutes of good service it begins anew.
    world.now += Duration::from_secs(601);
    world.doubt();
    world.answer(&[relayed(1)]);
    world.data();
    world.wait(16_000);
    world.data();
    world.wait(500);
    world.answer(&[at(1).into()]);
    assert_eq!(world.used(), Some(at(1).into()));
}

#[test]
fn a_runner_that_speaks_by_the_relay_makes_the_direct_path_prove_itself() {
    let mut world = World::direct();
    world.wait(1000);
    world.pings.clear();
    world.heard(relayed(1));
    assert_eq!(world.pinged(), [(at(1).into(), SHORT)]);
    // It does.
    world.answer(&[at(1).into()]);
    world.wait(5000);
    (0..100).for_each(|_| world.heard(relayed(1)));
    assert!(world.pings.is_empty() && world.link.is_up(), "that holds for some time");
    // It doesn't: then the relay's answer decides.
    world.wait(6000);
    world.pings.clear();
    world.heard(relayed(1));
    world.wait(499);
    assert_eq!(world.pinged(), [(at(1).into(), SHORT); 4]);
    world.wait(1);
    world.heard(at(1));
    assert!(world.link.is_in_doubt(), "what comes from there says nothing of the way to there");
    world.answer(&[relayed(1)]);
    assert_eq!(world.used(), Some(relayed(1)));
}

#[test]
fn a_segment_that_is_sent_again_makes_the_direct_path_prove_itself() {
    let again = |world: &mut World| world.act(|link, around, now| link.suspect(Cause::Repetition, around, now));
    let mut world = World::direct();
    world.wait(1000);
    world.pings.clear();
    // On a path that loses much, one answer is enough.
    for _ in 0..100 {
        again(&mut world);
        world.wait(360);
        world.pings.drain(..world.pings.len().saturating_sub(1));
        world.answer(&[at(1).into()]);
        world.pings.clear();
        world.wait(640);
    }
    assert!(world.link.is_up() && world.used() == Some(at(1).into()));
    again(&mut world);
    world.wait(1199);
    assert_eq!(world.pinged().iter().filter(|(hop, _)| *hop == at(1).into()).count(), 6);
    assert!(world.link.is_up());
    world.wait(1);
    world.answer(&[relayed(1)]);
    assert_eq!(world.used(), Some(relayed(1)));
}

#[test]
fn another_direct_address_is_followed_at_once() {
    let mut world = World::direct();
    world.heard(at(7));
    assert_eq!((world.used(), world.endpoints.last()), (Some(at(7).into()), Some(&at(7))));
    assert!(world.link.waits_for_data(), "its path is measured with the next data");
    // Also one at the relay.
    let mut world = World::by_relay();
    let other = Hop::Relayed { relay: RELAY, peer: at(60_000) };
    world.heard(other);
    assert_eq!(world.used(), Some(other));
}

#[test]
fn two_paths_that_both_work_are_not_swapped_for_ever() {
    // Each side uses the other one's path. The side with the lower identifier stays.
    let mut world = World::by_relay();
    world.wait(1000);
    world.answer(&[near(1).into(), at(1).into()]);
    for _ in 0..100 {
        world.heard(at(1));
        assert_eq!(world.used(), Some(near(1).into()));
    }
}

#[test]
fn a_relay_that_is_gone_makes_room_for_another_one_at_once() {
    let mut world = World::new();
    let mut runner = Runner::clone(&world.runner);
    runner.relayed.push(Relayed { relay: RelayId(2), address: relayed(2).address() });
    world.runner = runner.into();
    world.site.relays = vec![RELAY, RelayId(2)];
    world.heard(relayed(1));
    let leave = |world: &mut World, relays: &[RelayId]| {
        world.site.relays = relays.to_vec();
        world.link.change_relays(Around { site: &world.site, runner: &world.runner }, world.now)
    };
    assert!(!leave(&mut world, &[RelayId(2)]) && world.used() == Some(relayed(2)));
    assert!(leave(&mut world, &[]) && world.used().is_none() && !world.link.is_up());
}

#[test]
fn a_runner_without_relays_moves_as_it_always_did() {
    let mut world = World::new();
    world.runner = Runner { can: Abilities::NONE, relayed: vec![], ..Runner::clone(&world.runner) }.into();
    for (i, address) in [at(1), at(2), at(1), near(3), at(2)].into_iter().cycle().take(50).enumerate() {
        world.heard(address);
        assert_eq!(world.used(), Some(address.into()), "{i}");
    }
    assert!(world.link.contact().others.is_empty() && world.pings.is_empty());
    world.doubt();
    assert!(world.link.is_up() && world.pings.is_empty());
}

mod addresses;
mod bounds;
mod meetings;

#[test]
fn where_a_runner_asked_from_is_known_when_it_is_in_contact_no_more() {
    let at: SocketAddr = ([192, 0, 2, 7], 51820).into();
    let mut link = Link::default();
    link.claim(at.into());
    link.sleep();
    assert_eq!(link.known().map(|way| way.to), Some(Hop::Direct(at)));
}
