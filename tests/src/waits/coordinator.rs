//! The coordinator: the real state and sessions, and a shell that carries their effects to streams in memory.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use mesh_model::{Command, Outcome, State, UnixSeconds};
use mesh_proto::{Epoch, Label, Revision, RunnerId, View, message::Have};
use mesh_sessions::{Absent, Effect, News, Peer, Sent, Sessions, StreamId, WaitId};

use super::Bug;

/// The coordinator's end of a stream.
pub(super) struct Stream {
    pub(super) sent: Sent,
    /// The news that its task has yet to look for.
    pub(super) outdated: bool,
    /// Its task ends.
    pub(super) ended: bool,
}

pub(super) struct Coordinator {
    pub(super) state: State,
    pub(super) sessions: Sessions,
    pub(super) streams: BTreeMap<StreamId, Stream>,
    /// Waits that are over, with who is unconfirmed.
    pub(super) waited: Vec<(WaitId, Vec<RunnerId>)>,
    /// Which life this is, counted.
    pub(super) life: u8,
    epochs: u8,
}

impl Coordinator {
    pub(super) fn new(state: State, now: Instant) -> Self {
        let sessions = Sessions::new(Epoch([0; 16]), now);
        Self { state, sessions, streams: BTreeMap::new(), waited: vec![], life: 0, epochs: 0 }
    }

    /// Ends and begins again with this state: what was committed, or an earlier one.
    pub(super) fn restart(&mut self, state: &State, epoch: Epoch, now: Instant) {
        self.life += 1;
        self.state = State::load(state.revision(), state.records()).expect("it was a state before");
        self.sessions = Sessions::resume(epoch, state.revision(), now);
        self.streams.clear();
    }

    /// Another epoch begins.
    pub(super) fn renew(&mut self, now: Instant) {
        self.epochs += 1;
        self.sessions.renew(Epoch([self.epochs; 16]), now);
        self.carry_out(|| false);
    }

    pub(super) fn commit(&mut self, command: &Command, passed: Duration, now: Instant) -> Option<Outcome> {
        let unix = UnixSeconds(1_700_000_000 + passed.as_secs());
        let decision = self.state.decide(command, unix).ok()?;
        if !decision.changes.is_empty() {
            let revision = self.state.revision().next();
            self.sessions.absorb(&mut self.state, &decision.changes, revision, now);
        }
        Some(decision.outcome)
    }

    pub(super) fn open(
        &mut self,
        (runner, process): (RunnerId, u64),
        have: Option<Have>,
        now: Instant,
        bug: Option<Bug>,
    ) -> StreamId {
        let peer = Peer { process: Some(process), from: IpAddr::V4(Ipv4Addr::LOCALHOST) };
        let opened =
            self.sessions.open(None, &self.state, runner, peer, have, now).expect("the runner was not removed");
        let continued = match bug {
            Some(Bug::UnsentContinued) if have.is_some() => Some(Arc::clone(&opened.view)),
            _ => opened.continued,
        };
        let stream = Stream { sent: Sent::new(continued), outdated: true, ended: false };
        self.streams.insert(opened.stream, stream);
        opened.stream
    }

    /// What the stream's task sends next.
    pub(super) fn send(&mut self, id: StreamId, bug: Option<Bug>) -> Option<News> {
        let stream = self.streams.get_mut(&id).filter(|stream| !stream.ended)?;
        if !std::mem::take(&mut stream.outdated) {
            return None;
        }
        let view = self.sessions.view(&self.state, id)?;
        let news = stream.sent.news(&view);
        stream.sent.sent(Arc::clone(&view));
        if bug == Some(Bug::ConfirmedWhenSent) && news.is_some() {
            self.sessions.confirm(id, view.revision);
        }
        news
    }

    /// The agent confirms a revision.
    pub(super) fn confirm(&mut self, id: StreamId, revision: Revision, bug: Option<Bug>) {
        let Some(stream) = self.streams.get(&id) else { return };
        if stream.sent.reaches(revision) || bug == Some(Bug::EarlierConfirmed) {
            self.sessions.confirm(id, revision);
        }
    }

    /// The agent asks for a snapshot.
    pub(super) fn resync(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.sent.forget();
            stream.outdated = true;
        }
    }

    /// The stream's task notices that the connection is gone.
    pub(super) fn close(&mut self, id: StreamId, now: Instant) {
        if let Some(stream) = self.streams.remove(&id) {
            self.sessions.close(id, stream.sent.into_view(), now);
        }
    }

    pub(super) fn wait(&mut self, app: &Label, revision: Revision, deadline: Instant, now: Instant) -> WaitId {
        self.sessions.wait_for_deployment(&self.state, app, revision, deadline, now)
    }

    /// Carries out what the sessions have decided. `lose`: whether to lose the next news.
    pub(super) fn carry_out(&mut self, mut lose: impl FnMut() -> bool) {
        while let Some(effect) = self.sessions.poll_effect() {
            match effect {
                Effect::Outdated(id) => {
                    if let Some(stream) = self.streams.get_mut(&id).filter(|_| !lose()) {
                        stream.outdated = true;
                    }
                }
                Effect::End(id) => {
                    if let Some(stream) = self.streams.get_mut(&id) {
                        stream.ended = true;
                    }
                }
                Effect::Waited(id, unconfirmed) => self.waited.push((id, unconfirmed)),
                Effect::Switches(..) | Effect::Removed(_) => {}
            }
        }
        // Streams whose task ends do so before anything else happens.
        self.streams.retain(|_, stream| !stream.ended);
    }

    /// Whether a wait would be over by a mistaken rule.
    pub(super) fn is_over_by(&self, bug: Option<Bug>, app: &Label, revision: Revision) -> bool {
        let absent = Absent::Unconfirmed;
        let unconfirmed = match bug {
            Some(Bug::AbsentIgnored) => {
                let runners = self.sessions.affected(&self.state, app);
                self.sessions.unconfirmed(&runners, revision, Absent::Ignored)
            }
            Some(Bug::LostSightForgotten) => self.sessions.unconfirmed(&self.state.affected_by(app), revision, absent),
            _ => return false,
        };
        unconfirmed.is_empty()
    }

    pub(super) fn view(&self, runner: RunnerId) -> Option<View> {
        self.state.view(runner, self.sessions.epoch())
    }
}
