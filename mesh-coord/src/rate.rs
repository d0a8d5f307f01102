//! Rate limits, so that no runner and no token keeps others from the writer and its disk. A request above the rate
//! waits for its turn, and is refused if it would wait too long.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use mesh_proto::{RunnerId, TokenId, message::Refusal};
use tokio::time::{Instant, sleep_until};

/// The longest wait for a turn.
const LONGEST: Duration = Duration::from_secs(10);
/// How many tokens' limiters are kept before unused ones are dropped.
const TOKENS: usize = 1024;

/// The turns of one runner or token.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    /// How many turns are available at once.
    burst: u32,
    /// The time after which one more turn is available.
    interval: Duration,
    /// The theoretical arrival time of the generic cell rate algorithm (ITU-T I.371 annex A): when all turns taken so
    /// far are paid for.
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

impl RateLimiter {
    /// For requests that are decided on and stored. A machine that starts all its containers is served at once.
    pub(crate) const fn commands() -> Self {
        Self { burst: 100, interval: Duration::from_millis(100), paid: Mutex::new(None) }
    }

    /// For requests that stay in memory.
    pub(crate) const fn notes() -> Self {
        Self { burst: 500, interval: Duration::from_millis(10), paid: Mutex::new(None) }
    }

    /// For reports of what passes. An agent reports once more when it ends, or when an operator begins to watch.
    pub(crate) const fn reports() -> Self {
        Self { burst: 4, interval: Duration::from_secs(1), paid: Mutex::new(None) }
    }

    /// Takes a turn if there is one at once.
    pub(crate) fn take_now(&self, now: Instant) -> bool {
        self.take_within(Duration::ZERO, 1, now).is_ok()
    }

    /// Takes a turn with the weight of several. It begins at the returned time, which may be `now`.
    ///
    /// # Errors
    /// If that is too far off. Then no turn is taken.
    pub(crate) fn take(&self, weight: u32, now: Instant) -> Result<Instant, Busy> {
        self.take_within(LONGEST, weight, now)
    }

    fn take_within(&self, longest: Duration, weight: u32, now: Instant) -> Result<Instant, Busy> {
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let next = paid.map_or(now, |paid| paid.max(now)) + self.interval * weight.clamp(1, self.burst);
        let turn = next.checked_sub(self.interval * self.burst).map_or(now, |turn| turn.max(now));
        if turn.duration_since(now) > longest {
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

    /// Whether all its turns are available again.
    pub(crate) fn is_fresh(&self, now: Instant) -> bool {
        self.paid.lock().unwrap_or_else(PoisonError::into_inner).is_none_or(|paid| paid <= now)
    }
}

/// The limits of one runner.
#[derive(Debug, Clone)]
pub(crate) struct RunnerLimits {
    /// For requests that are decided on and stored.
    pub(crate) commands: Arc<RateLimiter>,
    /// For requests that stay in memory.
    pub(crate) notes: Arc<RateLimiter>,
    /// For reports of what passes.
    pub(crate) reports: Arc<RateLimiter>,
}

impl Default for RunnerLimits {
    fn default() -> Self {
        Self {
            commands: Arc::new(RateLimiter::commands()),
            notes: Arc::new(RateLimiter::notes()),
            reports: Arc::new(RateLimiter::reports()),
        }
    }
}

/// The limits of all runners and tokens. They outlive streams, so that reconnecting doesn't reset them.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    runners: HashMap<RunnerId, RunnerLimits>,
    tokens: HashMap<TokenId, Arc<RateLimiter>>,
}

impl Limits {
    /// The limits of a runner.
    pub(crate) fn runner(&mut self, runner: RunnerId) -> RunnerLimits {
        self.runners.entry(runner).or_default().clone()
    }

    /// The limiter of an admin token.
    pub(crate) fn token(&mut self, token: TokenId) -> Arc<RateLimiter> {
        if self.tokens.len() >= TOKENS && !self.tokens.contains_key(&token) {
            let now = Instant::now();
            self.tokens.retain(|_, limiter| !limiter.is_fresh(now));
        }
        Arc::clone(self.tokens.entry(token).or_insert_with(|| Arc::new(RateLimiter::commands())))
    }

    /// Forgets a removed runner.
    pub(crate) fn forget(&mut self, runner: RunnerId) {
        self.runners.remove(&runner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_the_rest_one_by_one() {
        let limiter = RateLimiter::commands();
        let (burst, interval) = (limiter.burst, limiter.interval);
        let start = Instant::now() + interval * burst;
        let turns: Vec<Instant> = (0..burst + 3).map(|_| limiter.take(1, start).unwrap()).collect();
        assert_eq!(turns.iter().filter(|turn| **turn == start).count(), burst as usize);
        assert_eq!(turns[burst as usize..], [1, 2, 3].map(|n| start + interval * n));
        // After a quiet time, the runner has the full burst again.
        let later = start + interval * (burst + 3);
        assert!(limiter.is_fresh(later) && (0..burst).all(|_| limiter.take(1, later) == Ok(later)));
        assert_eq!(limiter.take(1, later), Ok(later + interval));
    }

    #[test]
    fn what_would_wait_for_long_is_refused_and_costs_no_turn() {
        let limiter = RateLimiter::commands();
        let now = Instant::now() + limiter.interval * limiter.burst;
        let taken = (0..1000).filter(|_| limiter.take(1, now).is_ok()).count();
        assert_eq!(taken, 200, "100 at once, and as many as 10 s have room for");
        assert_eq!(limiter.take(1, now), Err(Busy));
        assert!(limiter.take(1, now + limiter.interval).is_ok());
    }

    #[test]
    fn an_agent_that_reports_all_the_time_is_heard_once_a_second() {
        let (limiter, now) = (RateLimiter::reports(), Instant::now());
        let taken = (0..10_000).filter(|ms| limiter.take_now(now + Duration::from_millis(*ms))).count();
        assert_eq!(taken, 13, "four at once, and one for each full second");
    }

    #[test]
    fn a_heavy_turn_counts_as_many_light_ones() {
        let limiter = RateLimiter::commands();
        let now = Instant::now() + limiter.interval * limiter.burst;
        assert_eq!(limiter.take(65, now), Ok(now), "a runner that comes back with all it can hold");
        assert_eq!(limiter.take(65, now), Ok(now + limiter.interval * 30));
        assert_eq!(limiter.take(u32::MAX, now), Err(Busy));
    }
}
