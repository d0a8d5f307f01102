//! A coordinator's writer: one command after the other is decided on, committed, and absorbed.

use std::time::Duration;

use mesh_model::{Change, Command, Record, RunnerCommand, record::StreamKey};
use mesh_proto::{Revision, RunnerId};
use mesh_several::{
    attempt::{Attempt, Next},
    decide::{Trial, decide},
    etcd::{
        commit::{Outcome, known, outcome, plan},
        layout::Top,
        position::{Base, Known, base},
        wire::TxnResponse,
    },
    store::{Draft, Nonce, StoreError},
};

use super::{
    Bug,
    event::{Answer, Ask, Input},
    member::{Busy, Ended, Job, Pending, Stage, Then, Writer},
    requests::{READ, WRITE},
    truth::Sent,
    world::World,
};

/// The pause before an empty commit is tried again.
const PAUSE: Duration = Duration::from_millis(250);
/// How long a commit waits for its coordinator to have a place again, and how often it looks.
const RETURN: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(100);

impl World {
    /// A command waits for its turn.
    pub(super) fn submit(&mut self, member: usize, command: Command, by: Option<(RunnerId, StreamKey)>, then: Then) {
        let id = self.number();
        let command = match (by, command) {
            (Some(_), command) if self.bug == Some(Bug::EarlierStreamHeard) => command,
            (Some((_, stream)), Command::Runner { by, what }) => Command::Streamed { by, stream, what },
            (_, command) => command,
        };
        if let Some(program) = &mut self.members[member].program {
            program.queue.push_back(Job { id, command, by, then });
        }
    }

    /// The same for what an agent asks by its stream.
    pub(super) fn submit_of(&mut self, member: usize, by: (RunnerId, StreamKey), what: RunnerCommand, then: Then) {
        self.submit(member, Command::Runner { by: by.0, what }, Some(by), then);
    }

    /// The writer does what it can, and what follows from it is carried out.
    pub(super) fn go_on(&mut self, member: usize) {
        loop {
            while self.turn(member) {}
            self.carry_out(member);
            self.refreshed(member);
            self.stream_news(member);
            let Some(program) = &self.members[member].program else { return };
            if program.queue.is_empty() || !matches!(program.writer, Writer::Idle) {
                return;
            }
        }
    }

    /// One turn of the writer. Returns whether there may be another.
    fn turn(&mut self, member: usize) -> bool {
        let Some(program) = &mut self.members[member].program else { return false };
        match &mut program.writer {
            Writer::Reloading => false,
            Writer::Idle => match self.absorb_next(member) {
                Ok(Some(_)) => true,
                Ok(None) => {
                    let Some(program) = &mut self.members[member].program else { return false };
                    match program.queue.pop_front() {
                        Some(job) => {
                            self.decide(member, job, Attempt::default());
                            true
                        }
                        None => false,
                    }
                }
                Err(_) => {
                    if let Some(program) = &mut self.members[member].program {
                        program.writer = Writer::Reloading;
                    }
                    self.load(member);
                    false
                }
            },
            Writer::Busy(busy) => {
                let Stage::CatchingUp(to, _) = busy.stage else { return false };
                if program.state.revision() >= to {
                    self.caught_up(member, true);
                    return true;
                }
                match self.absorb_next(member) {
                    Ok(Some(nonce)) => {
                        if let Some(Stage::CatchingUp(_, nonces)) = self.stage(member) {
                            nonces.push(nonce);
                        }
                        true
                    }
                    Ok(None) => false,
                    Err(_) => {
                        if let Some(stage) = self.stage(member) {
                            *stage = Stage::Reloading(to);
                        }
                        self.load(member);
                        false
                    }
                }
            }
        }
    }

    fn stage(&mut self, member: usize) -> Option<&mut Stage> {
        match &mut self.members[member].program.as_mut()?.writer {
            Writer::Busy(busy) => Some(&mut busy.stage),
            _ => None,
        }
    }

    fn absorb_next(&mut self, member: usize) -> Result<Option<Nonce>, StoreError> {
        let (now, uptime) = (self.instant(), self.members[member].uptime(self.now));
        let follows = self.bug != Some(Bug::ClocksApart);
        let Some(program) = &mut self.members[member].program else { return Ok(None) };
        let Some(commit) = program.recent.next(program.state.revision())?.cloned() else { return Ok(None) };
        program.sessions.absorb(&mut program.state, &commit.changes, commit.revision, now);
        if follows {
            program.running.advance(commit.running, uptime);
        }
        Ok(Some(commit.nonce))
    }

    // === A command ===

    fn decide(&mut self, member: usize, job: Job, mut attempt: Attempt) {
        let Some(now) = self.members[member].decides_at(self.now) else { return };
        let (nonce, pause) = (Nonce(self.rng.next()), self.rng.below(1000) as f64 / 1000.0);
        let (instant, at, bug) = (self.instant(), self.now, self.bug);
        let Some(program) = &mut self.members[member].program else { return };
        let right = Some(program.right()).filter(|_| bug != Some(Bug::RightUncompared));
        let expected = program.state.revision();
        let decision = match decide(&program.state, &program.sessions, &job.command, now) {
            Ok(decision) => decision,
            Err(_) => return self.ended(member, job, Ended::Refused),
        };
        let mut trial = Trial::new(&program.state, &program.sessions);
        trial.add(decision.changes);
        let changes = trial.finish(&mut program.state);
        if changes.is_empty() {
            return self.ended(member, job, Ended::Done(decision.outcome, expected));
        }
        let epoch = program.sessions.epoch();
        let frees = changes.iter().any(|change| matches!(change, Change::Put(Record::Freed(_))));
        let draft = Draft { changes, epoch, running: now.running, nonce, right };
        attempt.sent(expected, nonce);
        let pause = program.position.pause(instant, pause);
        self.truth.sent.insert(nonce.0, Sent { job: job.id, by: job.by, order: order_of(&job) });
        let (id, stage) = (job.id, Stage::Waiting);
        program.writer = Writer::Busy(Box::new(Busy { job, attempt, outcome: Some(decision.outcome), draft, stage }));
        self.input_after(pause, member, Input::Send(id));
        if let Some(time) = self.members[member].stumbles.take_if(|_| frees) {
            self.members[member].paused_until = at + time;
            self.note(format!(
                "coordinator {member} has freed an address, and stands still for {time:?} before it says so"
            ));
        }
    }

    /// Sends the commit that is planned.
    pub(super) fn send(&mut self, member: usize, job: u64) {
        let Some(program) = &mut self.members[member].program else { return };
        let Writer::Busy(busy) = &program.writer else { return };
        if busy.job.id != job {
            return;
        }
        program.position.begin(busy.draft.nonce);
        match program.position.base(program.state.revision()) {
            Ok(Base::Head(head)) => self.swap(member, head.as_ref()),
            Ok(Base::Unread) => self.ask(member, Ask::Head, Pending::Base, READ),
            Err(error) => self.committed(member, Err(error)),
        }
    }

    pub(super) fn based(&mut self, member: usize, answer: Option<Answer>) {
        let Some(Answer::Head(head, _)) = answer else { return self.committed(member, Err(StoreError::Away)) };
        let head = head.and_then(|kv| known(&self.layout, &kv).ok());
        let Some(program) = &self.members[member].program else { return };
        match base(program.state.revision(), head) {
            Ok(head) => self.swap(member, head.as_ref()),
            Err(error) => self.committed(member, Err(error)),
        }
    }

    fn swap(&mut self, member: usize, head: Option<&Known>) {
        let Some(program) = &self.members[member].program else { return };
        let Writer::Busy(busy) = &program.writer else { return };
        let plan = plan(&self.layout, head, &busy.draft).expect("what is decided can be written");
        assert!(plan.parts.is_empty(), "the commands are small");
        let (top, mut swap) = (plan.top, plan.swap);
        if self.bug == Some(Bug::CommitUncompared) {
            swap.compare.clear();
        }
        let began = self.now;
        self.ask(member, Ask::Txn(swap), Pending::Swap { top, began }, WRITE);
    }

    pub(super) fn swapped(&mut self, member: usize, top: &Top, began: Duration, answer: &TxnResponse) {
        let (now, took) = (self.instant(), self.now - began);
        let Some(program) = &mut self.members[member].program else { return };
        let Writer::Busy(busy) = &program.writer else { return };
        let outcome = outcome(&self.layout, top, busy.draft.right, answer);
        let job = busy.job.id;
        let (changes, expected) = (busy.draft.changes.clone(), program.state.revision());
        match outcome {
            Ok(Outcome::Done(at)) => {
                self.advance(member, &Known { top: *top, at }, Some(changes));
                if let Some(program) = &mut self.members[member].program {
                    program.position.made(took);
                }
                self.committed(member, Ok(top.revision));
            }
            Ok(Outcome::Moved(moved)) => {
                program.position.overtaken(now);
                let error = program.position.moved(expected, moved.as_ref());
                if error == StoreError::PutBack {
                    self.wrong(format!("coordinator {member} takes etcd for put back"));
                }
                self.committed(member, Err(error));
            }
            Ok(Outcome::Ended) => {
                self.tally.ended += 1;
                self.note(format!("coordinator {member} has lost its place: its commit is refused"));
                self.renew(member, job, self.now + RETURN);
            }
            other => self.wrong(format!("coordinator {member} cannot tell what came of a commit: {other:?}")),
        }
    }

    /// A commit was refused because the place is lost: it is decided on anew, by another place.
    pub(super) fn renew(&mut self, member: usize, job: u64, until: Duration) {
        let Some(program) = &self.members[member].program else { return };
        let Writer::Busy(busy) = &program.writer else { return };
        if busy.job.id != job {
            return;
        }
        let expected = program.state.revision();
        if busy.draft.right != Some(program.right()) {
            self.committed(member, Err(StoreError::Stale { expected, actual: expected }));
        } else if self.now >= until {
            self.committed(member, Err(StoreError::Ended));
        } else {
            self.input_after(LOOK, member, Input::Renew(job, until));
        }
    }

    /// What came of a commit.
    pub(super) fn committed(&mut self, member: usize, answer: Result<Revision, StoreError>) {
        let bug = self.bug;
        let Some(program) = &mut self.members[member].program else { return };
        let expected = program.state.revision();
        let Writer::Busy(busy) = &mut program.writer else { return };
        let answer = match answer {
            Err(StoreError::Unknown) if bug == Some(Bug::UnknownRepeated) => {
                Err(StoreError::Stale { expected, actual: expected })
            }
            answer => answer,
        };
        let next = busy.attempt.answered(answer);
        self.next(member, next);
    }

    /// All commits that are waited for are absorbed, one by one or by a load.
    pub(super) fn caught_up(&mut self, member: usize, by_one: bool) {
        let Some(program) = &mut self.members[member].program else { return };
        let Writer::Busy(busy) = &mut program.writer else { return };
        let stage = std::mem::replace(&mut busy.stage, Stage::Waiting);
        let next = match &stage {
            Stage::CatchingUp(_, nonces) if by_one => busy.attempt.caught_up(Some(nonces)),
            _ => busy.attempt.caught_up(None),
        };
        self.next(member, next);
    }

    fn next(&mut self, member: usize, next: Next) {
        let nonce = Nonce(self.rng.next());
        let (Some(now), bug) = (self.members[member].decides_at(self.now), self.bug) else { return };
        let Some(program) = &mut self.members[member].program else { return };
        let right = Some(program.right()).filter(|_| bug != Some(Bug::RightUncompared));
        let ended = match next {
            Next::Decide => None,
            Next::CatchUp(revision) => {
                if let Some(stage) = self.stage(member) {
                    *stage = Stage::CatchingUp(revision, vec![]);
                }
                return;
            }
            Next::Settle { pause } => {
                let Writer::Busy(busy) = &mut program.writer else { return };
                let epoch = busy.draft.epoch;
                (busy.draft, busy.stage) =
                    (Draft { changes: vec![], epoch, running: now.running, nonce, right }, Stage::Waiting);
                let job = busy.job.id;
                self.tally.settled += 1;
                self.input_after(if pause { PAUSE } else { Duration::ZERO }, member, Input::Send(job));
                return;
            }
            Next::Made(revision) => Some(Ok(revision)),
            Next::Failed(error) => Some(Err(error)),
        };
        let Writer::Busy(busy) = std::mem::replace(&mut program.writer, Writer::Idle) else { return };
        let Busy { job, attempt, outcome, .. } = *busy;
        match (ended, outcome) {
            (None, _) => self.decide(member, job, attempt),
            (Some(Ok(revision)), Some(outcome)) => {
                self.check_confirmed(member, job.id, revision);
                self.ended(member, job, Ended::Done(outcome, revision));
            }
            (Some(Ok(_)), None) => {}
            (Some(Err(error)), _) => {
                if error != StoreError::Unknown {
                    self.truth.denied.insert(job.id);
                }
                self.ended(member, job, Ended::Failed(error));
            }
        }
    }
}

const fn order_of(job: &Job) -> Option<u64> {
    match job.then {
        Then::Order(order) => Some(order),
        _ => None,
    }
}
