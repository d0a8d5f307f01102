//! The writer's state: the committed records and the sessions, and the channels that carry out what these decide.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use mesh_model::{Change, Concern, Sliced, State, record::StreamKey};
use mesh_proto::{Epoch, Label, Revision, RunnerId, message::Have};
use mesh_sessions::{Effect, Opened, Peer, Sessions, StreamId, Told, WaitId};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};

use super::{
    events::Events,
    links::{Line, Links},
    relays::RelayLinks,
};
use crate::{peers::Elsewhere, rate::Limits};

/// How many waits are kept before those of gone callers are looked for.
const WAITS: usize = 64;

/// The writer's state.
#[derive(Debug)]
pub(crate) struct Core {
    /// The committed state.
    pub(crate) state: State,
    /// Which runners are connected, and what they have confirmed.
    pub(crate) sessions: Sessions,
    /// The channels to the streams.
    pub(crate) links: Links,
    /// The channels of relays' news.
    pub(crate) relays: RelayLinks,
    /// What the last commits have changed.
    pub(crate) events: Events,
    /// What other coordinators have told last.
    pub(crate) elsewhere: Arc<Elsewhere>,
    /// The rate limits.
    pub(crate) limits: Limits,
    /// Where to send the results of waits.
    waiting: HashMap<WaitId, oneshot::Sender<Vec<Label>>>,
    /// The number of waits at which those of gone callers are looked for next.
    sweep_at: usize,
}

impl Core {
    pub(crate) fn new(state: State, sessions: Sessions) -> Self {
        let (links, limits, relays) = (Links::default(), Limits::default(), RelayLinks::default());
        let events = Events::new(state.revision());
        let (elsewhere, waiting) = (Arc::default(), HashMap::new());
        Self { state, sessions, links, relays, events, elsewhere, limits, waiting, sweep_at: WAITS }
    }

    /// Opens a stream; `None` if the runner was removed, or has a newer one at another coordinator.
    pub(crate) fn open(
        &mut self,
        key: Option<StreamKey>,
        runner: RunnerId,
        peer: Peer,
        have: Option<Have>,
    ) -> Option<(Opened, Line)> {
        let opened = self.sessions.open(key, &self.state, runner, peer, have, now())?;
        let line = self.links.open(opened.stream, opened.switches, self.relays.subscribe());
        self.events.moved(runner);
        Some((opened, line))
    }

    /// The view that a stream's runner should have; `None` if a newer stream has replaced this one.
    pub(crate) fn view(&mut self, stream: StreamId) -> Option<Arc<Sliced>> {
        self.sessions.view(&self.state, stream)
    }

    /// Closes a stream that has sent `sent` last.
    pub(crate) fn close(&mut self, stream: StreamId, sent: Option<Arc<Sliced>>) {
        self.sessions.close(stream, sent, now());
    }

    /// Sends `answer` the runners affected by `deployment` that haven't confirmed what changed up to `revision`: as
    /// soon as there are none, or after `patience`.
    pub(super) fn wait_for_deployment(
        &mut self,
        deployment: &Label,
        revision: Revision,
        patience: Duration,
        answer: oneshot::Sender<Vec<Label>>,
    ) {
        let now = now();
        let wait = self.sessions.wait_for_deployment(&self.state, deployment, revision, now + patience, now);
        self.register(wait, answer);
    }

    /// The same for the connected runners that `asker` knows.
    pub(super) fn wait_for_peers(
        &mut self,
        asker: RunnerId,
        revision: Revision,
        patience: Duration,
        answer: oneshot::Sender<Vec<Label>>,
    ) {
        let now = now();
        let wait = self.sessions.wait_for_peers(&self.state, asker, revision, now + patience, now);
        self.register(wait, answer);
    }

    /// Sends `answer` once those of the runners that are connected here have confirmed what changed up to `revision`, or
    /// after `patience`.
    pub(super) fn wait_for_connected(
        &mut self,
        runners: BTreeSet<RunnerId>,
        revision: Revision,
        patience: Duration,
        answer: oneshot::Sender<Vec<Label>>,
    ) {
        let now = now();
        let wait = self.sessions.wait_for_connected(runners, revision, now + patience, now);
        self.register(wait, answer);
    }

    fn register(&mut self, wait: WaitId, answer: oneshot::Sender<Vec<Label>>) {
        self.waiting.insert(wait, answer);
        if self.waiting.len() > self.sweep_at {
            let sessions = &mut self.sessions;
            self.waiting.retain(|wait, answer| {
                if answer.is_closed() {
                    sessions.cancel(*wait);
                }
                !answer.is_closed()
            });
            self.sweep_at = WAITS.max(2 * self.waiting.len());
        }
    }

    /// Absorbs a commit.
    pub(super) fn absorb(&mut self, changes: &[Change], revision: Revision) {
        let mut concern = Concern::default();
        concern.add(&self.state, changes);
        self.sessions.absorb(&mut self.state, changes, revision, now());
        concern.add(&self.state, changes);
        concern.add_audit(changes);
        self.events.push(revision, concern);
        self.relays.absorb(changes);
        self.carry_out();
    }

    /// Replaces the whole state.
    pub(super) fn reload(&mut self, state: State) {
        self.state = state;
        self.events.restart(self.state.revision());
        self.sessions.reloaded(&self.state, now());
        self.relays.reloaded();
        self.carry_out();
    }

    /// Begins another epoch.
    pub(super) fn renew(&mut self, epoch: Epoch) {
        self.sessions.renew(epoch, now());
        self.carry_out();
    }

    /// Runs a visit.
    pub(super) fn visit(&mut self, visit: impl FnOnce(&mut Self)) {
        visit(self);
        self.carry_out();
    }

    /// Returns when [`Self::time_out`] has to be called.
    pub(super) fn timer(&self) -> impl Future<Output = ()> + use<> {
        let at = self.sessions.next_timeout();
        async move {
            match at {
                Some(at) => sleep_until(Instant::from_std(at)).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Ends the waits whose deadline has passed.
    pub(super) fn time_out(&mut self) {
        self.sessions.handle_timeout(now());
        self.carry_out();
    }

    /// How far this coordinator is: the revision of its state, and how many runners are connected to it.
    pub(crate) fn standing(&self) -> (Revision, usize) {
        (self.state.revision(), self.sessions.connected().count())
    }

    /// What others may rely on about the runners that are connected to this coordinator.
    pub(crate) fn told(&self) -> Told {
        Told { at: self.state.revision(), settled: self.sessions.settled(&self.state) }
    }

    /// The names of these runners, as far as they are known.
    pub(super) fn names(&self, runners: impl IntoIterator<Item = RunnerId>) -> Vec<Label> {
        let known = runners.into_iter().filter_map(|runner| self.state.runner(runner));
        known.map(|runner| runner.name.clone()).collect()
    }

    fn carry_out(&mut self) {
        while let Some(effect) = self.sessions.poll_effect() {
            match effect {
                Effect::Outdated(stream) => self.links.outdated(stream),
                Effect::Switches(stream, switches) => self.links.switch(stream, switches),
                Effect::End(stream) => {
                    self.links.end(stream);
                    self.events.moved(stream.runner);
                }
                Effect::Removed(runner) => {
                    self.links.forget(runner);
                    self.limits.forget(runner);
                }
                Effect::Waited(wait, unconfirmed) => {
                    let names = self.names(unconfirmed);
                    drop(self.waiting.remove(&wait).map(|answer| answer.send(names)));
                }
            }
        }
    }
}

/// The time by the clock of the runtime's timers.
pub(super) fn now() -> std::time::Instant {
    Instant::now().into_std()
}
