//! Random links under standing transfers. A seed that fails is printed, and fails the same way each time.

use mesh_tests::{
    found_by,
    paths::{Bug, run},
};

const SEEDS: u64 = 100;

#[test]
fn transfers_complete_without_a_stall_however_the_link_changes() {
    let threads = std::thread::available_parallelism().map_or(2, usize::from) as u64;
    let lost: u32 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|thread| {
                let one = |seed| run(seed, None).unwrap_or_else(|failure| panic!("seed {seed}: {failure:?}"));
                scope.spawn(move || (thread..SEEDS).step_by(threads as usize).map(one).sum::<u32>())
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    assert!(lost > 1000, "the link has lost only {lost} datagrams by their length");
}

/// The bug is found within some seeds, by a check that is there for it.
fn is_found(bug: Bug, words: &[&str]) {
    let failures = (0..30).filter_map(|seed| run(seed, Some(bug)).err());
    found_by(words, failures).unwrap_or_else(|seen| panic!("{bug:?} was not found, but {seen:#?}"));
}

#[test]
fn runners_that_do_not_tell_what_they_can_are_found() {
    is_found(Bug::Untold, &["stands still"]);
}

#[test]
fn pings_that_may_be_fragmented_are_found() {
    is_found(Bug::PingsFragmented, &["stands still"]);
}

#[test]
fn lost_pings_are_found() {
    is_found(Bug::PingsLost, &["stands still"]);
}
