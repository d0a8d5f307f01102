//! A token bucket.

use std::time::{Duration, Instant};

/// A sustained rate, and a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    /// Not zero.
    pub(crate) each_second: u32,
    pub(crate) at_once: u32,
}

/// A rate of less than one a second, and a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    pub(crate) every: Duration,
    pub(crate) at_once: u32,
}

/// What is left of a [`Rate`] or a [`Pace`], full at first. The bucket is stored as the time when it will be full again (the virtual
/// scheduling algorithm of ITU-T I.371), so that rounding loses nothing.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Bucket(Option<Instant>);

impl Bucket {
    pub(crate) const fn full() -> Self {
        Self(None)
    }

    /// Takes a token. Returns false if there is none.
    pub(crate) fn take(&mut self, rate: Rate, now: Instant) -> bool {
        self.take_at(rate.into(), now)
    }

    /// As [`Self::take`].
    pub(crate) fn take_at(&mut self, pace: Pace, now: Instant) -> bool {
        let after = self.after(pace, now);
        if let Some(full) = after {
            self.0 = Some(full);
        }
        after.is_some()
    }

    /// Whether there is no token.
    pub(crate) fn is_empty(&self, rate: Rate, now: Instant) -> bool {
        self.after(rate.into(), now).is_none()
    }

    /// When it would be full again after taking a token; `None` if there is none.
    fn after(&self, Pace { every, at_once }: Pace, now: Instant) -> Option<Instant> {
        let full = self.0.map_or(now, |full| full.max(now)) + every;
        (full.saturating_duration_since(now) <= every * at_once).then_some(full)
    }
}

impl From<Rate> for Pace {
    fn from(rate: Rate) -> Self {
        Self { every: Duration::from_secs(1) / rate.each_second, at_once: rate.at_once }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { each_second: 5, at_once: 3 };

    #[test]
    fn so_much_at_once_and_so_much_in_the_long_run() {
        let (start, mut bucket) = (Instant::now(), Bucket::default());
        let taken = |bucket: &mut Bucket, now| (0..100).filter(|_| bucket.take(RATE, now)).count();
        assert_eq!(taken(&mut bucket, start), 3);
        assert!(bucket.is_empty(RATE, start) && !bucket.is_empty(RATE, start + Duration::from_millis(200)));
        // However unevenly it is asked.
        let at = |millis| start + Duration::from_millis(millis);
        let all: usize = (1..=1000).map(|tick| taken(&mut bucket, at(tick * 7))).sum();
        assert_eq!(all, 35);
        assert_eq!(taken(&mut bucket, at(3_600_000)), 3, "but not without bound");
    }

    #[test]
    fn a_clock_that_was_read_earlier_does_no_harm() {
        let (start, mut bucket) = (Instant::now() + Duration::from_secs(9), Bucket::default());
        assert!(bucket.take(RATE, start));
        assert!(!bucket.take(RATE, start - Duration::from_secs(5)));
        assert!(bucket.take(RATE, start));
    }
}
