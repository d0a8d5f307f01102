//! The pauses between streams.

use std::time::Duration;

use mesh_process::Backoff;

/// The first pause.
const FIRST: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(5);

/// Pauses between attempts to reach the coordinator.
pub(crate) const fn pauses() -> Backoff {
    Backoff::new(FIRST, LONGEST)
}

/// An unpredictable number; if the system has no randomness, always the same.
pub(crate) fn random() -> u64 {
    getrandom::u64().unwrap_or_default()
}
