//! Random lives of a coordinator whose changes of trust are waited for. A seed that fails is printed, and fails the same
//! way each time.

use mesh_tests::{
    found_by,
    waits::{Bug, run},
};

/// Seeds, and operations of each.
const SEEDS: u64 = 100;
const OPERATIONS: u32 = 300;

#[test]
fn a_wait_that_succeeds_can_be_relied_on_and_a_calm_mesh_lets_each_succeed() {
    let threads = std::thread::available_parallelism().map_or(2, usize::from) as u64;
    let outcomes = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|thread| {
                let seeds = move || (thread..SEEDS).step_by(threads as usize);
                let one =
                    |seed| run(seed, OPERATIONS, None).unwrap_or_else(|failure| panic!("seed {seed}: {failure:?}"));
                scope.spawn(move || seeds().map(one).fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1)))
            })
            .collect();
        let outcomes = threads.into_iter().map(|thread| thread.join().expect("no panic"));
        outcomes.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
    });
    // Both ends are common, or the checks see too little.
    assert!(outcomes.0 > 1000 && outcomes.1 > 1000, "{outcomes:?}");
}

/// The bug is found within some seeds, by the check that is there for it.
fn is_found(bug: Bug, words: &str) {
    let failures = (0..60).filter_map(|seed| run(seed, 300, Some(bug)).err());
    found_by(&[words], failures).unwrap_or_else(|seen| panic!("{bug:?} was not found, but {seen:#?}"));
}

#[test]
fn a_view_that_counts_as_confirmed_once_it_is_sent_is_found() {
    is_found(Bug::ConfirmedWhenSent, "still lets");
}

#[test]
fn a_view_confirmed_before_it_is_on_disk_is_found() {
    is_found(Bug::ConfirmedUnwritten, "still lets");
}

#[test]
fn a_runner_that_is_away_and_not_waited_for_is_found() {
    is_found(Bug::AbsentIgnored, "still lets");
}

#[test]
fn a_runner_that_lost_sight_of_the_deployment_and_is_not_waited_for_is_found() {
    is_found(Bug::LostSightForgotten, "still lets");
}

#[test]
fn a_wait_for_too_early_a_revision_is_found() {
    is_found(Bug::RevisionBefore, "still lets");
}

#[test]
fn lost_news_are_found() {
    is_found(Bug::NewsLost, "all is calm");
}

#[test]
fn a_view_that_was_never_sent_and_is_continued_is_found() {
    is_found(Bug::UnsentContinued, "all is calm");
}

#[test]
fn a_confirmation_of_an_earlier_stream_that_counts_is_found() {
    is_found(Bug::EarlierConfirmed, "still lets");
}

#[test]
fn a_database_that_is_put_back_and_keeps_its_epoch_is_found() {
    is_found(Bug::EpochKept, "all is calm");
}

#[test]
fn a_timer_that_does_not_run_is_found() {
    is_found(Bug::TimerStopped, "outlasts its deadline");
}
