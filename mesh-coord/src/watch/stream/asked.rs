//! How often one agent was asked to report what passes, and whether it keeps to that.

use std::time::{Duration, Instant};

use crate::telemetry::Wish;

/// The shortest time between two reports of one agent, on average.
const APART: Duration = Duration::from_secs(1);
/// How many reports may come at once: an agent reports once more when it ends, or when an operator begins to watch.
const AT_ONCE: u32 = 4;

/// What one agent was asked for, and its reports.
#[derive(Debug)]
pub(super) struct Asked {
    wish: Wish,
    /// Until when its reports count, one after another.
    until: Option<Instant>,
}

impl Asked {
    pub(super) const fn new() -> Self {
        Self { wish: Wish::NONE, until: None }
    }

    /// Notes what the agent is asked for from now on; returns whether that is news to it.
    pub(super) fn ask(&mut self, wish: Wish) -> bool {
        std::mem::replace(&mut self.wish, wish) != wish
    }

    /// Whether a report that has come now is taken in.
    pub(super) fn admits(&mut self, now: Instant) -> bool {
        let until = self.until.map_or(now, |until| until.max(now));
        let admits = self.wish != Wish::NONE && until <= now + APART * (AT_ONCE - 1);
        if admits {
            self.until = Some(until + APART);
        }
        admits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Mode, Telemetry};

    #[test]
    fn an_agent_that_reports_all_the_time_is_heard_once_a_second() {
        let (mut asked, now) = (Asked::new(), Instant::now());
        assert!(!asked.admits(now), "it wasn't asked");
        let wish = Telemetry::new(Mode::Full).wish(now);
        assert!(asked.ask(wish) && !asked.ask(wish));
        let admitted = (0..10_000).filter(|ms| asked.admits(now + Duration::from_millis(*ms))).count();
        assert!((10..=14).contains(&admitted), "{admitted}");
    }
}
