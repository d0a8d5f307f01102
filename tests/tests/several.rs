//! Random lives of several coordinators on one etcd. A seed that fails is printed, and fails the same way each time.

use mesh_tests::{
    found_by,
    several::{Bug, Tally, run},
};

/// Seeds, and operations of each.
const SEEDS: u64 = 60;
const OPERATIONS: u32 = 150;

fn all(from: u64, to: u64) -> Tally {
    let threads = std::thread::available_parallelism().map_or(2, usize::from) as u64;
    std::thread::scope(|scope| {
        let lives = (0..threads).map(|thread| {
            scope.spawn(move || {
                let seeds = (from + thread..to).step_by(threads as usize);
                let one =
                    |seed| run(seed, OPERATIONS, None).unwrap_or_else(|failure| panic!("seed {seed}: {failure:?}"));
                seeds.map(one).fold(Tally::default(), Tally::and)
            })
        });
        let lives: Vec<_> = lives.collect();
        lives.into_iter().map(|life| life.join().expect("no panic")).fold(Tally::default(), Tally::and)
    })
}

#[test]
fn what_several_coordinators_confirm_can_be_relied_on() {
    let tally = all(0, SEEDS);
    // All of it is common, or the checks see too little.
    let rare = [
        tally.commits,
        tally.unknown,
        tally.settled,
        tally.losses,
        tally.ended,
        tally.loads,
        tally.streams,
        tally.reused,
        tally.refused,
        tally.lost,
        tally.succeeded,
        tally.failed,
    ];
    assert!(rare.into_iter().all(|times| times >= 20), "{tally:#?}");
}

/// After a quiet time, and without the one coordinator that knew how long it was, an address was given before its time.
#[test]
fn a_life_that_failed_once_does_not_any_more() {
    run(10_892, OPERATIONS, None).unwrap();
}

/// The only coordinator stands still for longer than clocks may differ, while another one begins and goes on.
const STANDSTILLS: [u64; 3] = [191, 216, 509];

#[test]
fn lives_with_a_long_standstill_of_the_only_coordinator_go_well() {
    for seed in STANDSTILLS {
        run(seed, OPERATIONS, None).unwrap();
    }
}

#[test]
fn a_standstill_that_counts_is_found() {
    let bug = Bug::StandstillCounted;
    let failures = STANDSTILLS.into_iter().filter_map(|seed| run(seed, OPERATIONS, Some(bug)).err());
    found_by(&["in its quarantine"], failures).unwrap_or_else(|seen| panic!("{bug:?} was not found, but {seen:#?}"));
}

#[test]
fn a_seed_lives_the_same_life_each_time() {
    assert_eq!(run(7, 60, None).unwrap(), run(7, 60, None).unwrap());
}

/// The bug is found within some seeds, by the check that is there for it.
fn is_found(bug: Bug, words: &[&str]) {
    let failures = (0..40).filter_map(|seed| run(seed, OPERATIONS, Some(bug)).err());
    found_by(words, failures).unwrap_or_else(|seen| panic!("{bug:?} was not found, but {seen:#?}"));
}

#[test]
fn a_commit_that_does_not_compare_the_head_is_found() {
    is_found(Bug::CommitUncompared, &["is committed over another one"]);
}

#[test]
fn a_command_without_an_answer_that_is_repeated_is_found() {
    is_found(Bug::UnknownRepeated, &["takes effect twice"]);
}

#[test]
fn missed_commits_that_are_skipped_are_found() {
    is_found(Bug::GapIgnored, &["has other records than etcd", "is given twice", "deletes what is not there"]);
}

#[test]
fn a_lost_event_that_is_believed_is_found() {
    is_found(Bug::LossBelieved, &["has other records than etcd", "is given twice", "deletes what is not there"]);
}

#[test]
fn the_clock_of_a_coordinator_that_lags_is_found() {
    is_found(Bug::ClocksApart, &["in its quarantine"]);
}

#[test]
fn a_commit_that_comes_long_after_its_decision_is_found() {
    is_found(Bug::RightUncompared, &["in its quarantine"]);
}

#[test]
fn what_an_earlier_stream_asks_for_is_found_if_it_is_heard() {
    is_found(Bug::EarlierStreamHeard, &["what an earlier stream"]);
}

#[test]
fn a_wait_without_those_that_may_still_act_on_what_they_had_is_found() {
    is_found(Bug::OwedForgotten, &["still lets"]);
}

#[test]
fn a_coordinator_that_serves_from_memory_is_found() {
    is_found(Bug::StaleServed, &["goes back", "was confirmed before"]);
}
