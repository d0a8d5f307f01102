//! How often a namespace is looked at: soon after something has changed, and less and less often where that doesn't
//! end. Pure: the time is passed in.

use std::time::{Duration, Instant};

/// How long after a change: other programs set up networks in several steps.
const SOON: Duration = Duration::from_millis(20);
/// The longest time between two looks where much changes but nothing has to be put back.
const NOISY: Duration = Duration::from_secs(1);
/// The longest time between two looks where something has to be put back each time.
const LATE: Duration = Duration::from_secs(30);
/// How many looks in a row come at the first pace.
const PATIENT: u32 = 8;
/// After how much time without a change the first pace applies again.
const QUIET: Duration = Duration::from_secs(5);
/// For how long nothing has to be put back until the fight counts as over.
const CALM: Duration = Duration::from_secs(60);

/// The pace of one namespace.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    due: Option<Instant>,
    last: Option<Instant>,
    /// When something was put back last.
    mended: Option<Instant>,
    /// How often something was put back, in a row.
    strikes: u32,
    /// How often nothing was to be put back, in a row.
    noise: u32,
}

impl Pace {
    /// Something may have changed.
    pub fn heard(&mut self, now: Instant) {
        if self.last.is_some_and(|last| now >= last + QUIET) {
            self.noise = 0;
        }
        let earliest = self.last.map_or(now, |last| last + self.pause());
        let at = earliest.max(now + SOON);
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// When it is to be looked at next.
    pub const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// It is being looked at: a change from now on is for the next look.
    pub const fn begins(&mut self) {
        self.due = None;
    }

    /// It was looked at, and whether something had to be put back.
    pub fn looked(&mut self, now: Instant, mended: bool) {
        if mended {
            (self.mended, self.strikes, self.noise) = (Some(now), self.strikes.saturating_add(1), 0);
        } else {
            self.noise = self.noise.saturating_add(1);
            if self.mended.is_none_or(|mended| now >= mended + CALM) {
                self.strikes = 0;
            }
        }
        self.last = Some(now);
        // A change that was heard during the look waits as long as one that comes now.
        if let Some(due) = &mut self.due {
            *due = (*due).max(now + SOON);
        }
        if self.fights() {
            // The end of the fight is found out.
            self.due.get_or_insert(now + CALM);
            self.due = self.due.map(|due| due.max(now + self.pause()));
        }
    }

    /// Whether something in there changes it all the time.
    pub const fn fights(&self) -> bool {
        self.strikes > PATIENT
    }

    /// How often something was put back, in a row.
    pub const fn strikes(&self) -> u32 {
        self.strikes
    }

    /// The shortest time between two looks.
    pub fn pause(&self) -> Duration {
        let doubled = |times: u32, most: Duration| SOON.saturating_mul(1 << times.min(16)).min(most);
        match self.strikes.checked_sub(PATIENT) {
            Some(more) => doubled(more, LATE),
            None => doubled(self.noise.saturating_sub(PATIENT), NOISY),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(pace: &mut Pace, mended: bool) -> Duration {
        let heard = pace.last.unwrap_or_else(Instant::now);
        pace.heard(heard);
        let due = pace.due().unwrap();
        pace.begins();
        pace.looked(due, mended);
        due - heard
    }

    #[test]
    fn who_fights_is_answered_less_and_less_often_and_who_stops_is_forgiven() {
        let mut pace = Pace::default();
        let waits: Vec<_> = (0..40).map(|_| look(&mut pace, true)).collect();
        assert!(waits[..8].iter().all(|wait| *wait == SOON), "{waits:?}");
        assert_eq!(waits[39], LATE);
        assert!(pace.fights());
        let later = pace.last.unwrap() + CALM;
        assert!(pace.due().is_some_and(|due| due <= later), "its end is found out");
        pace.begins();
        pace.looked(later, false);
        assert!(!pace.fights());
        assert_eq!(look(&mut pace, true), SOON);
    }

    #[test]
    fn noise_is_looked_at_once_a_second_at_most() {
        let mut pace = Pace::default();
        let waits: Vec<_> = (0..40).map(|_| look(&mut pace, false)).collect();
        assert_eq!((waits[0], waits[39]), (SOON, NOISY));
        let quiet = pace.last.unwrap() + QUIET;
        pace.heard(quiet);
        assert_eq!(pace.due(), Some(quiet + SOON));
    }
}
