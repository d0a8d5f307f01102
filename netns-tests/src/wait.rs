//! Waiting for conditions. The only place where time is spent idly: nothing is true because time has passed.

use std::{
    thread,
    time::{Duration, Instant},
};

/// How long a condition may take that has no promise of its own.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks until there is an answer, and returns it. Panics, naming `what`, when there is none in [`PATIENCE`].
pub fn until<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, condition)
}

/// [`until`] with a limit of its own.
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

/// [`until`] for what is either true or not.
pub fn until_true(what: &str, condition: impl FnMut() -> bool) {
    true_within(PATIENCE, what, condition);
}

/// [`until_true`] with a limit of its own.
pub fn true_within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    within(limit, what, || condition().then_some(()));
}
