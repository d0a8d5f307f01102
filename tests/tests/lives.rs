//! Random lives of instances by the agent's own rules. A seed that fails is printed, and fails the same way each time.

use std::sync::atomic::{AtomicU64, Ordering};

use mesh_tests::{
    found_by,
    lives::{Bug, run, run_and_kill},
};

/// Seeds, and operations of each.
const SEEDS: u64 = 100;
const OPERATIONS: u32 = 400;

fn side_by_side(seeds: u64, live: impl Fn(u64) + Sync) {
    let threads = std::thread::available_parallelism().map_or(2, usize::from) as u64;
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let live = &live;
            scope.spawn(move || (thread..seeds).step_by(threads as usize).for_each(live));
        }
    });
}

#[test]
fn every_life_keeps_its_promises_through_kills_and_absences() {
    let (operations, kills) = (AtomicU64::new(0), AtomicU64::new(0));
    side_by_side(SEEDS, |seed| match run(seed, OPERATIONS, None) {
        Ok(count) => {
            operations.fetch_add(count.operations, Ordering::Relaxed);
            kills.fetch_add(count.kills, Ordering::Relaxed);
        }
        Err(failure) => panic!("seed {seed}: {failure:?}"),
    });
    assert!(operations.into_inner() >= 20_000 && kills.into_inner() >= 500);
}

#[test]
fn a_kill_at_every_single_effect_leaves_nothing_undone() {
    let effects = AtomicU64::new(0);
    side_by_side(12, |seed| {
        for after in 1.. {
            match run_and_kill(seed, 30, after) {
                Ok(Some(_)) => {
                    effects.fetch_add(1, Ordering::Relaxed);
                }
                Ok(None) => break,
                Err(failure) => panic!("seed {seed}, a kill after {after} effects: {failure:?}"),
            }
        }
    });
    assert!(effects.into_inner() > 1000);
}

/// The mistake is found within some seeds, by the check that is there for it.
fn is_found(bug: Bug, words: &[&str]) {
    let failures = (0..160).filter_map(|seed| run(seed, 200, Some(bug)).err());
    found_by(words, failures).unwrap_or_else(|seen| panic!("{bug:?} was not found, but {seen:#?}"));
}

#[test]
fn planted_mistakes_are_found() {
    is_found(Bug::SaveLost, &["is made and not remembered", "the disk holds"]);
    is_found(Bug::ContainersForgotten, &["has not ended"]);
    is_found(Bug::EndUntold, &["at the coordinator"]);
    is_found(Bug::MarkIgnored, &["is served", "are served", "and not Some", "is not barred"]);
    is_found(Bug::ProcessEndLost, &["has not ended", "is still known"]);
    is_found(Bug::TunGoneLost, &["are served"]);
    is_found(Bug::ClearLost, &["are left in the file"]);
    is_found(Bug::HostsShared, &["holds the names of"]);
    is_found(Bug::BarForgotten, &["is not barred from the range"]);
    is_found(Bug::DiscardLost, &["is left with"]);
    is_found(Bug::RefusalUnheard, &["is taken over from a coordinator that refuses"]);
    is_found(Bug::LaterForgotten, &["the disk holds"]);
    is_found(Bug::HostsLeftForgotten, &["are left in the file"]);
    is_found(Bug::MoveUnheard, &["holds the names of"]);
    is_found(Bug::ChangeUnheard, &["is not put back"]);
    is_found(Bug::RevisionLost, &["an earlier view has turned"]);
}
