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
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = condition() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} in vain for: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// [`until`] for a condition.
pub fn until_true(what: &str, condition: impl FnMut() -> bool) {
    true_within(PATIENCE, what, condition);
}

/// [`until_true`] with another time limit.
pub fn true_within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    within(limit, what, || condition().then_some(()));
}
