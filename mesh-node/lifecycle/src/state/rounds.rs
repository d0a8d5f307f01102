//! When all namespaces are looked at, in case a change was not heard.

use std::time::{Duration, Instant};

use crate::patience;

/// When all namespaces are looked at.
#[derive(Debug)]
pub(crate) struct Rounds {
    hears: bool,
    pub(crate) next: Instant,
    /// When, because more has changed than could be heard.
    pub(crate) lost: Option<Instant>,
}

impl Rounds {
    pub(crate) fn new(now: Instant) -> Self {
        Self { hears: false, next: now + patience::DEAF_ROUND, lost: None }
    }

    pub(crate) fn hearing(&mut self, hears: bool, now: Instant) {
        self.hears = hears;
        self.next = now + self.interval();
    }

    pub(crate) fn lost(&mut self, now: Instant) {
        self.lost.get_or_insert(now + patience::LOST_ROUND);
    }

    const fn interval(&self) -> Duration {
        if self.hears { patience::ROUND } else { patience::DEAF_ROUND }
    }

    /// Whether it is time. If so, the next round is set.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.next <= now || self.lost.is_some_and(|lost| lost <= now);
        if is_due {
            (self.next, self.lost) = (now + self.interval(), None);
        }
        is_due
    }
}
