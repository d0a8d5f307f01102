//! Other coordinators on the same records, and the runners that are connected to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use mesh_model::{
    Change, Key, Owing, Record, State,
    record::{MemberId, Session, StreamKey},
};
use mesh_proto::{Revision, RunnerId};

use super::{Sessions, owed::Remembered};
use crate::session::{Link, Peer, Presence, StreamId};

/// What this coordinator knows of the others.
#[derive(Debug)]
pub(crate) struct Others {
    /// This one.
    pub(super) me: MemberId,
    /// Those that live, this one among them.
    pub(super) living: BTreeSet<MemberId>,
    /// When these were last others than before.
    since: Instant,
    /// The runners' newest streams, each with the revision of its begin or a later one.
    pub(super) streams: BTreeMap<RunnerId, (Arc<Session>, Revision)>,
    /// What runners with a stream owe.
    pub(super) remembered: Remembered,
    /// The revision of the state.
    pub(super) reached: Revision,
}

impl Others {
    /// A stream has begun with the last commit. What its runner owes is this coordinator's to remember if it is here.
    fn begin(&mut self, state: &State, session: &Arc<Session>) {
        let Session { runner, stream, .. } = **session;
        self.streams.insert(runner, (Arc::clone(session), state.revision()));
        if stream.member == self.me {
            state.owed_by(runner).into_iter().for_each(|(of, revision)| self.remembered.add(runner, of, revision));
        }
    }

    /// Whether the runner's newest stream is this coordinator's.
    pub(super) fn is_here(&self, runner: RunnerId) -> bool {
        self.streams.get(&runner).is_some_and(|(session, _)| session.stream.member == self.me)
    }
}

impl Sessions {
    /// From now on, others serve the same records, and this one is `me` among them.
    pub fn share(&mut self, me: MemberId, state: &State, now: Instant) {
        self.others = Some(Others {
            me,
            living: [me].into(),
            since: now,
            streams: BTreeMap::new(),
            remembered: Remembered::default(),
            reached: state.revision(),
        });
        self.others_reloaded(state, now);
    }

    /// Whether others may serve the same records.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        self.others.is_some()
    }

    /// These coordinators live, this one among them.
    pub fn members(&mut self, living: BTreeSet<MemberId>, now: Instant) {
        let Some(others) = self.others.as_mut().filter(|others| others.living != living) else { return };
        let gone: BTreeSet<MemberId> = others.living.difference(&living).copied().collect();
        (others.living, others.since) = (living, now);
        let theirs =
            others.streams.values().map(|(session, _)| session).filter(|session| gone.contains(&session.stream.member));
        for runner in theirs.map(|session| session.runner).collect::<Vec<_>>() {
            self.left(runner, now);
        }
    }

    /// All may have lost their streams until now, because the database was away.
    pub fn unsettle(&mut self, now: Instant) {
        if let Some(others) = &mut self.others {
            others.since = now;
        }
    }

    /// The coordinators that may have a runner's stream now: those that live, and this one only if it has one.
    #[must_use]
    pub fn may_have(&self, runner: RunnerId) -> BTreeSet<MemberId> {
        let Some(others) = &self.others else { return BTreeSet::new() };
        let here = self.session(runner).is_some();
        others.living.iter().copied().filter(|member| here || *member != others.me).collect()
    }

    /// The runner's stream at another living coordinator.
    #[must_use]
    pub fn elsewhere(&self, runner: RunnerId) -> Option<&Session> {
        let others = self.others.as_ref()?;
        let (session, _) = others.streams.get(&runner)?;
        let member = session.stream.member;
        (member != others.me && others.living.contains(&member)).then_some(&**session)
    }

    /// The runner's stream here, if the records name it so, and its agent.
    #[must_use]
    pub fn here(&self, runner: RunnerId, number: u64) -> Option<(StreamId, Peer)> {
        let here = self.session(runner).filter(|here| here.key.is_some_and(|key| key.number == number))?;
        Some((StreamId { runner, number: here.number }, here.peer))
    }

    /// The streams that the records name as this coordinator's, and that it doesn't have.
    #[must_use]
    pub fn lost(&self, state: &State) -> Vec<Owing> {
        let Some(others) = &self.others else { return Vec::new() };
        let lost = others.streams.values().map(|(session, _)| session).filter(|session| {
            let here = self.session(session.runner).and_then(|here| here.key);
            session.stream.member == others.me && here != Some(session.stream)
        });
        lost.map(|session| self.owing(state, session.runner, session.stream, true)).collect()
    }

    /// Whether commits of others are made meanwhile, so that views of later revisions may come from others.
    pub(super) fn reached_by_all(&self) -> Option<Revision> {
        self.others.as_ref().map(|others| others.reached)
    }

    /// From when on the time after a start counts.
    pub(crate) fn unsettled_since(&self) -> Instant {
        self.others.as_ref().map_or(self.started(), |others| others.since.max(self.started()))
    }

    /// Takes in which streams are the newest ones. Earlier ones here end.
    pub(super) fn others_absorb(&mut self, state: &State, changes: &[Change], now: Instant) {
        let Some(others) = &mut self.others else { return };
        others.reached = state.revision();
        for change in changes {
            match change {
                Change::Put(Record::Session(session)) => {
                    if let Some(others) = &mut self.others {
                        others.begin(state, session);
                        // One of which nothing was heard yet lives all the same.
                        others.living.insert(session.stream.member);
                    }
                    self.end_other_than(session.runner, Some(session.stream), now);
                }
                Change::Delete(Key::Session(runner)) => {
                    if let Some(others) = &mut self.others {
                        others.streams.remove(runner);
                        // From now on, the records say what it owes.
                        others.remembered.forget(*runner);
                    }
                    self.end_other_than(*runner, None, now);
                    self.left(*runner, now);
                }
                _ => {}
            }
        }
    }

    /// The same for all streams.
    pub(super) fn others_reloaded(&mut self, state: &State, now: Instant) {
        let Some(others) = &mut self.others else { return };
        let revision = state.revision();
        others.reached = revision;
        others.streams = state.sessions().map(|s| (s.runner, (Arc::clone(s), revision))).collect();
        // What was taken from them meanwhile is unknown.
        others.remembered = Remembered::default();
        others.streams.keys().for_each(|runner| others.remembered.add(*runner, None, revision));
        for runner in self.runners.keys().copied().collect::<Vec<_>>() {
            self.end_other_than(runner, state.session(runner).map(|session| session.stream), now);
        }
    }

    fn end_other_than(&mut self, runner: RunnerId, newest: Option<StreamKey>, now: Instant) {
        let other = self.session(runner).filter(|here| here.key != newest).map(|here| here.number);
        if let Some(number) = other {
            self.close(StreamId { runner, number }, None, now);
        }
    }

    /// The runner is without a stream from now on, unless it has one here.
    fn left(&mut self, runner: RunnerId, now: Instant) {
        let presence = self.runners.entry(runner).or_insert(Presence::away(None));
        if let Link::Away { since, .. } = &mut presence.link {
            *since = Some(now);
        }
    }
}
