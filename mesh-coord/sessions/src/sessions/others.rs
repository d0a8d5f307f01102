//! Other coordinators on the same records, and the runners that are connected to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use mesh_model::{
    Change, Closed, Key, Record, State,
    record::{MemberId, Session, StreamKey},
};
use mesh_proto::{Revision, RunnerId};

use super::Sessions;
use crate::session::{Link, Peer, Presence, StreamId};

/// What this coordinator knows of the others.
#[derive(Debug)]
pub(crate) struct Others {
    /// This one.
    me: MemberId,
    /// Those that live, this one among them.
    living: BTreeSet<MemberId>,
    /// When these were last others than before.
    since: Instant,
    /// The runners' newest streams that have not ended.
    streams: BTreeMap<RunnerId, Arc<Session>>,
    /// The revision of the state.
    reached: Revision,
}

impl Others {
    fn take_in(&mut self, session: &Arc<Session>) {
        if session.ended {
            self.streams.remove(&session.runner);
        } else {
            self.streams.insert(session.runner, Arc::clone(session));
        }
    }
}

impl Sessions {
    /// From now on, others serve the same records, and this one is `me` among them.
    pub fn share(&mut self, me: MemberId, state: &State, now: Instant) {
        let living = [me].into();
        self.others = Some(Others { me, living, since: now, streams: BTreeMap::new(), reached: state.revision() });
        self.others_reloaded(state, now);
    }

    /// These coordinators live, this one among them.
    pub fn members(&mut self, living: BTreeSet<MemberId>, now: Instant) {
        let Some(others) = self.others.as_mut().filter(|others| others.living != living) else { return };
        let gone: BTreeSet<MemberId> = others.living.difference(&living).copied().collect();
        (others.living, others.since) = (living, now);
        let theirs = others.streams.values().filter(|session| gone.contains(&session.stream.member));
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
        let session = others.streams.get(&runner)?;
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
    pub fn lost(&self) -> Vec<Closed> {
        let Some(others) = &self.others else { return Vec::new() };
        let lost = others.streams.values().filter(|session| {
            let here = self.session(session.runner).and_then(|here| here.key);
            session.stream.member == others.me && here != Some(session.stream)
        });
        lost.map(|session| self.closed(session.runner, session.stream)).collect()
    }

    /// What to commit of a stream that this coordinator has closed.
    #[must_use]
    pub fn closed(&self, runner: RunnerId, stream: StreamKey) -> Closed {
        Closed { runner, stream, is_clean: self.is_clean(runner) }
    }

    /// Whether the agent of the runner's last stream has confirmed all that this coordinator knows of.
    fn is_clean(&self, runner: RunnerId) -> bool {
        self.presence(runner).is_some_and(|presence| match &presence.link {
            Link::Connected(session) => session.is_current() && presence.lost.is_empty(),
            Link::Away { was_current, .. } => *was_current && presence.lost.is_empty(),
        })
    }

    /// Whether there are other coordinators, and the runner may act on a map of theirs, because it hasn't confirmed
    /// the latest of this one.
    pub(super) fn may_know_more(&self, presence: &Presence) -> bool {
        self.others.is_some() && presence.is_unsure()
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
    pub(super) fn others_absorb(&mut self, changes: &[Change], revision: Revision, now: Instant) {
        let Some(others) = &mut self.others else { return };
        others.reached = revision;
        for change in changes {
            match change {
                Change::Put(Record::Session(session)) => {
                    if let Some(others) = &mut self.others {
                        others.take_in(session);
                        // One of which nothing was heard yet lives all the same.
                        others.living.insert(session.stream.member);
                    }
                    self.end_other_than(session.runner, Some(session.stream), now);
                    if session.ended {
                        self.left(session.runner, now);
                    }
                }
                Change::Delete(Key::Session(runner)) => {
                    if let Some(others) = &mut self.others {
                        others.streams.remove(runner);
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
        others.reached = state.revision();
        others.streams.clear();
        state.sessions().for_each(|session| others.take_in(session));
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
