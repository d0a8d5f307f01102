//! All runners' sessions.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use mesh_model::{Sliced, Slices, State, record::StreamKey};
use mesh_proto::{
    Epoch, Label, Revision, RunnerId,
    message::{Have, Switches},
};

use crate::{
    effect::Effect,
    session::{Link, Peer, Presence, Session, StreamId},
    wait::{Absent, Wait, WaitId, Waits},
};

use self::others::Others;
pub use self::{ahead::Ahead, owed::Told};

/// The runners that have been connected since the coordinator's start, and the waits for them.
#[derive(Debug)]
pub struct Sessions {
    epoch: Epoch,
    /// The revision at which this run took the epoch over from an earlier one; `None` if this run has drawn it.
    resumed_at: Option<Revision>,
    started: Instant,
    runners: BTreeMap<RunnerId, Presence>,
    /// The number of the last stream.
    last: u64,
    waits: Waits,
    effects: VecDeque<Effect>,
    slices: Slices,
    views_made: u64,
    /// When a runner was last connected for the first time since the coordinator's start.
    last_arrival: Option<Instant>,
    /// Since when marking many runners as silent is held back.
    pub(crate) held_back: Option<Instant>,
    /// Other coordinators on the same records, if there may be some.
    others: Option<Others>,
}

/// The beginning of a stream.
#[derive(Debug)]
pub struct Opened {
    /// The stream.
    pub stream: StreamId,
    /// The view that the runner should have.
    pub view: Arc<Sliced>,
    /// The view that the agent has, if it can be continued.
    pub continued: Option<Arc<Sliced>>,
    /// The runner's offloads.
    pub switches: Switches,
    /// The agent whose open stream this one has replaced.
    pub replaced: Option<Peer>,
}

impl Sessions {
    /// At the coordinator's start, no runner is connected. This run has drawn the epoch.
    #[must_use]
    pub fn new(epoch: Epoch, now: Instant) -> Self {
        Self {
            epoch,
            resumed_at: None,
            started: now,
            runners: BTreeMap::new(),
            last: 0,
            waits: Waits::default(),
            effects: VecDeque::new(),
            slices: Slices::default(),
            views_made: 0,
            last_arrival: None,
            held_back: None,
            others: None,
        }
    }

    /// The epoch of the views.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The next effect to carry out.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When to call [`Self::handle_timeout`].
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.waits.next_deadline()
    }

    /// Ends the waits whose deadline has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(id) = self.waits.expired(now) {
            self.end_wait(id);
        }
    }

    // === Streams ===

    /// Opens a stream for `runner`, whose agent reports that it has the view `have`. It replaces an open stream of
    /// the runner. `None` if the runner was removed, or if the records name the stream by `key` and it isn't the
    /// runner's newest one any more.
    pub fn open(
        &mut self,
        key: Option<StreamKey>,
        state: &State,
        runner: RunnerId,
        peer: Peer,
        have: Option<Have>,
        now: Instant,
    ) -> Option<Opened> {
        let is_newest = |key| state.session(runner).is_some_and(|session| session.stream == key);
        if !key.is_none_or(is_newest) {
            return None;
        }
        let view = Arc::new(self.slices.view(state, runner, self.epoch)?);
        self.views_made += 1;
        let switches = state.switches(runner);
        let presence = self.runners.entry(runner).or_insert(Presence::away(None));
        if matches!(presence.link, Link::Away { since: None, .. }) {
            self.last_arrival = Some(now);
        }
        presence.replace_view(&view);
        let continued = presence.continued(have);
        let changed = match &continued {
            Some(sent) if sent.is_like(&view) => sent.revision,
            _ => view.revision,
        };
        self.last += 1;
        let number = self.last;
        // The agent may have that view, but has yet to confirm that it applies it.
        let confirmed = None;
        let session = Session {
            number,
            key,
            peer,
            switches,
            view: Arc::clone(&view),
            outdated: None,
            changed,
            confirmed,
            behind: Some(now),
        };
        let replaced = match std::mem::replace(&mut presence.link, Link::Connected(session)) {
            Link::Connected(before) => {
                self.effects.push_back(Effect::End(StreamId { runner, number: before.number }));
                Some(before.peer)
            }
            Link::Away { .. } => None,
        };
        self.reconsider(runner);
        Some(Opened { stream: StreamId { runner, number }, view, continued, switches, replaced })
    }

    /// The view that a stream's runner should have; `None` if a newer stream has replaced this one.
    pub fn view(&mut self, state: &State, stream: StreamId) -> Option<Arc<Sliced>> {
        self.is_open(stream).then(|| self.view_of(state, stream.runner)).flatten()
    }

    /// The view that a connected runner should have, computed again if it is outdated.
    fn view_of(&mut self, state: &State, runner: RunnerId) -> Option<Arc<Sliced>> {
        let presence = self.runners.get_mut(&runner)?;
        let session = presence.session_mut()?;
        if session.outdated.is_none() {
            return Some(Arc::clone(&session.view));
        }
        let view = self.slices.view(state, runner, self.epoch)?;
        self.views_made += 1;
        session.outdated = None;
        if !session.view.is_like(&view) {
            presence.replace_view(&view);
            let session = presence.session_mut()?;
            session.changed = view.revision;
            session.view = Arc::new(view);
        }
        let session = presence.session_mut()?;
        if session.is_current() {
            session.behind = None;
        }
        let view = Some(Arc::clone(&session.view));
        self.settle(runner);
        self.reconsider(runner);
        view
    }

    /// The agent has applied the view of `revision`. The caller has checked that the stream has sent such a view
    /// ([`crate::Sent::reaches`]). If all that changed is in force there now, returns since when it was not.
    pub fn confirm(&mut self, stream: StreamId, revision: Revision) -> Option<Instant> {
        let presence = self.runners.get_mut(&stream.runner)?;
        let session = presence.session_mut().filter(|session| session.number == stream.number);
        let session = session.filter(|session| session.confirmed < Some(revision))?;
        session.confirmed = Some(revision);
        let since = if session.is_current() { session.behind.take() } else { None };
        presence.lost.retain(|_, lost| *lost > revision);
        self.settle(stream.runner);
        self.reconsider(stream.runner);
        since
    }

    /// Closes a stream that has sent `sent` last.
    pub fn close(&mut self, stream: StreamId, sent: Option<Arc<Sliced>>, now: Instant) {
        let Some(presence) = self.runners.get_mut(&stream.runner) else { return };
        let Some(session) = presence.session().filter(|session| session.number == stream.number) else { return };
        let (last, view) = (Some(session.peer), Some(Arc::clone(&session.view)));
        presence.link = Link::Away { since: Some(now), last, view, sent };
        self.effects.push_back(Effect::End(stream));
        self.reconsider(stream.runner);
    }

    /// Whether this stream is open and its runner's newest.
    #[must_use]
    pub fn is_open(&self, stream: StreamId) -> bool {
        self.session(stream.runner).is_some_and(|session| session.number == stream.number)
    }

    // === Waits ===

    /// The runners affected by `deployment`: those whose views hold something of it now, and those that may still act
    /// on an earlier view that did. Where several coordinators serve, these are the runners of all.
    #[must_use]
    pub fn affected(&self, state: &State, deployment: &Label) -> BTreeSet<RunnerId> {
        let mut affected = state.affected_by(deployment);
        if let Some(deployment) = state.deployment_named(deployment) {
            if self.others.is_some() {
                affected.extend(self.owing_of(state, deployment.id));
            } else {
                let knowing = self.runners.iter().filter(|(_, presence)| presence.may_know(deployment.id));
                affected.extend(knowing.map(|(runner, _)| *runner));
            }
        }
        affected
    }

    /// Those of the runners that haven't confirmed all that changed up to `revision`.
    #[must_use]
    pub fn unconfirmed(&self, runners: &BTreeSet<RunnerId>, revision: Revision, absent: Absent) -> BTreeSet<RunnerId> {
        runners.iter().copied().filter(|runner| self.is_unconfirmed(*runner, revision, absent)).collect()
    }

    /// Waits until all runners affected by `deployment` have confirmed what changed up to `revision`, but no longer
    /// than until `deadline`. [`Effect::Waited`] ends the wait.
    pub fn wait_for_deployment(
        &mut self,
        state: &State,
        deployment: &Label,
        revision: Revision,
        deadline: Instant,
        now: Instant,
    ) -> WaitId {
        let affected = self.affected(state, deployment);
        self.wait(affected, (revision, Absent::Unconfirmed), deadline, now)
    }

    /// Waits until all connected runners that `asker` knows have confirmed what changed up to `revision`, but no
    /// longer than until `deadline`. [`Effect::Waited`] ends the wait.
    pub fn wait_for_peers(
        &mut self,
        state: &State,
        asker: RunnerId,
        revision: Revision,
        deadline: Instant,
        now: Instant,
    ) -> WaitId {
        let peers = self.peers_of(state, asker);
        self.wait(peers, (revision, Absent::Ignored), deadline, now)
    }

    /// The runners that a connected one knows.
    pub fn peers_of(&mut self, state: &State, asker: RunnerId) -> BTreeSet<RunnerId> {
        let view = self.view_of(state, asker);
        view.iter().flat_map(|view| view.runners()).map(|runner| runner.id).collect()
    }

    fn wait(
        &mut self,
        runners: BTreeSet<RunnerId>,
        (revision, absent): (Revision, Absent),
        deadline: Instant,
        now: Instant,
    ) -> WaitId {
        let id = self.waits.next_id();
        let unconfirmed = self.unconfirmed(&runners, revision, absent);
        if unconfirmed.is_empty() || deadline <= now {
            self.effects.push_back(Effect::Waited(id, unconfirmed.into_iter().collect()));
        } else {
            // A runner that doesn't count while it is away needs no attention when it comes back.
            let runners = if absent == Absent::Ignored { unconfirmed.clone() } else { runners };
            self.waits.insert(id, (revision, absent), deadline, runners, unconfirmed);
        }
        id
    }

    /// Waits until those of these runners that are connected here have confirmed what changed up to `revision`, but no
    /// longer than until `deadline`. [`Effect::Waited`] ends the wait.
    pub fn wait_for_connected(
        &mut self,
        runners: BTreeSet<RunnerId>,
        revision: Revision,
        deadline: Instant,
        now: Instant,
    ) -> WaitId {
        self.wait(runners, (revision, Absent::Ignored), deadline, now)
    }

    /// Those of the runners that are connected here and have confirmed what changed up to `revision`.
    #[must_use]
    pub fn confirmed_among(&self, runners: &BTreeSet<RunnerId>, revision: Revision) -> BTreeSet<RunnerId> {
        let has_confirmed = |runner: &RunnerId| self.session(*runner).is_some_and(|s| s.has_confirmed(revision));
        runners.iter().copied().filter(has_confirmed).collect()
    }

    /// Cancels a wait whose caller is gone, without an effect.
    pub fn cancel(&mut self, wait: WaitId) {
        self.waits.remove(wait);
    }

    fn end_wait(&mut self, wait: WaitId) {
        if let Some(unconfirmed) = self.waits.remove(wait) {
            self.effects.push_back(Effect::Waited(wait, unconfirmed.into_iter().collect()));
        }
    }

    /// The runner's session has changed, which may end waits for it.
    fn reconsider(&mut self, runner: RunnerId) {
        if !self.waits.names(runner) {
            return;
        }
        let (runners, waits) = (&self.runners, &mut self.waits);
        let session = runners.get(&runner).and_then(Presence::session);
        let is_unconfirmed = |wait: &Wait| is_unconfirmed(session, wait.revision, wait.absent);
        for over in waits.reconsider(runner, is_unconfirmed) {
            self.end_wait(over);
        }
    }

    fn is_unconfirmed(&self, runner: RunnerId, revision: Revision, absent: Absent) -> bool {
        is_unconfirmed(self.session(runner), revision, absent)
    }

    // === What is shown ===

    /// The runners that are connected to this coordinator.
    pub fn connected(&self) -> impl Iterator<Item = RunnerId> {
        self.runners.iter().filter(|(_, presence)| presence.session().is_some()).map(|(runner, _)| *runner)
    }

    /// Whether the runner is connected, here or to another coordinator.
    #[must_use]
    pub fn is_connected(&self, runner: RunnerId) -> bool {
        self.is_connected_here(runner) || self.elsewhere(runner).is_some()
    }

    /// Whether the runner is connected to this coordinator.
    #[must_use]
    pub fn is_connected_here(&self, runner: RunnerId) -> bool {
        self.session(runner).is_some()
    }

    /// The revision of the view that the connected runner has confirmed.
    #[must_use]
    pub fn confirmed(&self, runner: RunnerId) -> Option<Revision> {
        self.session(runner)?.confirmed
    }

    /// Whether the runner is connected and has confirmed all that changed for it.
    #[must_use]
    pub fn is_current(&self, runner: RunnerId) -> bool {
        self.session(runner).is_some_and(Session::is_current)
    }

    /// The connected runners at which something that changed has not been in force for longer than `patience`.
    #[must_use]
    pub fn behind(&self, patience: Duration, now: Instant) -> Vec<RunnerId> {
        let is_behind = |presence: &Presence| {
            let since = presence.session().and_then(|session| session.behind);
            since.is_some_and(|since| now.saturating_duration_since(since) > patience)
        };
        self.runners.iter().filter(|(_, presence)| is_behind(presence)).map(|(runner, _)| *runner).collect()
    }

    /// How many views were computed since the coordinator's start.
    #[must_use]
    pub const fn views_made(&self) -> u64 {
        self.views_made
    }

    pub(crate) const fn started(&self) -> Instant {
        self.started
    }

    pub(crate) const fn last_arrival(&self) -> Option<Instant> {
        self.last_arrival
    }

    pub(crate) fn presence(&self, runner: RunnerId) -> Option<&Presence> {
        self.runners.get(&runner)
    }

    /// Since when a runner is away; `None` if it isn't. `Some(None)`: since before the coordinator's start.
    pub(crate) fn away_since(&self, runner: RunnerId) -> Option<Option<Instant>> {
        match self.runners.get(&runner).map(|presence| &presence.link) {
            _ if self.elsewhere(runner).is_some() => None,
            Some(Link::Connected(_)) => None,
            Some(Link::Away { since, .. }) => Some(*since),
            None => Some(None),
        }
    }

    fn session(&self, runner: RunnerId) -> Option<&Session> {
        self.runners.get(&runner).and_then(Presence::session)
    }
}

fn is_unconfirmed(session: Option<&Session>, revision: Revision, absent: Absent) -> bool {
    match (session, absent) {
        (Some(session), _) => !session.has_confirmed(revision),
        (None, Absent::Unconfirmed) => true,
        (None, Absent::Ignored) => false,
    }
}

mod ahead;
mod commits;
mod others;
mod owed;

#[cfg(test)]
mod tests;
