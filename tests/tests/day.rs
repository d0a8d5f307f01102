//! A day without the coordinator: allowed connections stand, forbidden ones don't come, and memory doesn't grow.

use mesh_tests::day_away;

/// Not more than five seeds: boringtun's handshakes carry the wall clock of the tunnel's creation
/// (`noise/handshake.rs`, `TimeStamper`), which doesn't advance here. A tunnel that one end makes anew after hours is
/// then older than its predecessor, and the other end takes its handshakes for replays. One seed in a hundred has such
/// an end.
#[test]
fn a_day_away_changes_nothing() {
    for seed in 0..5 {
        if let Err(failure) = day_away(seed) {
            panic!("seed {seed}: {failure:?}");
        }
    }
}
