//! Random lives of a mesh. A seed that fails is printed, and fails the same way each time.

use mesh_tests::{Bug, run};

#[test]
fn every_seed_keeps_its_promises() {
    for seed in 0..60 {
        if let Err(failure) = run(seed, 200, None) {
            panic!("seed {seed}: {failure:?}");
        }
    }
}

#[test]
fn a_seed_replays_to_the_same_trace() {
    let first = run(7, 150, None).unwrap_or_else(|failure| panic!("{failure:?}"));
    assert!(first.len() > 150);
    // The mock clock is a thread's own: a fresh thread begins at the same instant.
    let again =
        std::thread::spawn(|| run(7, 150, None).unwrap_or_else(|failure| panic!("{failure:?}"))).join().unwrap();
    assert!(first == again, "the traces part at step {:?}", first.iter().zip(&again).position(|(a, b)| a != b));
}

fn is_found(bug: Bug) {
    assert!((0..10).any(|seed| run(seed, 150, Some(bug)).is_err()), "{bug:?} was not found");
}

#[test]
fn a_swapped_direction_is_found() {
    is_found(Bug::DirectionSwapped);
}

#[test]
fn a_dropped_delta_is_found() {
    is_found(Bug::DeltaDropped);
}
