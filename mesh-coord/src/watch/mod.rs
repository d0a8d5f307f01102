//! Who is connected, what each of them should know, and what it has said that it knows.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use mesh_proto::{
    Revision, RunnerId, TokenId, View,
    message::{Have, Switches},
};
use tokio::{sync::watch, time::Instant};

pub(crate) mod absence;
mod asks;
mod brake;
mod newcomer;
mod owed;
mod settle;
pub(crate) mod stream;
mod told;

pub(crate) use brake::{Brake, Brakes, Busy};
pub(crate) use owed::Owed;
pub(crate) use settle::await_applied;
use settle::settle;

/// Tokens' brakes that are kept before those are forgotten that brake nothing.
const TOKEN_BRAKES: usize = 1024;

/// The runners that are, or were, connected in this life of the coordinator.
#[derive(Debug)]
pub(crate) struct Sessions {
    runners: BTreeMap<RunnerId, Presence>,
    tokens: HashMap<TokenId, Arc<Brake>>,
    next: u64,
    /// When this life of the coordinator began.
    started: Instant,
    /// Touched whenever somebody has applied a view, need not, or has gone.
    progress: watch::Sender<()>,
    #[cfg(test)]
    worked_out: usize,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            runners: BTreeMap::new(),
            tokens: HashMap::new(),
            next: 0,
            started: Instant::now(),
            progress: watch::Sender::default(),
            #[cfg(test)]
            worked_out: 0,
        }
    }
}

/// Whose stream it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    /// The agent's process, drawn by lot; agents of before say nothing.
    pub(crate) process: Option<u64>,
    /// Where it comes from.
    pub(crate) from: IpAddr,
}

#[derive(Debug, Default)]
struct Presence {
    /// When it was last heard, in unix seconds; its stream keeps this current.
    seen: Arc<AtomicU64>,
    session: Option<Session>,
    /// The view that its last stream sent last, if that stream has ended.
    left: Option<Arc<View>>,
    /// When its last stream ended, or since when there is such a runner.
    ended: Option<Instant>,
    /// Whose that was.
    last: Option<Peer>,
    /// Outlast its streams: a new one is no way around them.
    brakes: Brakes,
}

/// A stream that stands.
#[derive(Debug)]
struct Session {
    number: u64,
    /// The view that the runner should have, as it was when it was worked out last.
    view: Arc<View>,
    /// The first commit since then that may have changed it. The stream looks when it can, so that a slow one costs
    /// nothing, and catches up in one step; and however many runners are concerned, a commit waits for no view.
    due: Option<Revision>,
    /// Touched whenever there is something to look at.
    news: watch::Sender<()>,
    /// The offloads that are on there.
    switches: watch::Sender<Switches>,
    /// The last commit of which `view` has news for the runner.
    changed: Revision,
    /// The view that the runner says is in force.
    applied: Option<Revision>,
    peer: Peer,
    /// Asks whether the agent is there: answered with the same number, or closed.
    probe: watch::Sender<u64>,
    answered: watch::Receiver<u64>,
}

impl Session {
    /// Whether every change of its view up to `revision` is in force. What may have changed it counts as a change until
    /// somebody has looked.
    fn settled(&self, revision: Revision) -> bool {
        self.due.is_none_or(|due| due > revision)
            && self.applied.is_some_and(|applied| applied >= revision.min(self.changed))
    }
}

/// What a new stream needs.
#[derive(Debug)]
pub(crate) struct Opened {
    /// Which stream of all this is.
    pub(crate) number: u64,
    /// The view that the runner should have.
    pub(crate) view: Arc<View>,
    /// Says when that view may be another one; closed when the stream is to end.
    pub(crate) news: watch::Receiver<()>,
    /// The offloads that are on there.
    pub(crate) switches: watch::Receiver<Switches>,
    /// The view that it has, if it can be continued.
    pub(crate) has: Option<Arc<View>>,
    /// When it was last heard, in unix seconds: to be kept current.
    pub(crate) seen: Arc<AtomicU64>,
    /// The agent whose stream stood, and has been ended.
    pub(crate) replaced: Option<Peer>,
    /// Asks whether the agent is still there,
    pub(crate) probe: watch::Receiver<u64>,
    /// which is answered here.
    pub(crate) answered: watch::Sender<u64>,
}

impl Sessions {
    /// Begins a stream; the newest of a runner wins. `view` is what it should know, `have` what it says it knows.
    pub(crate) fn open(
        &mut self,
        runner: RunnerId,
        peer: Peer,
        view: View,
        switches: Switches,
        have: Option<Have>,
    ) -> Opened {
        self.note_view();
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
        let (news, heard) = watch::channel(());
        let (switches, switched) = watch::channel(switches);
        let (probe, probed) = watch::channel(0);
        let (answered, answers) = watch::channel(0);
        let session = Session {
            number: self.next,
            view: Arc::clone(&view),
            due: None,
            news,
            switches,
            changed,
            // It has that view, but has yet to say that it is in force.
            applied: None,
            peer,
            probe,
            answered: answers,
        };
        let replaced = presence.session.replace(session).map(|session| session.peer);
        let seen = Arc::clone(&presence.seen);
        presence.last = Some(peer);
        Opened {
            number: self.next,
            view,
            news: heard,
            switches: switched,
            has,
            seen,
            replaced,
            probe: probed,
            answered,
        }
    }

    /// What limits the runner.
    pub(crate) fn brakes(&mut self, runner: RunnerId) -> Brakes {
        self.runners.entry(runner).or_default().brakes.clone()
    }

    /// What limits the holder of an admin token.
    pub(crate) fn token_brake(&mut self, token: TokenId) -> Arc<Brake> {
        if self.tokens.len() >= TOKEN_BRAKES && !self.tokens.contains_key(&token) {
            let now = Instant::now();
            self.tokens.retain(|_, brake| !brake.is_fresh(now));
        }
        Arc::clone(self.tokens.entry(token).or_insert_with(|| Arc::new(Brake::commands())))
    }

    /// Notes that there is such a runner from now on.
    pub(crate) fn expect(&mut self, runner: RunnerId) {
        self.runners.entry(runner).or_default().ended = Some(Instant::now());
    }

    /// Notes that the runner has put the view of `revision` into force.
    pub(crate) fn applied(&mut self, runner: RunnerId, number: u64, revision: Revision) {
        // Said twice it is no news: those who wait are not woken for it.
        if let Some(session) = self.session(runner, number).filter(|session| session.applied < Some(revision)) {
            session.applied = Some(revision);
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

    /// The commit of `revision` may have changed what a runner should know.
    pub(crate) fn touch(&mut self, runner: RunnerId, revision: Revision) {
        if let Some(session) = self.runners.get_mut(&runner).and_then(|presence| presence.session.as_mut()) {
            session.due.get_or_insert(revision);
            session.news.send_replace(());
        }
    }

    /// Forgets a runner that is none any more, and ends its stream.
    pub(crate) fn cut_off(&mut self, runner: RunnerId) {
        if self.runners.remove(&runner).is_some() {
            self.progress.send_replace(());
        }
    }

    /// The view that a runner that is connected should have, worked out anew if a commit may have changed it.
    pub(crate) fn look(&mut self, runner: RunnerId, view: impl FnOnce() -> Option<View>) -> Option<Arc<View>> {
        let session = self.runners.get_mut(&runner)?.session.as_mut()?;
        if session.due.take().is_none() {
            return Some(Arc::clone(&session.view));
        }
        let view = view()?;
        if session.view.delta_to(&view).is_empty() {
            // There is nothing to be put into force.
            self.progress.send_replace(());
        } else {
            session.changed = view.revision;
            session.view = Arc::new(view);
        }
        let view = Arc::clone(&session.view);
        self.note_view();
        Some(view)
    }

    /// Whether this stream of the runner's is its newest.
    pub(crate) fn stands(&mut self, runner: RunnerId, number: u64) -> bool {
        self.session(runner, number).is_some()
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
        session.is_some_and(|session| session.due.is_none() && session.settled(session.changed))
    }

    /// Of these runners, those that are connected and have not put into force what changed up to `revision`.
    fn unsettled(&self, runners: &BTreeSet<RunnerId>, revision: Revision) -> Vec<RunnerId> {
        self.pending(runners, revision).into_iter().filter(|runner| self.is_online(*runner)).collect()
    }

    /// Counts the views that were worked out, for tests.
    fn note_view(&mut self) {
        #[cfg(test)]
        {
            self.worked_out += 1;
        }
    }

    fn session(&mut self, runner: RunnerId, number: u64) -> Option<&mut Session> {
        self.runners.get_mut(&runner)?.session.as_mut().filter(|session| session.number == number)
    }
}

#[cfg(test)]
mod tests;
