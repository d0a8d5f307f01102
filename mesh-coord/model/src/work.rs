//! How much is looked up and compared: counted for tests and for fuzzing (feature `count`), and for nothing else.

#[cfg(any(test, feature = "count"))]
thread_local! {
    static STEPS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Notes a look-up or a comparison.
pub(crate) fn step() {
    #[cfg(any(test, feature = "count"))]
    STEPS.with(|steps| steps.set(steps.get() + 1));
}

/// How many there have been on this thread.
#[cfg(any(test, feature = "count"))]
#[must_use]
pub fn steps() -> u64 {
    STEPS.with(std::cell::Cell::get)
}
