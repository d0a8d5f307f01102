//! Counts look-ups and comparisons, for tests and fuzzing only (feature `count`).

#[cfg(any(test, feature = "count"))]
thread_local! {
    static STEPS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Counts a look-up or a comparison.
pub(crate) fn step() {
    #[cfg(any(test, feature = "count"))]
    STEPS.with(|steps| steps.set(steps.get() + 1));
}

/// The count of this thread.
#[cfg(any(test, feature = "count"))]
#[must_use]
pub fn steps() -> u64 {
    STEPS.with(std::cell::Cell::get)
}
