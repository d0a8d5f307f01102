//! A day without the coordinator: what may be stays, what may not doesn't come, and memory doesn't grow.

use mesh_tests::day_away;

#[test]
fn a_day_away_changes_nothing() {
    for seed in 0..5 {
        if let Err(failure) = day_away(seed) {
            panic!("seed {seed}: {failure:?}");
        }
    }
}
