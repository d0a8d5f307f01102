//! Random lives of engines with lanes. A seed that fails is printed, and fails the same way each time.

use mesh_tests::{
    found_by,
    lanes::{Bug, Tally, run},
};

const SEEDS: u64 = 100;

#[test]
fn connections_keep_their_order_and_their_rights_whatever_lanes_do() {
    let threads = std::thread::available_parallelism().map_or(2, usize::from) as u64;
    let one = |seed| run(seed, None).unwrap_or_else(|failure| panic!("seed {seed}: {failure:?}"));
    let all = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|thread| {
                let seeds = (thread..SEEDS).step_by(threads as usize);
                scope.spawn(move || seeds.map(one).fold(Tally::default(), Tally::and))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).fold(Tally::default(), Tally::and)
    });
    let Tally { by_lane, moved, waited, revoked, restarts, beside, disordered, .. } = all;
    assert!(by_lane[1..].iter().all(|packets| *packets > 100), "{by_lane:?}: each further lane carries something");
    assert!(moved > 50 && waited > 500, "{moved} moves, {waited} packets waited for room");
    assert!(revoked > 20 && restarts > 3, "{revoked} connections in flow lost their right, {restarts} restarts");
    assert!(beside > 50, "{beside} connections beside a lane that stood still");
    assert!(disordered > 0, "a network that loses datagrams is seen to");
}

/// The bug is found within some seeds, by a check that is there for it.
fn is_found(bug: Bug, words: &[&str]) {
    let failures = (0..30).filter_map(|seed| run(seed, Some(bug)).err());
    found_by(words, failures).unwrap_or_else(|seen| panic!("{bug:?} was not found, but {seen:#?}"));
}

#[test]
fn moves_that_do_not_wait_are_found() {
    is_found(Bug::MoveNotAwaited, &["out of order"]);
}

#[test]
fn news_in_another_order_are_found() {
    is_found(Bug::NewsShuffled, &["out of order"]);
}

#[test]
fn connections_that_go_by_two_lanes_are_found() {
    is_found(Bug::LaneChanged, &["out of order"]);
}

#[test]
fn maps_that_are_called_applied_too_early_are_found() {
    is_found(Bug::StaleAfterApplied, &["after the revocation was applied"]);
}
