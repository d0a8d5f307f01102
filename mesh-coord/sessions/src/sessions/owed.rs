//! What runners may still act on although it was taken back, where several coordinators serve.
//!
//! Every coordinator follows all commits, so each remembers what they take from runners that are connected, wherever
//! they are: until the runner confirms here, or the coordinator that it is connected to tells that it has, or that the
//! records say so. Of runners without a stream, the records say it. So the loss of a coordinator loses nothing, and
//! none has to be asked which runners a change concerns.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use mesh_model::{
    Lost, Owing, State,
    record::{MemberId, Owes, StreamKey},
};
use mesh_proto::{DeploymentId, Revision, RunnerId};

use super::Sessions;

/// How long a runner may owe something before it is a record.
const REMEMBERED: Duration = Duration::from_secs(2);
/// The most runners of one command.
const AT_ONCE: usize = 500;

/// What another coordinator tells of its runners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// The revision that it had reached then.
    pub at: Revision,
    /// What was taken from its runners up to here is confirmed, or in the records.
    pub settled: Revision,
}

/// What is owed and in no record, by the runners that have a stream.
#[derive(Debug, Default)]
pub(super) struct Remembered(BTreeMap<RunnerId, Owes>);

impl Remembered {
    pub(super) fn add(&mut self, runner: RunnerId, of: Option<DeploymentId>, revision: Revision) {
        let at = self.0.entry(runner).or_default().entry(of).or_default();
        *at = revision.max(*at);
    }

    pub(super) fn forget(&mut self, runner: RunnerId) {
        self.0.remove(&runner);
    }

    /// Forgets what of a runner was settled.
    pub(super) fn settle(&mut self, runner: RunnerId, is_settled: impl Fn(Revision) -> bool) {
        if let Some(owes) = self.0.get_mut(&runner) {
            owes.retain(|_, revision| !is_settled(*revision));
            if owes.is_empty() {
                self.0.remove(&runner);
            }
        }
    }

    fn of(&self, runner: RunnerId) -> Owes {
        self.0.get(&runner).cloned().unwrap_or_default()
    }

    fn owing_of(&self, deployment: DeploymentId) -> impl Iterator<Item = RunnerId> {
        let owes = move |owes: &Owes| owes.contains_key(&None) || owes.contains_key(&Some(deployment));
        self.0.iter().filter(move |(_, all)| owes(all)).map(|(runner, _)| *runner)
    }
}

impl Sessions {
    /// A commit has taken this from runners. Of those without a stream, it has recorded that itself.
    pub(super) fn take_away(&mut self, lost: &Lost, revision: Revision) {
        let Some(others) = &mut self.others else { return };
        for (of, runners) in lost {
            for runner in runners.iter().filter(|runner| others.streams.contains_key(runner)) {
                others.remembered.add(*runner, Some(*of), revision);
            }
        }
    }

    /// The runner has confirmed something here.
    pub(super) fn settle(&mut self, runner: RunnerId) {
        let Some(others) = &mut self.others else { return };
        let session = self.runners.get(&runner).and_then(|presence| presence.session());
        if let Some(session) = session.filter(|_| others.remembered.0.contains_key(&runner)) {
            others.remembered.settle(runner, |revision| session.has_confirmed(revision));
        }
    }

    /// Takes in what other coordinators tell of their runners.
    pub fn told(&mut self, told: &BTreeMap<MemberId, Told>) {
        let Some(others) = &mut self.others else { return };
        for runner in others.remembered.0.keys().copied().collect::<Vec<_>>() {
            let Some((session, begun)) = others.streams.get(&runner) else { continue };
            let Some(told) = told.get(&session.stream.member).filter(|_| session.stream.member != others.me) else {
                continue;
            };
            // What it tells is about its runners as of then. This coordinator has to know as much of them.
            if (*begun..=others.reached).contains(&told.at) {
                others.remembered.settle(runner, |revision| revision <= told.settled);
            }
        }
    }

    /// What was taken from runners that are connected here, up to this revision, is confirmed or in the records.
    #[must_use]
    pub fn settled(&self, state: &State) -> Revision {
        let Some(others) = &self.others else { return state.revision() };
        let mut settled = others.reached;
        for (runner, owes) in others.remembered.0.iter().filter(|(runner, _)| others.is_here(**runner)) {
            let recorded = state.owed_by(*runner);
            for (of, revision) in owes.iter().filter(|(of, _)| !recorded.contains_key(of)) {
                // Who may know anything may know what others remember of it.
                let before = of.map_or(0, |_| revision.0.saturating_sub(1));
                settled = settled.min(Revision(before));
            }
        }
        settled
    }

    /// The runners that may still act on a deployment though they don't see it any more.
    pub(super) fn owing_of(&self, state: &State, deployment: DeploymentId) -> BTreeSet<RunnerId> {
        let Some(others) = &self.others else { return BTreeSet::new() };
        // Of runners that are connected here, more is known than what the records say.
        let recorded = state.owing_of(deployment).filter(|runner| !others.is_here(*runner));
        recorded.chain(others.remembered.owing_of(deployment)).collect()
    }

    /// What a runner may still act on, to be recorded for its stream.
    #[must_use]
    pub fn owing(&self, state: &State, runner: RunnerId, stream: StreamKey, ended: bool) -> Owing {
        let mut owes = Owes::new();
        if let Some(others) = &self.others {
            if stream.member != others.me {
                owes = state.owed_by(runner);
            }
            owes.extend(others.remembered.of(runner));
        }
        Owing { runner, stream, owes, ended }
    }

    /// What is to be recorded of the runners that are connected here: what they have owed for a while, and that they
    /// don't owe any more what the records say.
    #[must_use]
    pub fn to_record(&self, state: &State, now: Instant) -> Vec<Owing> {
        let Some(others) = &self.others else { return Vec::new() };
        let mut runners = state.owing();
        runners.extend(others.remembered.0.keys());
        let owing = |runner: RunnerId| {
            let session = self.session(runner)?;
            let (recorded, owing) = (state.owed_by(runner), self.owing(state, runner, session.key?, false));
            let is_late = session.behind.is_some_and(|since| now.saturating_duration_since(since) > REMEMBERED);
            let is_new = owing.owes.iter().any(|(of, revision)| recorded.get(of) != Some(revision));
            let is_over = recorded.keys().any(|of| !owing.owes.contains_key(of));
            (is_over || (is_new && is_late)).then_some(owing)
        };
        runners.into_iter().filter(|runner| others.is_here(*runner)).filter_map(owing).take(AT_ONCE).collect()
    }

    /// The streams of coordinators that are gone, whose runners have not come back for a while.
    #[must_use]
    pub fn abandoned(&self, state: &State, now: Instant) -> Vec<Owing> {
        let Some(others) = self.others.as_ref().filter(|_| !self.is_in_grace(now)) else { return Vec::new() };
        let theirs = others.streams.values().map(|(session, _)| session);
        let gone = theirs.filter(|session| !others.living.contains(&session.stream.member));
        gone.map(|session| self.owing(state, session.runner, session.stream, true)).take(AT_ONCE).collect()
    }
}
