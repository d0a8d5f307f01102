//! Commands that are decided on one after the other, each on what those before it leave, and committed together: a burst
//! of commands waits for the disk once.

use std::time::Duration;

use mesh_model::{Change, Command, Decision, Now, Outcome};
use mesh_proto::{Epoch, Revision, message::Have};
use mesh_sessions::Ahead;
use mesh_several::decide::{Trial, decide};
use tokio::{sync::oneshot, time::Instant};

use super::{Done, Failure, Submission, Writer};
use crate::{
    random,
    store::{Store, StoreError},
};

/// The most commands that are committed together.
const MOST: usize = 64;
/// How long deciding on them may take, before the first one's commit begins.
const GATHERING: Duration = Duration::from_millis(5);

/// A group of commands, at least one.
pub(super) struct Group(Vec<Member>);

struct Member {
    command: Box<Command>,
    /// `None` once it was answered.
    answer: Option<oneshot::Sender<Result<Done, Failure>>>,
    decided: Result<Outcome, Failure>,
}

impl From<Submission> for Member {
    fn from(Submission { command, answer }: Submission) -> Self {
        Self { command, answer: Some(answer), decided: Ok(Outcome::Noted) }
    }
}

impl Group {
    pub(super) fn new(first: Submission) -> Self {
        Self(vec![first.into()])
    }

    /// Each command as a group of its own.
    pub(super) fn apart(self) -> impl Iterator<Item = Self> {
        self.0.into_iter().map(|member| Self(vec![member]))
    }

    pub(super) const fn is_one(&self) -> bool {
        self.0.len() == 1
    }

    /// Answers all commands, which were committed as `revision`.
    pub(super) fn committed(self, revision: Revision) {
        for Member { answer, decided, .. } in self.0 {
            let done = decided.map(|outcome| Done { outcome, revision });
            drop(answer.map(|answer| answer.send(done)));
        }
    }

    /// Answers all commands that have no answer yet: the store has failed.
    pub(super) fn failed(&mut self, error: &StoreError) {
        for answer in self.0.iter_mut().filter_map(|member| member.answer.take()) {
            drop(answer.send(Err(error.clone().into())));
        }
    }
}

/// What a group changes.
pub(super) struct Plan {
    pub(super) changes: Vec<Change>,
    pub(super) epoch: Epoch,
    pub(super) now: Now,
}

/// Whether waiting commands join a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Join {
    Waiting,
    None,
}

impl<S: Store> Writer<S> {
    /// Decides on a group. Afterwards the state is what it was before.
    pub(super) fn decide(&mut self, group: &mut Group, join: Join) -> Plan {
        let (began, mut epoch, now) = (Instant::now(), self.core.sessions.epoch(), self.clock.now());
        let mut trial = Trial::new(&self.core.state, &self.core.sessions);
        let mut next = 0;
        loop {
            if next == group.0.len() && join == Join::Waiting && next < MOST && began.elapsed() < GATHERING {
                group.0.extend(self.queue.submission().map(Member::from));
            }
            let Some(member) = group.0.get_mut(next) else { break };
            trial.put_on(&mut self.core.state);
            let decided = self.decide_one(&member.command, &mut epoch, now);
            let (decided, changes) = match decided {
                Ok(Decision { outcome, changes }) => (Ok(outcome), changes),
                Err(failure) => (Err(failure), Vec::new()),
            };
            member.decided = decided;
            trial.add(changes);
            next += 1;
        }
        Plan { changes: trial.finish(&mut self.core.state), epoch, now }
    }

    /// Decides on a command. It begins another epoch if the database was put back, unless that is known already.
    fn decide_one(&self, command: &Command, epoch: &mut Epoch, now: Now) -> Result<Decision, Failure> {
        let (state, sessions) = (&self.core.state, &self.core.sessions);
        let Command::PutBack { runner, seen } = command else { return Ok(decide(state, sessions, command, now)?) };
        let have = Have { epoch: sessions.epoch(), revision: *seen };
        let is_proof = matches!(sessions.ahead(*runner, Some(have)), Some(Ahead::OfRestored { .. }));
        let is_new = is_proof && *epoch == sessions.epoch();
        if !is_new {
            return Ok(Decision { outcome: Outcome::Noted, changes: Vec::new() });
        }
        let decision = state.decide(command, now)?;
        *epoch = random::epoch().map_err(|error| Failure::Internal(error.to_string()))?;
        Ok(decision)
    }
}
