//! Two runners with anything between them. A seed that fails is printed, and fails the same way each time.

use mesh_tests::{
    found_by,
    reach::{Between, Bug, Hairpin, Kind, Scene, run},
};

/// The seeds of each pair of the matrix, and of all of a scene's lives together.
const SEEDS: u64 = if cfg!(debug_assertions) { 3 } else { 100 };
const LIVES: usize = if cfg!(debug_assertions) { 20 } else { 400 };

/// One life of two runners.
type Life = (Between, Scene, u64);

/// Runs all of them, on all processors.
fn all_of(lives: &[Life]) {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let mine = lives.iter().skip(thread).step_by(threads);
            scope.spawn(move || {
                for (between, scene, seed) in mine {
                    if let Err(failure) = run(*between, *scene, *seed, None) {
                        panic!("{between:?}, {scene:?}, seed {seed}: {failure:?}");
                    }
                }
            });
        }
    });
}

fn pairs() -> impl Iterator<Item = Between> {
    Kind::ALL.into_iter().flat_map(|one| Kind::ALL.map(|other| Between::Apart([one, other])))
}

/// Lives with each of these between the runners in turn.
fn lives(scene: Scene, between: &[Between], count: usize) -> Vec<Life> {
    between.iter().cycle().zip(0..count).map(|(between, seed)| (*between, scene, seed as u64)).collect()
}

fn those(direct: bool) -> Vec<Between> {
    pairs().filter(|between| between.is_direct() == direct).collect()
}

fn all() -> Vec<Between> {
    pairs().collect()
}

#[test]
fn every_pair_meets_at_once_and_comes_to_the_path_that_it_can_have() {
    let seeds = |between| (0..SEEDS).map(move |seed| (between, Scene::Nothing, seed));
    all_of(&pairs().flat_map(seeds).collect::<Vec<_>>());
}

#[test]
fn so_do_runners_with_more_than_one_box_between_them() {
    use Kind::{Cone, Firewall, Home, Linux, Public, Symmetric};
    let mut between = vec![];
    for kind in [Firewall, Home, Linux, Cone, Symmetric, Kind::Blocked] {
        between.push(Between::OneNetwork(kind));
        between.extend([Between::Families([kind, Public]), Between::Families([Firewall, kind])]);
    }
    for kind in [Home, Linux, Cone, Symmetric, Kind::Blocked] {
        between.extend([Between::Twice([kind, Home]), Between::Twice([kind; 2])]);
    }
    for hairpin in [Hairpin::Yes, Hairpin::No] {
        between.extend([Home, Linux, Cone].map(|kind| Between::TwoNetworks(kind, hairpin)));
        between.extend([Home, Cone].map(|kind| Between::SameCarrier(kind, hairpin)));
    }
    between.extend([Symmetric, Home].map(|kind| Between::Both([kind, Symmetric])));
    all_of(&lives(Scene::Nothing, &between, between.len().max(LIVES)));
}

#[test]
fn a_pair_that_stays_relayed_tries_seldom_and_not_at_all_when_idle() {
    all_of(&lives(Scene::Long, &all(), LIVES));
}

#[test]
fn data_goes_by_the_relay_when_the_direct_path_dies_and_back_after_a_while() {
    all_of(&lives(Scene::DirectDies, &those(true), LIVES));
}

#[test]
fn a_path_that_loses_much_one_way_is_not_gone_back_to_all_the_time() {
    all_of(&lives(Scene::Lossy, &those(true), LIVES / 10));
}

#[test]
fn data_goes_by_the_other_relay_when_one_dies() {
    all_of(&lives(Scene::RelayDies, &all(), LIVES));
}

#[test]
fn connections_survive_the_only_relay() {
    all_of(&lives(Scene::RelayReturns, &all(), LIVES));
}

#[test]
fn boxes_may_forget_everything_and_get_other_addresses() {
    all_of(&lives(Scene::Flushed, &all(), LIVES));
}

#[test]
fn whatever_happens_two_runners_with_a_common_relay_reach_each_other() {
    all_of(&lives(Scene::Life, &all(), LIVES));
}

#[test]
fn runners_that_share_no_relay_meet_at_one_that_both_reach() {
    all_of(&lives(Scene::NoneShared, &all(), LIVES));
}

/// What these have shown was the model's: a program that writes once a second can't show a direct path sooner, a NAT that is
/// symmetric gives no port twice, two boxes that forget are two things that happen, and how often TCP has to try where a third
/// is lost in both directions is luck.
#[test]
fn lives_that_failed_once_don_t_any_more() {
    use Kind::{Cone, Firewall, Home, Linux, Symmetric};
    all_of(&[
        (Between::Apart([Cone, Home]), Scene::Long, 275),
        (Between::Apart([Symmetric, Firewall]), Scene::Nothing, 3),
        (Between::Apart([Cone, Linux]), Scene::Life, 80),
        (Between::Apart([Firewall, Linux]), Scene::Life, 255),
    ]);
}

/// Pairs that 0.1 can connect: one of them is reached by everyone.
fn open_pairs() -> Vec<Between> {
    let others = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Blocked);
    others.flat_map(|kind| [Between::Apart([Kind::Public, kind]), Between::Apart([kind, Kind::Public])]).collect()
}

#[test]
fn an_agent_of_0_1_is_reached_directly_and_is_sent_nothing_that_it_does_not_know() {
    all_of(&lives(Scene::Old, &open_pairs(), LIVES));
}

/// The bug is found within some seeds, by a check that is there for it.
fn is_found(bug: Bug, between: Between, scene: Scene, words: &[&str]) {
    let failures = (0..20).filter_map(|seed| run(between, scene, seed, Some(bug)).err());
    found_by(words, failures).unwrap_or_else(|seen| panic!("{bug:?} was not found, but {seen:#?}"));
}

const HOMES: Between = Between::Apart([Kind::Home, Kind::Home]);
const RELAYED: Between = Between::Apart([Kind::Home, Kind::Symmetric]);

#[test]
fn runners_that_do_not_tell_that_they_can_use_relays_are_found() {
    is_found(Bug::Untold, RELAYED, Scene::Nothing, &["an answer to the first SYN"]);
}

#[test]
fn handshakes_to_reflexive_addresses_before_the_meeting_are_found() {
    let linux = Between::Apart([Kind::Linux, Kind::Linux]);
    is_found(Bug::ReflexiveAsEndpoint, linux, Scene::Nothing, &["a direct path"]);
}

#[test]
fn an_agent_that_does_not_notice_that_its_relay_was_restarted_is_found() {
    is_found(Bug::RelayDeathUnnoticed, RELAYED, Scene::RelayReturns, &["allocations", "all that was written"]);
}

#[test]
fn an_agent_that_goes_to_the_first_relay_of_another_runner_only_is_found() {
    is_found(Bug::FirstRelayOnly, RELAYED, Scene::NoneShared, &["an answer to the first SYN"]);
}

#[test]
fn a_coordinator_that_says_of_an_agent_of_0_1_that_it_can_use_relays_is_found() {
    let between = Between::Apart([Kind::Public, Kind::Home]);
    is_found(Bug::Overstated, between, Scene::Old, &["an agent of 0.1 was sent"]);
}

#[test]
fn long_pings_that_promise_too_much_are_found() {
    is_found(Bug::LongPingsPass, HOMES, Scene::DirectDies, &["stands still", "all that was written"]);
}
