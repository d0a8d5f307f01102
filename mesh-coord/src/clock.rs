//! The only place where the coordinator reads clocks: the time of day, and how long it has been running.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mesh_model::{Now, RunningSeconds, UnixSeconds};
use mesh_several::clock::Running;
use nix::time::{ClockId, clock_gettime};
use tracing::warn;

/// A step of the system's clock of at most this many seconds is an ordinary correction. A step back is waited out.
const CORRECTION: u64 = 60;

/// The clocks of a machine.
pub(crate) trait Clocks: fmt::Debug + Send + Sync + 'static {
    /// Seconds since 1970 by the system's clock, which can be set.
    fn day(&self) -> u64;

    /// How long the machine has been up, asleep or not. It can't be set.
    fn uptime(&self) -> Duration;
}

/// The clocks of this machine.
#[derive(Debug)]
pub(crate) struct SystemClocks;

impl Clocks for SystemClocks {
    fn day(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    /// See `clock_gettime(2)`.
    fn uptime(&self) -> Duration {
        clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
    }
}

/// The time of day follows the system's clock wherever it is set, because only the operator knows what is right. The
/// running time doesn't.
#[derive(Debug)]
pub(crate) struct Clock {
    clocks: Box<dyn Clocks>,
    running: Mutex<Running>,
    /// The last time of day that was returned, and the machine's uptime then.
    last: Mutex<Option<(u64, Duration)>>,
}

impl Clock {
    /// A clock of the only coordinator, whose running time goes on from `running`.
    pub(crate) fn alone(running: RunningSeconds, clocks: impl Clocks) -> Self {
        Self::new(Running::alone(running, clocks.uptime()), clocks)
    }

    /// The same of one among others.
    pub(crate) fn shared(running: RunningSeconds, clocks: impl Clocks) -> Self {
        Self::new(Running::shared(running, clocks.uptime()), clocks)
    }

    fn new(running: Running, clocks: impl Clocks) -> Self {
        Self { clocks: Box::new(clocks), running: Mutex::new(running), last: Mutex::new(None) }
    }

    /// A coordinator, perhaps this one, has told that its running time has come to this: time has passed for all.
    pub(crate) fn advance(&self, running: RunningSeconds) {
        let uptime = self.clocks.uptime();
        self.running.lock().unwrap_or_else(PoisonError::into_inner).advance(running, uptime);
    }

    /// The time now.
    pub(crate) fn now(&self) -> Now {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let uptime = self.clocks.uptime();
        let day = settled(self.clocks.day(), uptime, *last);
        *last = Some((day, uptime));
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).at(uptime);
        Now { day: UnixSeconds(day), running }
    }
}

/// The time of day when the system's clock shows `day`.
fn settled(day: u64, uptime: Duration, last: Option<(u64, Duration)>) -> u64 {
    let Some((last, then)) = last else { return day };
    if day < last && last - day <= CORRECTION {
        return last;
    }
    let due = last.saturating_add(uptime.saturating_sub(then).as_secs());
    if day.abs_diff(due) > CORRECTION {
        let (seconds, how) = (day.abs_diff(due), if day < due { "back" } else { "ahead" });
        warn!(seconds, "the system's clock was set {how}: tokens are good or not by what it says now");
    }
    day
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Clocks that show what a test sets: the day and the uptime, in seconds.
    #[derive(Debug, Clone, Default)]
    struct Dial(Arc<Mutex<(u64, u64)>>);

    impl Dial {
        fn clock(&self, running: u64) -> Clock {
            Clock::alone(RunningSeconds(running), self.clone())
        }

        /// The time of day and the running time, when the clocks show this.
        fn read(&self, clock: &Clock, day: u64, uptime: u64) -> (u64, u64) {
            *self.0.lock().unwrap() = (day, uptime);
            let now = clock.now();
            (now.day.0, now.running.0)
        }
    }

    impl Clocks for Dial {
        fn day(&self) -> u64 {
            self.0.lock().unwrap().0
        }

        fn uptime(&self) -> Duration {
            Duration::from_secs(self.0.lock().unwrap().1)
        }
    }

    #[test]
    fn a_correction_back_is_waited_out() {
        let dial = Dial::default();
        let clock = dial.clock(0);
        let times: Vec<_> = [(1000, 0), (970, 1), (999, 30), (1002, 33)].map(|(d, u)| dial.read(&clock, d, u)).into();
        assert_eq!(times, [(1000, 0), (1000, 1), (1000, 30), (1002, 33)]);
    }

    #[test]
    fn the_day_follows_the_system_and_the_running_time_only_passes() {
        let dial = Dial(Arc::new(Mutex::new((0, 7))));
        let clock = dial.clock(500);
        assert_eq!(dial.read(&clock, 1_000_000, 7), (1_000_000, 500));
        assert_eq!(dial.read(&clock, 99_000_000, 8), (99_000_000, 501), "years ahead");
        assert_eq!(dial.read(&clock, 1_000_002, 9), (1_000_002, 502), "and right again");
        assert_eq!(dial.read(&clock, 0, 10), (0, 503), "before all days");
        assert_eq!(dial.read(&clock, u64::MAX / 2, 10), (u64::MAX / 2, 503));
        assert_eq!(dial.read(&clock, 5, 3), (5, 500), "an uptime can't go back, and if it did nothing would break");
    }

    #[test]
    fn the_running_time_follows_that_of_other_coordinators_and_never_goes_back() {
        let dial = Dial::default();
        let clock = dial.clock(500);
        assert_eq!(dial.read(&clock, 0, 10).1, 510);
        clock.advance(RunningSeconds(505));
        assert_eq!(dial.read(&clock, 0, 11).1, 511, "it is ahead already");
        clock.advance(RunningSeconds(900));
        assert_eq!(dial.read(&clock, 0, 21).1, 910);
    }

    #[test]
    fn the_systems_clocks_are_read() {
        let clock = Clock::alone(RunningSeconds(500), SystemClocks);
        let (before, after) = (clock.now(), clock.now());
        assert!(before.day.0 > 1_700_000_000 && before.running.0 >= 500);
        assert!(before.running <= after.running && SystemClocks.uptime() > Duration::ZERO);
    }
}
