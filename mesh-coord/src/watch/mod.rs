//! Who is connected, what each of them should know, and what it has said that it knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mesh_proto::{
    Label, Revision, RunnerId, View,
    message::{Have, Switches},
};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use crate::coordinator::{Coordinator, Core, Failure};

pub(crate) mod absence;
pub(crate) mod stream;

/// How long [`settle`] waits at most.
const SETTLE: Duration = Duration::from_secs(2);

/// The runners that are, or were, connected in this life of the coordinator.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    runners: BTreeMap<RunnerId, Presence>,
    next: u64,
    /// Touched whenever somebody has applied a view, or has gone.
    progress: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Presence {
    /// When it was last heard, in unix seconds; its stream keeps this current.
    seen: Arc<AtomicU64>,
    session: Option<Session>,
    /// The view that its last stream sent last, if that stream has ended.
    left: Option<Arc<View>>,
    /// When its last stream ended.
    ended: Option<Instant>,
}

/// A stream that stands.
#[derive(Debug)]
struct Session {
    number: u64,
    /// The view that the runner should have. The stream sends what has changed since the view that it sent last, so that
    /// a slow one costs no memory, and catches up in one step.
    views: watch::Sender<Arc<View>>,
    /// The offloads that are on there.
    switches: watch::Sender<Switches>,
    /// The last commit that changed that view.
    changed: Revision,
    /// The view that the runner says is in force.
    applied: Option<Revision>,
}

impl Session {
    /// Whether every change of its view up to `revision` is in force.
    fn settled(&self, revision: Revision) -> bool {
        self.applied.is_some_and(|applied| applied >= revision.min(self.changed))
    }
}

/// What a new stream needs.
#[derive(Debug)]
pub(crate) struct Opened {
    /// Which stream of all this is.
    pub(crate) number: u64,
    /// The view that the runner should have; closed when the stream is to end.
    pub(crate) views: watch::Receiver<Arc<View>>,
    /// The offloads that are on there.
    pub(crate) switches: watch::Receiver<Switches>,
    /// The view that it has, if it can be continued.
    pub(crate) has: Option<Arc<View>>,
    /// When it was last heard, in unix seconds: to be kept current.
    pub(crate) seen: Arc<AtomicU64>,
    /// Another stream of this runner stood, and has been ended.
    pub(crate) took_over: bool,
}

impl Sessions {
    /// Begins a stream; the newest of a runner wins. `view` is what it should know, `have` what it says it knows.
    pub(crate) fn open(&mut self, runner: RunnerId, view: View, switches: Switches, have: Option<Have>) -> Opened {
        let view = Arc::new(view);
        let presence = self.runners.entry(runner).or_default();
        let has = presence
            .left
            .take()
            .filter(|left| have.is_some_and(|have| have.epoch == left.epoch && have.revision == left.revision));
        let changed = match &has {
            Some(left) if left.delta_to(&view).is_empty() => left.revision,
            _ => view.revision,
        };
        self.next += 1;
        let (views, receiver) = watch::channel(view);
        let (switches, switched) = watch::channel(switches);
        let applied = has.as_ref().map(|left| left.revision);
        let old = presence.session.replace(Session { number: self.next, views, switches, changed, applied });
        let seen = Arc::clone(&presence.seen);
        Opened { number: self.next, views: receiver, switches: switched, has, seen, took_over: old.is_some() }
    }

    /// Notes that the runner has put the view of `revision` into force.
    pub(crate) fn applied(&mut self, runner: RunnerId, number: u64, revision: Revision) {
        if let Some(session) = self.session(runner, number) {
            session.applied = session.applied.max(Some(revision));
            self.progress.send_replace(());
        }
    }

    /// Ends a stream that has sent `sent` last.
    pub(crate) fn close(&mut self, runner: RunnerId, number: u64, sent: Option<Arc<View>>) {
        if self.session(runner, number).is_some()
            && let Some(presence) = self.runners.get_mut(&runner)
        {
            presence.session = None;
            presence.left = sent;
            presence.ended = Some(Instant::now());
            self.progress.send_replace(());
        }
    }

    /// Gives a runner that is connected the view that it should have as of `revision`; `None` ends its stream.
    pub(crate) fn update(&mut self, runner: RunnerId, revision: Revision, view: impl FnOnce() -> Option<View>) {
        let Some(presence) = self.runners.get_mut(&runner) else { return };
        let Some(session) = &mut presence.session else { return };
        match view() {
            Some(view) => {
                let same = session.views.borrow().delta_to(&view).is_empty();
                if !same {
                    session.changed = revision;
                    session.views.send_replace(Arc::new(view));
                }
            }
            None => {
                self.runners.remove(&runner);
                self.progress.send_replace(());
            }
        }
    }

    /// Tells a runner that is connected which offloads are on there.
    pub(crate) fn switch(&mut self, runner: RunnerId, switches: Switches) {
        if let Some(session) = self.runners.get(&runner).and_then(|presence| presence.session.as_ref()) {
            session.switches.send_if_modified(|before| std::mem::replace(before, switches) != switches);
        }
    }

    /// Since when a runner is not connected, if it isn't; `Some(None)`: since before this life of the coordinator.
    pub(crate) fn unheard_since(&self, runner: RunnerId) -> Option<Option<Instant>> {
        match self.runners.get(&runner) {
            Some(Presence { session: Some(_), .. }) => None,
            Some(presence) => Some(presence.ended),
            None => Some(None),
        }
    }

    /// Of these runners, those that have not put into force what changed up to `revision`. Who isn't connected can't say
    /// that it has.
    pub(crate) fn pending(&self, runners: &BTreeSet<RunnerId>, revision: Revision) -> Vec<RunnerId> {
        let settled = |runner: &RunnerId| {
            let session = self.runners.get(runner).and_then(|presence| presence.session.as_ref());
            session.is_some_and(|session| session.settled(revision))
        };
        runners.iter().filter(|runner| !settled(runner)).copied().collect()
    }

    /// The runners that are connected.
    pub(crate) fn connected(&self) -> impl Iterator<Item = RunnerId> {
        self.runners.iter().filter(|(_, presence)| presence.session.is_some()).map(|(runner, _)| *runner)
    }

    /// Whether the runner is connected.
    pub(crate) fn is_online(&self, runner: RunnerId) -> bool {
        self.runners.get(&runner).is_some_and(|presence| presence.session.is_some())
    }

    /// When the runner was last heard in this life of the coordinator, in unix seconds.
    pub(crate) fn last_seen(&self, runner: RunnerId) -> Option<u64> {
        self.runners.get(&runner).map(|presence| presence.seen.load(Ordering::Relaxed)).filter(|seen| *seen > 0)
    }

    /// The revision of the view that the runner says is in force.
    pub(crate) fn in_force(&self, runner: RunnerId) -> Option<Revision> {
        self.runners.get(&runner)?.session.as_ref()?.applied
    }

    /// Whether all that the runner should know is in force there; never of one that is not connected, since it can't say.
    pub(crate) fn is_current(&self, runner: RunnerId) -> bool {
        let session = self.runners.get(&runner).and_then(|presence| presence.session.as_ref());
        session.is_some_and(|session| session.settled(session.changed))
    }

    /// Of the runners that `asker` knows of, those that are connected and have not put into force what changed up to
    /// `revision`.
    fn unsettled(&self, asker: RunnerId, revision: Revision) -> Vec<RunnerId> {
        let session = self.runners.get(&asker).and_then(|presence| presence.session.as_ref());
        let view = session.map(|session| Arc::clone(&session.views.borrow()));
        let known = view.iter().flat_map(|view| view.runners()).map(|runner| runner.id);
        known
            .filter(|runner| {
                let session = self.runners.get(runner).and_then(|presence| presence.session.as_ref());
                session.is_some_and(|session| !session.settled(revision))
            })
            .collect()
    }

    fn session(&mut self, runner: RunnerId, number: u64) -> Option<&mut Session> {
        self.runners.get_mut(&runner)?.session.as_mut().filter(|session| session.number == number)
    }
}

/// Waits until what changed up to `revision` is in force at the runners that `asker` knows of and that are connected, for
/// two seconds at most; returns those where it isn't yet.
pub(crate) async fn settle(
    coordinator: &Coordinator,
    asker: RunnerId,
    revision: Revision,
) -> Result<Vec<Label>, Failure> {
    let deadline = Instant::now() + SETTLE;
    let mut progress = coordinator.visit(|core| core.sessions.progress.subscribe()).await?;
    loop {
        let pending = coordinator.visit(move |core| names(core, &core.sessions.unsettled(asker, revision))).await?;
        if pending.is_empty() || !matches!(timeout_at(deadline, progress.changed()).await, Ok(Ok(()))) {
            return Ok(pending);
        }
    }
}

/// Waits until what changed up to `revision` is in force at all of these runners, until `deadline` at most; returns those
/// where it isn't yet. Who was removed meanwhile has nothing in force.
pub(crate) async fn await_applied(
    coordinator: &Coordinator,
    runners: BTreeSet<RunnerId>,
    revision: Revision,
    deadline: Instant,
) -> Result<Vec<Label>, Failure> {
    let mut progress = coordinator.visit(|core| core.sessions.progress.subscribe()).await?;
    let runners = Arc::new(runners);
    loop {
        let concerned = Arc::clone(&runners);
        let look = move |core: &mut Core| {
            let stands = |id: &RunnerId| core.state.runner(*id).is_some_and(|runner| runner.removed.is_none());
            let standing = concerned.iter().copied().filter(stands).collect();
            names(core, &core.sessions.pending(&standing, revision))
        };
        let pending = coordinator.visit(look).await?;
        if pending.is_empty() || !matches!(timeout_at(deadline, progress.changed()).await, Ok(Ok(()))) {
            return Ok(pending);
        }
    }
}

fn names(core: &Core, runners: &[RunnerId]) -> Vec<Label> {
    runners.iter().filter_map(|id| core.state.runner(*id)).map(|runner| runner.name.clone()).collect()
}

#[cfg(test)]
mod tests;
