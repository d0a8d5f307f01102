//! Commands that are decided on one after the other, each on what those before it leave, and committed together: a burst
//! of commands waits for the disk once.

use std::{collections::BTreeMap, time::Duration};

use mesh_model::{Change, Command, Decision, Lost, Now, Outcome, Owing, Record, record::Key};
use mesh_proto::{Epoch, Revision, message::Have};
use mesh_sessions::Ahead;
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
        let (base, began) = (self.core.state.revision(), Instant::now());
        let (mut epoch, now) = (self.core.sessions.epoch(), self.clock.now());
        let (mut merged, mut undo) = (BTreeMap::<Key, Change>::new(), Vec::new());
        let (mut last, mut lost) = (Vec::new(), Lost::new());
        let mut next = 0;
        loop {
            if next == group.0.len() && join == Join::Waiting && next < MOST && began.elapsed() < GATHERING {
                group.0.extend(self.queue.submission().map(Member::from));
            }
            let Some(member) = group.0.get_mut(next) else { break };
            if !last.is_empty() {
                self.try_on(&last, base.next(), &mut undo, &mut lost);
            }
            let decided = self.decide_one(&member.command, &mut epoch, now);
            let (decided, changes) = match decided {
                Ok(Decision { outcome, changes }) => (Ok(outcome), changes),
                Err(failure) => (Err(failure), Vec::new()),
            };
            member.decided = decided;
            merged.extend(changes.iter().map(|change| (change.key(), change.clone())));
            last = changes;
            next += 1;
        }
        if self.core.sessions.is_shared() && (!lost.is_empty() || merged.values().any(may_take)) {
            self.try_on(&last, base.next(), &mut undo, &mut lost);
            let changes: Vec<Change> = merged.values().cloned().collect();
            let owed = self.core.state.owed_after(&changes, &lost, base.next());
            merged.extend(owed.into_iter().map(|change| (change.key(), change)));
        }
        for undo in undo.into_iter().rev() {
            self.core.state.absorb(&undo, base);
        }
        // What comes and goes within a group was never there.
        merged.retain(|key, change| matches!(change, Change::Put(_)) || self.core.state.has(*key));
        Plan { changes: merged.into_values().collect(), epoch, now }
    }

    /// Absorbs changes until they are undone. Adds what they take from runners.
    fn try_on(&mut self, changes: &[Change], revision: Revision, undo: &mut Vec<Vec<Change>>, lost: &mut Lost) {
        let state = &mut self.core.state;
        undo.push(state.undo_of(changes));
        for (of, runners) in state.absorb(changes, revision).lost {
            lost.entry(of).or_default().extend(runners);
        }
    }

    /// Decides on a command. It begins another epoch if the database was put back, unless that is known already.
    fn decide_one(&self, command: &Command, epoch: &mut Epoch, now: Now) -> Result<Decision, Failure> {
        let (state, sessions) = (&self.core.state, &self.core.sessions);
        let (runner, seen) = match command {
            Command::PutBack { runner, seen } => (runner, seen),
            Command::Owing(all) => {
                // What is known now counts, and not what was when the command was made.
                let now_owing = |o: &Owing| sessions.owing(state, o.runner, o.stream, o.ended);
                return Ok(state.decide(&Command::Owing(all.iter().map(now_owing).collect()), now)?);
            }
            command => return Ok(state.decide(command, now)?),
        };
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

/// Whether it can take something from a runner that has no stream.
fn may_take(change: &Change) -> bool {
    match change {
        Change::Put(Record::Runner(runner)) => runner.removed.is_some(),
        change => matches!(change.key(), Key::Deployment(_) | Key::Service(_)),
    }
}
