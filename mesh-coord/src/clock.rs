//! The one place where the coordinator reads clocks: that of the day, and that of the time for which it runs.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mesh_model::{Now, RunningSeconds, UnixSeconds};
use nix::time::{ClockId, clock_gettime};
use tracing::warn;

/// A step of the system's clock up to this many seconds is a correction like any other. Back it is waited out.
const CORRECTION: u64 = 60;

/// The time of day, which follows the system's clock wherever it is set, since only the operator knows what is right; and
/// the running time, which doesn't care.
#[derive(Debug)]
pub(crate) struct Clock(Mutex<Reckoning>);

#[derive(Debug)]
struct Reckoning {
    /// The running time goes on from here,
    running: RunningSeconds,
    /// which was at this uptime of the machine.
    began: Duration,
    /// The time of day that was told last, and the uptime then.
    told: Option<(u64, Duration)>,
    #[cfg(test)]
    passed: u64,
}

impl Clock {
    /// A clock whose running time goes on from here.
    pub(crate) fn new(running: RunningSeconds) -> Self {
        Self::from(running, uptime())
    }

    /// The time now.
    pub(crate) fn now(&self) -> Now {
        let day = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.at(day, uptime())
    }

    fn from(running: RunningSeconds, began: Duration) -> Self {
        Self(Mutex::new(Reckoning {
            running,
            began,
            told: None,
            #[cfg(test)]
            passed: 0,
        }))
    }

    /// The time when the system's clock shows `day` after this `uptime`.
    fn at(&self, day: u64, uptime: Duration) -> Now {
        let mut reckoning = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        #[cfg(test)]
        let day = day + reckoning.passed;
        let day = match reckoning.told {
            Some((last, _)) if day < last && last - day <= CORRECTION => last,
            Some((last, then)) => {
                let due = last + uptime.saturating_sub(then).as_secs();
                if day.abs_diff(due) > CORRECTION {
                    let (seconds, how) = (day.abs_diff(due), if day < due { "back" } else { "ahead" });
                    warn!(seconds, "the system's clock was set {how}: tokens are good or not by what it says now");
                }
                day
            }
            None => day,
        };
        reckoning.told = Some((day, uptime));
        let running = reckoning.running.0.saturating_add(uptime.saturating_sub(reckoning.began).as_secs());
        Now { day: UnixSeconds(day), running: RunningSeconds(running) }
    }

    /// Sets the time of day ahead.
    #[cfg(test)]
    pub(crate) fn pass(&self, seconds: u64) {
        self.0.lock().unwrap().passed += seconds;
    }
}

/// For how long the machine has been up, asleep or not (`clock_gettime(2)`). It can't be set.
fn uptime() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The time of day and the running time, when the system's clock shows the one after so many seconds.
    fn told(clock: &Clock, day: u64, uptime: u64) -> (u64, u64) {
        let now = clock.at(day, Duration::from_secs(uptime));
        (now.day.0, now.running.0)
    }

    #[test]
    fn a_correction_back_is_waited_out() {
        let clock = Clock::from(RunningSeconds(0), Duration::ZERO);
        let told: Vec<_> = [(1000, 0), (970, 1), (999, 30), (1002, 33)].map(|(d, u)| told(&clock, d, u)).into();
        assert_eq!(told, [(1000, 0), (1000, 1), (1000, 30), (1002, 33)]);
    }

    #[test]
    fn the_day_follows_the_system_and_the_running_time_only_passes() {
        let clock = Clock::from(RunningSeconds(500), Duration::from_secs(7));
        assert_eq!(told(&clock, 1_000_000, 7), (1_000_000, 500));
        assert_eq!(told(&clock, 99_000_000, 8), (99_000_000, 501), "years ahead");
        assert_eq!(told(&clock, 1_000_002, 9), (1_000_002, 502), "and right again");
        assert_eq!(told(&clock, 0, 10), (0, 503), "before all days");
        assert_eq!(told(&clock, u64::MAX / 2, 10), (u64::MAX / 2, 503));
        assert_eq!(told(&clock, 5, 3), (5, 500), "an uptime can't go back, and if it did nothing would break");
    }

    #[test]
    fn the_systems_clocks_are_read() {
        let clock = Clock::new(RunningSeconds(500));
        let (before, after) = (clock.now(), clock.now());
        assert!(before.day.0 > 1_700_000_000 && before.running.0 >= 500);
        assert!(before.running <= after.running && uptime() > Duration::ZERO);
    }
}
