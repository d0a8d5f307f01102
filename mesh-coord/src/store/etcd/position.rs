//! How far the commits of an etcd are known, and what a newer head means. Pure.

use std::time::{Duration, Instant};

use super::layout::Top;

/// For how long another coordinator's commit counts as one that competes.
const RECENT: Duration = Duration::from_secs(1);

/// A head, and where it is in etcd's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) top: Top,
    /// etcd's revision at which it was written.
    pub(super) at: i64,
}

/// What a head is, beside the known one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// No newer one.
    Old,
    /// The next commit.
    Next,
    /// There are commits between them.
    Gap,
    /// Of another history: the database was put back to an earlier state.
    PutBack,
}

/// What the head `next` is, which was read or written after `known`.
pub(super) fn step(known: Option<&Known>, next: &Known) -> Step {
    let (revision, nonce) = known.map_or((0, 0), |known| (known.top.revision.0, known.top.nonce));
    let (top, is_later) = (&next.top, known.is_none_or(|known| next.at > known.at));
    match top.revision.0.checked_sub(revision) {
        None | Some(0) if is_later => Step::PutBack,
        None => Step::Old,
        Some(0) if top.nonce == nonce => Step::Old,
        Some(1) if is_later && top.previous == nonce => Step::Next,
        Some(0 | 1) => Step::PutBack,
        Some(_) if is_later => Step::Gap,
        Some(_) => Step::PutBack,
    }
}

/// Giving way: the coordinator that is nearest to etcd's leader would win every time.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Manners {
    /// When another coordinator has committed last.
    others: Option<Instant>,
    /// Whether the last commit was an own one.
    own: bool,
    /// How long the last own commit took.
    took: Duration,
}

impl Manners {
    /// Another coordinator has committed.
    pub(super) const fn other(&mut self, now: Instant) {
        self.others = Some(now);
        self.own = false;
    }

    /// An own commit was made.
    pub(super) const fn own(&mut self, took: Duration) {
        (self.own, self.took) = (true, took);
    }

    /// How long to wait before the next own commit; `random` is between 0 and 1.
    pub(super) fn pause(&self, now: Instant, random: f64) -> Duration {
        let compete = self.others.is_some_and(|others| now.saturating_duration_since(others) < RECENT);
        // A commit takes about two round trips.
        if self.own && compete { self.took.min(RECENT).mul_f64(random) } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use mesh_model::RunningSeconds;
    use mesh_proto::{Epoch, Revision};

    use super::{super::layout::Texts, *};
    use crate::store::Nonce;

    fn after(before: Option<&Known>, nonce: u64, at: i64) -> Known {
        let stamp = (Epoch([1; 16]), Nonce(nonce), RunningSeconds(0));
        Known { top: Top::next(before.map(|known| &known.top), stamp, &Texts::default(), 0), at }
    }

    #[test]
    fn commits_follow_each_other() {
        let first = after(None, 7, 10);
        let second = after(Some(&first), 8, 12);
        let third = after(Some(&second), 9, 15);
        assert_eq!((first.top.revision, third.top.revision), (Revision(1), Revision(3)));
        for (known, next, expected) in [
            (None, first, Step::Next),
            (Some(first), first, Step::Old),
            (Some(first), second, Step::Next),
            (Some(first), third, Step::Gap),
            (None, third, Step::Gap),
            (Some(third), first, Step::Old),
        ] {
            assert_eq!(step(known.as_ref(), &next), expected, "{known:?} {next:?}");
        }
    }

    #[test]
    fn another_history_is_noticed() {
        let first = after(None, 7, 10);
        let second = after(Some(&first), 8, 12);
        let third = after(Some(&second), 9, 15);
        // etcd was put back to the first commit, and others have gone on from there.
        let (other, onwards) = (after(Some(&first), 30, 13), after(Some(&second), 31, 13));
        let further = after(Some(&after(Some(&other), 32, 14)), 33, 16);
        for (known, next) in [
            (second, other),
            (third, other),
            (third, Known { at: 16, ..first }),
            (third, onwards),
            (third, further),
            (third, Known { at: 14, ..after(Some(&after(Some(&third), 9, 0)), 10, 0) }),
        ] {
            let seen = step(Some(&known), &next);
            let may_be_older = next.at < known.at && next.top.revision < known.top.revision;
            assert!(seen == Step::PutBack || (may_be_older && seen == Step::Old), "{known:?} {next:?} {seen:?}");
        }
    }

    #[test]
    fn who_has_just_written_gives_way_where_others_write() {
        let (now, took) = (Instant::now(), Duration::from_millis(4));
        let mut manners = Manners::default();
        manners.own(took);
        assert_eq!(manners.pause(now, 1.0), Duration::ZERO, "alone");
        manners.other(now);
        assert_eq!(manners.pause(now, 1.0), Duration::ZERO, "it has lost, and is next");
        manners.own(took);
        assert_eq!(manners.pause(now, 1.0), took);
        assert_eq!(manners.pause(now, 0.0), Duration::ZERO);
        assert_eq!(manners.pause(now + Duration::from_secs(2), 1.0), Duration::ZERO, "alone again");
    }
}
