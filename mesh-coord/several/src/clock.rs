//! The running time, which all coordinators share although each has a clock of its own: it is the largest that any of
//! them has told.

use std::time::Duration;

use mesh_model::RunningSeconds;

/// How many seconds a running time goes beyond what was told last, by whichever coordinator. A coordinator that stands still
/// for longer, or doesn't reach the records, may have been replaced by one that went on from what was told.
const LEAD: u64 = 15;

/// A coordinator's running time: what it was at some moment, and its machine's uptime then.
#[derive(Debug, Clone, Copy)]
pub struct Running {
    running: RunningSeconds,
    began: Duration,
    /// What was told last; `None`: there are no other coordinators.
    told: Option<RunningSeconds>,
}

impl Running {
    /// That of the only coordinator goes on from `running`, at this uptime.
    #[must_use]
    pub const fn alone(running: RunningSeconds, uptime: Duration) -> Self {
        Self { running, began: uptime, told: None }
    }

    /// That of one among others goes on from `running`, which was told last, at this uptime.
    #[must_use]
    pub const fn shared(running: RunningSeconds, uptime: Duration) -> Self {
        Self { running, began: uptime, told: Some(running) }
    }

    /// The running time at this uptime.
    #[must_use]
    pub fn at(&self, uptime: Duration) -> RunningSeconds {
        let passed = self.passed(uptime);
        self.told.map_or(passed, |told| passed.min(RunningSeconds(told.0.saturating_add(LEAD))))
    }

    fn passed(&self, uptime: Duration) -> RunningSeconds {
        RunningSeconds(self.running.0.saturating_add(uptime.saturating_sub(self.began).as_secs()))
    }

    /// A coordinator, perhaps this one, has told that its running time has come to this: time has passed for all.
    pub fn advance(&mut self, running: RunningSeconds, uptime: Duration) {
        let now = self.at(uptime);
        if now < running || now < self.passed(uptime) {
            // What has passed beyond the lead never counts.
            (self.running, self.began) = (now.max(running), uptime);
        }
        self.told = self.told.map(|told| told.max(running));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The running time after these events: what was told, if anything, and the uptime at which it is looked.
    fn life(mut running: Running, events: &[(Option<u64>, u64)]) -> Vec<u64> {
        let look = |(told, uptime): &(Option<u64>, u64)| {
            let uptime = Duration::from_secs(*uptime);
            if let Some(told) = told {
                running.advance(RunningSeconds(*told), uptime);
            }
            running.at(uptime).0
        };
        events.iter().map(look).collect()
    }

    #[test]
    fn what_a_coordinator_stands_still_for_never_counts() {
        let running = Running::shared(RunningSeconds(500), Duration::ZERO);
        // It tells nothing for a hundred seconds; meanwhile another one has gone on from 501.
        let seen =
            life(running, &[(Some(501), 1), (None, 9), (None, 101), (Some(516), 102), (None, 103), (Some(530), 104)]);
        assert_eq!(seen, [501, 509, 516, 516, 517, 530]);
    }

    #[test]
    fn ordinary_signs_of_life_cost_no_second() {
        let running = Running::shared(RunningSeconds(0), Duration::ZERO);
        let beats: Vec<_> = (1..100).map(|n| (Some(n - 1), n)).collect();
        assert_eq!(life(running, &beats).last(), Some(&99));
    }

    #[test]
    fn the_only_coordinator_counts_all_that_passes() {
        let running = Running::alone(RunningSeconds(500), Duration::ZERO);
        assert_eq!(life(running, &[(Some(500), 1), (None, 1000)]), [501, 1500]);
    }
}
