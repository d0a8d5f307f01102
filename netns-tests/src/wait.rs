//! Waits for conditions. This is the only place that spends time idly: no condition holds merely because time has
//! passed.

use std::{
    thread,
    time::{Duration, Instant},
};

/// How long a condition may take that promises no time.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks until there is an answer, and returns it. Panics with `what` if there is none in [`PATIENCE`].
pub fn until<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, condition)
}

/// [`until`] with another time limit.
pub fn within<T>(limit: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        let asked = Instant::now();
        if let Some(answer) = condition() {
            return answer;
        }
        assert!(begun.elapsed() < limit, "waited {limit:?} in vain for: {what}");
        thread::sleep(pause(begun.elapsed(), asked.elapsed()));
    }
}

/// The time to the next question, after waiting so long and a question that took so long. Most questions start a program:
/// asked without a pause, a test that waits would take the processor from those that work. A test notices an answer at
/// most a twentieth late.
fn pause(waited: Duration, took: Duration) -> Duration {
    (waited / 20).max(2 * took).clamp(Duration::from_millis(10), Duration::from_secs(1))
}

/// [`until`] for a condition.
pub fn until_true(what: &str, condition: impl FnMut() -> bool) {
    true_within(PATIENCE, what, condition);
}

/// [`until_true`] with another time limit.
pub fn true_within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    within(limit, what, || condition().then_some(()));
}
