//! Random runs of a mesh. A seed that fails is printed, and fails in the same way each time.

use mesh_tests::{Bug, found_by, run, run_beside_hostile_ones};

/// The number of seeds, and of operations for each.
const SEEDS: u64 = 100;
const OPERATIONS: u32 = 250;
const HOSTILE_SEEDS: u64 = 40;

#[test]
fn every_seed_keeps_its_promises() {
    let threads = std::thread::available_parallelism().map_or(2, usize::from) as u64;
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for seed in (thread..SEEDS).step_by(threads as usize) {
                    if let Err(failure) = run(seed, OPERATIONS, None) {
                        panic!("seed {seed}: {failure:?}");
                    }
                }
            });
        }
    });
}

#[test]
fn nothing_that_hostile_instances_and_runners_send_changes_what_others_may_do() {
    let threads = std::thread::available_parallelism().map_or(2, usize::from) as u64;
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for seed in (thread..HOSTILE_SEEDS).step_by(threads as usize) {
                    if let Err(failure) = run_beside_hostile_ones(seed, OPERATIONS, None) {
                        panic!("seed {seed}: {failure:?}");
                    }
                }
            });
        }
    });
}

#[test]
fn what_a_hostile_instance_does_to_others_is_found() {
    for (bug, words) in [
        (Bug::SourceBelieved, &["was reset on", "whose other end is there", "instead of", "hangs on"][..]),
        (Bug::TableTooSmall, &["that were promised", "instead of"]),
    ] {
        let found = (0..100).filter_map(|seed| run_beside_hostile_ones(seed, 150, Some(bug)).err());
        let found: Vec<String> = found.map(|failure| failure.what).take(1).collect();
        assert!(found.iter().any(|what| words.iter().any(|words| what.contains(words))), "{bug:?}: {found:#?}");
    }
}

#[test]
fn a_seed_replays_to_the_same_trace() {
    let first = run(7, 150, None).unwrap_or_else(|failure| panic!("{failure:?}"));
    assert!(first.len() > 150);
    // The mock clock belongs to a thread: a new thread begins at the same instant.
    let again =
        std::thread::spawn(|| run(7, 150, None).unwrap_or_else(|failure| panic!("{failure:?}"))).join().unwrap();
    assert!(first == again, "the traces part at step {:?}", first.iter().zip(&again).position(|(a, b)| a != b));
}

/// Some seed finds the bug, by the check for it.
fn is_found(bug: Bug, words: &[&str]) {
    let failures = (0..30).filter_map(|seed| run(seed, 150, Some(bug)).err());
    found_by(words, failures).unwrap_or_else(|seen| panic!("{bug:?} was not found, but {seen:#?}"));
}

#[test]
fn a_swapped_direction_is_found() {
    is_found(Bug::DirectionSwapped, &["and yet it was delivered", "instead of"]);
}

#[test]
fn mixed_releases_are_found() {
    is_found(Bug::ReleasesMixed, &["reached release"]);
}

#[test]
fn a_dropped_delta_is_found() {
    is_found(Bug::DeltaDropped, &["instead of"]);
}

#[test]
fn a_lost_pin_is_found() {
    is_found(Bug::PinLost, &["was reset on", "whose other end is there: true"]);
}

#[test]
fn an_ignored_quarantine_is_found() {
    is_found(Bug::QuarantineIgnored, &["has rested since"]);
}

#[test]
fn a_forgotten_reset_is_found() {
    is_found(Bug::ResetForgotten, &["hangs on"]);
}
