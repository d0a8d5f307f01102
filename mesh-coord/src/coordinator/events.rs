//! What the last commits have changed, and which runners have come and gone, for administrators who follow it.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use mesh_model::Concern;
use mesh_proto::{Revision, RunnerId};
use tokio::sync::watch;

/// How many commits are kept. A follower that falls further behind reads everything again.
const REMEMBERED: usize = 256;
/// How many streams that begin or end are kept.
const MOVES: usize = 4096;

/// A commit, as far as anything that administrators see has changed by it.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) revision: Revision,
    pub(crate) concern: Concern,
}

/// The last events, without a gap.
#[derive(Debug)]
pub(crate) struct Events {
    /// The revision before the first of them.
    before: Revision,
    recent: VecDeque<Arc<Event>>,
    /// The runners whose streams have begun or ended last.
    moves: VecDeque<RunnerId>,
    /// How many there were before these.
    forgotten: u64,
    latest: watch::Sender<Revision>,
}

/// What has happened since some revision.
#[derive(Debug)]
pub(crate) enum Since {
    /// These events.
    Events(Vec<Arc<Event>>),
    /// More than is kept.
    Gap,
}

impl Events {
    pub(super) fn new(revision: Revision) -> Self {
        let latest = watch::Sender::new(revision);
        Self { before: revision, recent: VecDeque::new(), moves: VecDeque::new(), forgotten: 0, latest }
    }

    pub(super) fn push(&mut self, revision: Revision, concern: Concern) {
        if self.recent.len() == REMEMBERED
            && let Some(oldest) = self.recent.pop_front()
        {
            self.before = oldest.revision;
        }
        self.recent.push_back(Arc::new(Event { revision, concern }));
        self.latest.send_replace(revision);
    }

    /// A runner's stream has begun or ended.
    pub(super) fn moved(&mut self, runner: RunnerId) {
        if self.moves.len() == MOVES {
            self.moves.pop_front();
            self.forgotten += 1;
        }
        self.moves.push_back(runner);
        // Wakes followers.
        self.latest.send_modify(|_| {});
    }

    /// How many streams have begun or ended, and the runners since there were so many; `None`: that isn't known any more.
    pub(crate) fn moved_since(&self, number: u64) -> (u64, Option<BTreeSet<RunnerId>>) {
        let since = number.checked_sub(self.forgotten).and_then(|known| usize::try_from(known).ok());
        let runners = since.map(|known| self.moves.iter().skip(known).copied().collect());
        (self.forgotten + self.moves.len() as u64, runners)
    }

    /// Goes on from a revision whose commit isn't known.
    pub(super) fn restart(&mut self, revision: Revision) {
        self.before = revision;
        self.recent.clear();
        self.latest.send_replace(revision);
    }

    /// The revision of the last commit, and signals of later ones.
    pub(crate) fn follow(&self) -> watch::Receiver<Revision> {
        self.latest.subscribe()
    }

    pub(crate) fn since(&self, revision: Revision) -> Since {
        if revision < self.before || revision > *self.latest.borrow() {
            return Since::Gap;
        }
        Since::Events(self.recent.iter().filter(|event| event.revision > revision).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_away_gets_what_it_missed_or_learns_that_it_missed_more() {
        let mut events = Events::new(Revision(10));
        let missed = |events: &Events, since| match events.since(Revision(since)) {
            Since::Events(events) => Some(events.iter().map(|event| event.revision.0).collect::<Vec<_>>()),
            Since::Gap => None,
        };
        assert_eq!(missed(&events, 10), Some(vec![]));
        for revision in 11..=13 {
            events.push(Revision(revision), Concern::default());
        }
        assert_eq!(missed(&events, 11), Some(vec![12, 13]));
        assert_eq!((missed(&events, 9), missed(&events, 14)), (None, None), "too old, and of another database");
        for revision in 14..=1000 {
            events.push(Revision(revision), Concern::default());
        }
        assert_eq!(events.recent.len(), REMEMBERED);
        assert_eq!(missed(&events, 743), None);
        assert_eq!(missed(&events, 744).map(|events| events.len()), Some(256));
        events.restart(Revision(1005));
        assert_eq!((missed(&events, 1000), missed(&events, 1005)), (None, Some(vec![])));
    }

    #[test]
    fn runners_that_come_and_go_are_told_once_or_it_is_told_that_they_were_too_many() {
        let mut events = Events::new(Revision(10));
        let follower = events.follow();
        assert_eq!(events.moved_since(0), (0, Some(BTreeSet::new())));
        events.moved(RunnerId(1));
        events.moved(RunnerId(2));
        assert!(follower.has_changed().unwrap());
        assert_eq!(events.moved_since(0), (2, Some([RunnerId(1), RunnerId(2)].into())));
        assert_eq!(events.moved_since(1).1, Some([RunnerId(2)].into()));
        for _ in 0..MOVES {
            events.moved(RunnerId(3));
        }
        assert_eq!(events.moved_since(1), (MOVES as u64 + 2, None));
        assert_eq!(events.moved_since(2).1, Some([RunnerId(3)].into()));
        assert_eq!(events.moves.len(), MOVES);
    }
}
