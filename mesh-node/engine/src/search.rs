//! The search for a runner that doesn't answer: since when, how often it was asked, and when it may be asked again.

use std::time::{Duration, Instant};

/// A runner gets this many handshakes, five seconds each, before traffic for it is rejected.
const HANDSHAKES: u32 = 3;
const PATIENCE: Duration = Duration::from_secs(15);

/// A packet for a runner that is known not to answer waits this long, in case it answers now: longer than any round
/// trip.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

/// How often such a runner is asked at most at a proven address, while traffic waits.
const PROVEN: Duration = Duration::from_secs(1);

/// How often it is asked at unproven addresses, and while no traffic waits: less and less often, by how long it hasn't
/// answered.
const PACES: [(Duration, Duration); 3] = [
    (Duration::from_secs(60), Duration::from_secs(5)),
    (Duration::from_secs(300), Duration::from_secs(10)),
    (Duration::MAX, Duration::from_secs(30)),
];

/// How long after the last traffic for it such a runner is asked and its silence is remembered.
const FORGET: Duration = Duration::from_secs(300);

/// The most datagrams to unproven addresses of one runner in a minute, however many addresses it names.
const BUDGET: u8 = 30;
const MINUTE: Duration = Duration::from_secs(60);

/// The state of the search for one runner.
#[derive(Debug, Default)]
pub(crate) struct Search {
    /// Since when handshakes are unanswered, and how many.
    since: Option<Instant>,
    tries: u32,
    last: Option<Instant>,
    /// When there was traffic for the runner last.
    wanted: Option<Instant>,
    broken: bool,
    /// The next unproven address.
    cursor: u8,
    /// How much of [`BUDGET`] is used, in the minute that began at `minute`.
    spent: u8,
    minute: Option<Instant>,
}

/// The reason to ask a runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Traffic waits, and the handshake goes to a proven address.
    Wanted,
    /// No traffic waits, or the address is unproven.
    Chance,
}

impl Search {
    /// A handshake was sent.
    pub(crate) fn tried(&mut self, now: Instant) {
        self.since.get_or_insert(now);
        self.tries = self.tries.saturating_add(1);
        self.last = Some(now);
    }

    /// There is traffic for the runner.
    pub(crate) const fn want(&mut self, now: Instant) {
        self.wanted = Some(now);
    }

    /// The runner has answered. Returns whether traffic was rejected before.
    pub(crate) const fn answered(&mut self) -> bool {
        (self.since, self.tries, self.last, self.wanted) = (None, 0, None, None);
        std::mem::replace(&mut self.broken, false)
    }

    /// Whether a handshake is unanswered.
    #[inline]
    pub(crate) const fn is_failing(&self) -> bool {
        self.since.is_some()
    }

    /// How many handshakes are unanswered, and for how long.
    pub(crate) fn failing(&self, now: Instant) -> Option<(u32, Duration)> {
        self.since.map(|since| (self.tries, now.saturating_duration_since(since)))
    }

    /// Whether traffic is rejected.
    #[inline]
    pub(crate) const fn is_broken(&self) -> bool {
        self.broken
    }

    /// Returns whether patience has just run out.
    pub(crate) fn breaks(&mut self, now: Instant) -> bool {
        let out = self.failing(now).is_some_and(|(tries, failing)| tries >= HANDSHAKES && failing >= PATIENCE);
        let breaks = out && self.wanted.is_some() && !self.broken;
        self.broken |= breaks;
        breaks
    }

    /// When the runner may be asked again. `None`: at once.
    pub(crate) fn next(&self, ask: Ask) -> Option<Instant> {
        let (since, last) = (self.since.filter(|_| self.broken)?, self.last?);
        let failing = last.saturating_duration_since(since);
        let pace = PACES.iter().find(|(until, _)| failing < *until).map(|(_, pace)| *pace);
        Some(last + if ask == Ask::Wanted { PROVEN } else { pace.unwrap_or(PROVEN) })
    }

    /// Whether the answer to the last handshake may be on its way.
    pub(crate) fn has_hope(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| now.saturating_duration_since(last) < GRACE)
    }

    /// Whether there has been no traffic for so long that the search can end.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.wanted.is_none_or(|wanted| now.saturating_duration_since(wanted) >= FORGET)
    }

    /// The runner has other addresses, which are tried at once.
    pub(crate) const fn renew(&mut self) {
        (self.last, self.cursor) = (None, 0);
    }

    /// The unproven addresses, out of `all`, that are tried now: at most `most`, in turn, within the budget.
    pub(crate) fn next_batch(&mut self, all: usize, most: usize, now: Instant) -> impl Iterator<Item = usize> + use<> {
        if self.minute.is_none_or(|minute| now.saturating_duration_since(minute) >= MINUTE) {
            (self.minute, self.spent) = (Some(now), 0);
        }
        let count = all.min(most).min(usize::from(BUDGET - self.spent));
        let first = usize::from(self.cursor).checked_rem(all).unwrap_or(0);
        self.spent += count as u8;
        self.cursor = (first + count).checked_rem(all).unwrap_or(0) as u8;
        (first..first + count).map(move |i| i % all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn patience_is_three_handshakes_and_only_traffic_runs_out_of_it() {
        let (start, mut search) = (Instant::now(), Search::default());
        for after in [0, 5, 10] {
            search.tried(start + seconds(after));
            assert!(!search.breaks(start + seconds(after + 4)));
        }
        assert!(!search.breaks(start + seconds(15)), "nothing wants it");
        search.want(start + seconds(15));
        assert!(search.breaks(start + seconds(15)) && !search.breaks(start + seconds(16)), "said once");
        assert_eq!(search.failing(start + seconds(18)), Some((3, seconds(18))));
        assert!(search.answered() && !search.answered() && !search.is_failing());
    }

    #[test]
    fn a_runner_that_does_not_answer_is_asked_less_and_less_often() {
        let (start, mut search) = (Instant::now(), Search::default());
        search.want(start);
        (0..3).for_each(|_| search.tried(start));
        assert_eq!(search.next(Ask::Chance), None, "patience is not out");
        assert!(search.breaks(start + seconds(15)));
        assert_eq!(search.next(Ask::Wanted), Some(start + PROVEN));
        assert_eq!(search.next(Ask::Chance), Some(start + seconds(5)));
        for (after, pace) in [(60, 10), (300, 30), (86_400, 30)] {
            search.tried(start + seconds(after));
            assert_eq!(search.next(Ask::Chance), Some(start + seconds(after + pace)));
        }
        assert!(!search.is_over(start + seconds(299)) && search.is_over(start + seconds(300)));
    }

    #[test]
    fn unproven_addresses_are_tried_in_turn_and_within_a_budget() {
        let (start, mut search) = (Instant::now(), Search::default());
        let mut batch = |now| search.next_batch(5, 3, now).collect::<Vec<_>>();
        assert_eq!(batch(start), [0, 1, 2]);
        assert_eq!(batch(start), [3, 4, 0]);
        let more: usize = (0..60).map(|second| batch(start + seconds(second)).len()).sum();
        assert_eq!(more + 6, usize::from(BUDGET));
        assert_eq!(batch(start + MINUTE).len(), 3);
        assert_eq!(search.next_batch(0, 3, start).count(), 0);
    }
}
