//! How much of the writer and its disk one runner, or the holder of one token, can have: one that asks without end must not
//! keep the others waiting. What goes beyond waits for its turn, and what would wait for long is refused.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use mesh_proto::message::Refusal;
use tokio::time::{Instant, sleep_until};

/// How long a turn may be off: no asker waits longer for an answer.
const LONGEST: Duration = Duration::from_secs(10);

/// The turns of one runner, or of one token.
#[derive(Debug)]
pub(crate) struct Brake {
    /// Turns that may come at once,
    burst: u32,
    /// and how long it takes until one more may come.
    interval: Duration,
    /// When all that was asked for will have been worth its time (the generic cell rate algorithm's theoretical arrival
    /// time, ITU-T I.371 annex A).
    paid: Mutex<Option<Instant>>,
}

/// The next turn is too far off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too much was asked at once: more is waiting than can be done in {} s", LONGEST.as_secs())]
pub(crate) struct Busy;

impl From<Busy> for Refusal {
    fn from(busy: Busy) -> Self {
        Self::new(busy.to_string(), "wait a few seconds, then try again")
    }
}

impl Brake {
    /// For what the writer has to decide on and the disk to keep. A machine that starts with all its containers comes
    /// through at once.
    pub(crate) const fn commands() -> Self {
        Self { burst: 100, interval: Duration::from_millis(100), paid: Mutex::new(None) }
    }

    /// For what is only noted.
    pub(crate) const fn notes() -> Self {
        Self { burst: 500, interval: Duration::from_millis(10), paid: Mutex::new(None) }
    }

    /// Takes a turn that is worth `weight` ordinary ones: it begins at the time returned, which may be over.
    ///
    /// # Errors
    /// If that is too far off. Then none is taken.
    pub(crate) fn take(&self, weight: u32, now: Instant) -> Result<Instant, Busy> {
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let next = paid.map_or(now, |paid| paid.max(now)) + self.interval * weight.clamp(1, self.burst);
        let turn = next.checked_sub(self.interval * self.burst).map_or(now, |turn| turn.max(now));
        if turn.duration_since(now) > LONGEST {
            return Err(Busy);
        }
        *paid = Some(next);
        Ok(turn)
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// If it is too far off.
    pub(crate) async fn turn(&self, weight: u32) -> Result<(), Busy> {
        sleep_until(self.take(weight, Instant::now())?).await;
        Ok(())
    }

    /// Whether nothing was taken for so long that a new one would be no different.
    pub(crate) fn is_fresh(&self, now: Instant) -> bool {
        self.paid.lock().unwrap_or_else(PoisonError::into_inner).is_none_or(|paid| paid <= now)
    }
}

/// What limits one runner.
#[derive(Debug, Clone)]
pub(crate) struct Brakes {
    /// What is decided on and kept.
    pub(crate) commands: Arc<Brake>,
    /// What is only noted.
    pub(crate) notes: Arc<Brake>,
}

impl Default for Brakes {
    fn default() -> Self {
        Self { commands: Arc::new(Brake::commands()), notes: Arc::new(Brake::notes()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_the_rest_one_by_one() {
        let brake = Brake::commands();
        let (burst, interval) = (brake.burst, brake.interval);
        let start = Instant::now() + interval * burst;
        let turns: Vec<Instant> = (0..burst + 3).map(|_| brake.take(1, start).unwrap()).collect();
        assert_eq!(turns.iter().filter(|turn| **turn == start).count(), burst as usize);
        assert_eq!(turns[burst as usize..], [1, 2, 3].map(|n| start + interval * n));
        // A runner that was quiet for long enough has them all again.
        let later = start + interval * (burst + 3);
        assert!(brake.is_fresh(later) && (0..burst).all(|_| brake.take(1, later) == Ok(later)));
        assert_eq!(brake.take(1, later), Ok(later + interval));
    }

    #[test]
    fn what_would_wait_for_long_is_refused_and_costs_no_turn() {
        let brake = Brake::commands();
        let now = Instant::now() + brake.interval * brake.burst;
        let taken = (0..1000).filter(|_| brake.take(1, now).is_ok()).count();
        assert_eq!(taken, 200, "100 at once, and as many as 10 s have room for");
        assert_eq!(brake.take(1, now), Err(Busy));
        assert!(brake.take(1, now + brake.interval).is_ok());
    }

    #[test]
    fn a_heavy_turn_is_as_many_light_ones() {
        let brake = Brake::commands();
        let now = Instant::now() + brake.interval * brake.burst;
        assert_eq!(brake.take(65, now), Ok(now), "a runner that comes back with all it can hold");
        assert_eq!(brake.take(65, now), Ok(now + brake.interval * 30));
        assert_eq!(brake.take(u32::MAX, now), Err(Busy));
    }
}
