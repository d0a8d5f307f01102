//! How far the commits of an etcd are known, and what a newer head means.

use std::time::{Duration, Instant};

use mesh_proto::Revision;

use super::layout::Top;
use crate::store::{Nonce, StoreError};

/// How long the watch may be behind what was read, before it is begun anew.
const LAG: Duration = Duration::from_secs(1);
/// For how long another coordinator's commit counts as one that competes.
const RECENT: Duration = Duration::from_secs(1);

/// A head, and where it is in etcd's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// What it says.
    pub top: Top,
    /// etcd's revision at which it was written.
    pub at: i64,
}

/// What a head is, beside the known one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
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
fn step(known: Option<&Known>, next: &Known) -> Step {
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

/// How far the commits are known, by what was written, read and told.
#[derive(Debug)]
pub struct Position {
    /// The newest head that is known; `None`: there is none yet.
    known: Option<Known>,
    manners: Manners,
    /// The nonce of the last own commit, or of the one under way.
    own: u64,
    /// Since when the watch is behind.
    lag: Option<Instant>,
    /// Why the store is of no more use.
    lost: Option<StoreError>,
}

/// What a head means for those who follow the commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advance {
    /// No news.
    Old,
    /// It is the next commit: pass it on.
    Next,
    /// Commits are missing: a gap for all who follow.
    Gap,
}

/// Where a commit on some revision begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// After this head.
    Head(Option<Known>),
    /// After one that isn't known yet: it has to be read ([`base`]).
    Unread,
}

/// What a read of the head tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looked {
    /// The current revision.
    pub revision: Revision,
    /// The watch has been behind for too long: begin it anew.
    pub is_behind: bool,
}

impl Position {
    /// At this head.
    #[must_use]
    pub fn new(known: Option<Known>) -> Self {
        Self { known, manners: Manners::default(), own: 0, lag: None, lost: None }
    }

    /// The newest head that is known.
    #[must_use]
    pub const fn known(&self) -> Option<Known> {
        self.known
    }

    /// # Errors
    /// Why the store is of no more use.
    pub fn check(&self) -> Result<(), StoreError> {
        self.lost.clone().map_or(Ok(()), Err)
    }

    /// The store is of no more use from now on.
    pub fn fail(&mut self, error: StoreError) {
        self.lost.get_or_insert(error);
    }

    /// Whether this head is later than what is known.
    #[must_use]
    pub fn is_news(&self, head: &Known) -> bool {
        self.known.is_none_or(|known| head.at > known.at)
    }

    /// How long to wait before the next own commit, so that others get their turn; `random` is between 0 and 1.
    #[must_use]
    pub fn pause(&self, now: Instant, random: f64) -> Duration {
        self.manners.pause(now, random)
    }

    /// An own commit begins.
    pub const fn begin(&mut self, nonce: Nonce) {
        self.own = nonce.0;
    }

    /// It was made.
    pub const fn made(&mut self, took: Duration) {
        self.manners.own(took);
    }

    /// Another coordinator's was made instead.
    pub const fn overtaken(&mut self, now: Instant) {
        self.manners.other(now);
    }

    /// Takes in a head that was written, told or read, with or without its changes.
    ///
    /// # Errors
    /// [`StoreError::PutBack`] if it is of another history.
    pub fn advance(&mut self, head: &Known, has_changes: bool, now: Instant) -> Result<Advance, StoreError> {
        let advance = match step(self.known.as_ref(), head) {
            Step::Old => return Ok(Advance::Old),
            Step::PutBack => return Err(StoreError::PutBack),
            Step::Next if has_changes => {
                if head.top.nonce != self.own {
                    self.manners.other(now);
                }
                Advance::Next
            }
            Step::Next | Step::Gap => Advance::Gap,
        };
        (self.known, self.lag) = (Some(*head), None);
        Ok(advance)
    }

    /// Where a commit on `expected` begins.
    ///
    /// # Errors
    /// [`StoreError::Stale`] if there are later commits.
    pub fn base(&self, expected: Revision) -> Result<Base, StoreError> {
        if revision(self.known.as_ref()) < expected {
            return Ok(Base::Unread);
        }
        base(expected, self.known).map(Base::Head)
    }

    /// Why a commit on `expected` was not made where the head is another: [`StoreError::PutBack`] if it is of another
    /// history, or [`StoreError::Stale`].
    #[must_use]
    pub fn moved(&self, expected: Revision, moved: Option<&Known>) -> StoreError {
        let is_put_back = match (self.known, moved) {
            (None, None) => false,
            (Some(_), None) => true,
            (known, Some(moved)) => step(known.as_ref(), moved) == Step::PutBack,
        };
        if is_put_back { StoreError::PutBack } else { stale(expected, moved) }
    }

    /// What a read of the head tells, which began when `before` was known, as of etcd's revision `at`.
    ///
    /// # Errors
    /// [`StoreError::PutBack`] if it has gone back.
    pub fn looked(
        &mut self,
        before: Option<&Known>,
        (head, at): (Option<&Known>, i64),
        now: Instant,
    ) -> Result<Looked, StoreError> {
        let has_gone_back = match (before, head) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(before), Some(head)) => {
                at < before.at || step(Some(before), head) == Step::PutBack || head.at < before.at
            }
        };
        if has_gone_back {
            return Err(StoreError::PutBack);
        }
        let looked = revision(head);
        let is_reached = revision(self.known.as_ref()) >= looked;
        let since = *self.lag.get_or_insert(now);
        let is_behind = !is_reached && now.saturating_duration_since(since) > LAG;
        if is_reached || is_behind {
            self.lag = None;
        }
        Ok(Looked { revision: looked, is_behind })
    }
}

/// The head after which a commit on `expected` begins, where this is the newest one.
///
/// # Errors
/// [`StoreError::Stale`] if it is another one.
pub fn base(expected: Revision, head: Option<Known>) -> Result<Option<Known>, StoreError> {
    if revision(head.as_ref()) == expected { Ok(head) } else { Err(stale(expected, head.as_ref())) }
}

/// Why a commit on `expected` was not made where the head is another.
fn stale(expected: Revision, head: Option<&Known>) -> StoreError {
    StoreError::Stale { expected, actual: revision(head) }
}

/// The revision of a head, which is 0 before the first commit.
#[must_use]
pub fn revision(head: Option<&Known>) -> Revision {
    head.map_or(Revision(0), |known| known.top.revision)
}

/// Giving way: the coordinator that is nearest to etcd's leader would win every time.
#[derive(Debug, Default, Clone, Copy)]
struct Manners {
    /// When another coordinator has committed last.
    others: Option<Instant>,
    /// Whether the last commit was an own one.
    own: bool,
    /// How long the last own commit took.
    took: Duration,
}

impl Manners {
    /// Another coordinator has committed.
    const fn other(&mut self, now: Instant) {
        self.others = Some(now);
        self.own = false;
    }

    /// An own commit was made.
    const fn own(&mut self, took: Duration) {
        (self.own, self.took) = (true, took);
    }

    /// How long to wait before the next own commit; `random` is between 0 and 1.
    fn pause(&self, now: Instant, random: f64) -> Duration {
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
    fn a_commit_that_was_missed_is_a_gap_and_one_of_another_history_is_refused() {
        let first = after(None, 7, 10);
        let second = after(Some(&first), 8, 12);
        let third = after(Some(&second), 9, 15);
        let now = Instant::now();
        let mut position = Position::new(Some(first));
        assert_eq!(position.advance(&second, true, now), Ok(Advance::Next));
        assert_eq!(position.advance(&second, true, now), Ok(Advance::Old), "it was doubled");
        let other = after(Some(&first), 30, 13);
        assert_eq!(position.advance(&other, true, now), Err(StoreError::PutBack));
        assert_eq!(position.moved(Revision(2), Some(&other)), StoreError::PutBack);
        assert_eq!(position.advance(&third, false, now), Ok(Advance::Gap), "its changes are not known");
        assert_eq!(Position::new(Some(first)).advance(&third, true, now), Ok(Advance::Gap));
        let stale = |expected| StoreError::Stale { expected: Revision(expected), actual: Revision(3) };
        assert_eq!(position.base(Revision(2)), Err(stale(2)));
        assert_eq!(position.base(Revision(3)), Ok(Base::Head(Some(third))));
        assert_eq!(position.base(Revision(4)), Ok(Base::Unread));
        assert_eq!(base(Revision(4), Some(third)), Err(stale(4)));
    }

    #[test]
    fn a_watch_that_is_behind_what_is_read_is_begun_anew_after_a_while() {
        let first = after(None, 7, 10);
        let second = after(Some(&first), 8, 12);
        let (start, mut position) = (Instant::now(), Position::new(Some(first)));
        let look = |position: &mut Position, head: Option<&Known>, at, after| {
            position.looked(Some(&first), (head, at), start + after).map(|looked| (looked.revision.0, looked.is_behind))
        };
        assert_eq!(look(&mut position, Some(&second), 12, Duration::ZERO), Ok((2, false)));
        assert_eq!(look(&mut position, Some(&second), 12, LAG), Ok((2, false)));
        assert_eq!(look(&mut position, Some(&second), 12, LAG * 2), Ok((2, true)));
        assert_eq!(look(&mut position, Some(&second), 12, LAG * 2), Ok((2, false)), "it has begun anew");
        assert_eq!(position.advance(&second, true, start), Ok(Advance::Next));
        assert_eq!(look(&mut position, Some(&second), 12, LAG * 9), Ok((2, false)));
        for (head, at) in [(None, 13), (Some(&second), 9), (Some(&Known { at: 9, ..first }), 20)] {
            assert_eq!(look(&mut position, head, at, LAG), Err(StoreError::PutBack), "{head:?}");
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
