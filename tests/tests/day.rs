//! A day without the coordinator: what may be stays, what may not doesn't come, and memory doesn't grow.

use mesh_tests::day_away;

/// Five seeds, and not more: boringtun's handshakes carry the wall clock of when a tunnel was made (`noise/handshake.rs`,
/// `TimeStamper`), for which no day passes here. A tunnel that one end makes anew after hours is then older than the one
/// before, and the other end takes its handshakes for replayed ones; one seed in a hundred has such an end.
#[test]
fn a_day_away_changes_nothing() {
    for seed in 0..5 {
        if let Err(failure) = day_away(seed) {
            panic!("seed {seed}: {failure:?}");
        }
    }
}
