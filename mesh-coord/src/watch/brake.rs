//! How much of the writer and its disk one runner can have: agents lie, and one that asks without end must not keep the
//! others waiting. What goes beyond waits for its turn; nothing is refused for it.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// Commands that may come at once: a machine that starts with all its containers.
const BURST: u32 = 100;
/// How long it takes until one more may come.
const INTERVAL: Duration = Duration::from_millis(100);

/// The turns of one runner.
#[derive(Debug, Default)]
pub(crate) struct Brake {
    /// When all that was asked for will have been worth its time (the generic cell rate algorithm's theoretical arrival
    /// time, ITU-T I.371 annex A).
    paid: Mutex<Option<Instant>>,
}

impl Brake {
    /// Takes a turn: it begins at the time returned, which may be over.
    pub(crate) fn take(&self, now: Instant) -> Instant {
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let next = paid.map_or(now, |paid| paid.max(now)) + INTERVAL;
        *paid = Some(next);
        (next.checked_sub(INTERVAL * BURST)).map_or(now, |turn| turn.max(now))
    }

    /// Waits for a turn.
    pub(crate) async fn turn(&self) {
        sleep_until(self.take(Instant::now())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_the_rest_one_by_one() {
        let (brake, start) = (Brake::default(), Instant::now() + INTERVAL * BURST);
        let turns: Vec<Instant> = (0..BURST + 3).map(|_| brake.take(start)).collect();
        assert_eq!(turns.iter().filter(|turn| **turn == start).count(), BURST as usize);
        assert_eq!(turns[BURST as usize..], [1, 2, 3].map(|n| start + INTERVAL * n));
        // Whoever was quiet for long enough has them all again.
        let later = start + INTERVAL * (BURST + 3);
        assert!((0..BURST).all(|_| brake.take(later) == later));
        assert_eq!(brake.take(later), later + INTERVAL);
    }
}
