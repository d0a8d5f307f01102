//! `trust --wait` over several coordinators, and what they ask each other for it.

use std::{collections::BTreeSet, time::Duration};

use mesh_model::record::MemberId;
use mesh_proto::{Revision, RunnerId};
use mesh_sessions::WaitId;
use mesh_several::settle;

use super::{
    Bug,
    event::{Caller, Event, Input, Question},
    member::{Here, Pending, Program, Refreshed},
    world::World,
};
use crate::waits::world::deployment_name;

/// How long coordinators wait before they tell who has confirmed.
const ROUND: Duration = Duration::from_secs(1);
/// How much longer the answer may take.
const ON_THE_WAY: Duration = Duration::from_millis(500);
/// The pause before they are asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// A client's wait.
pub(super) struct Wait {
    order: u64,
    app: usize,
    revision: Revision,
    deadline: Duration,
    pending: BTreeSet<RunnerId>,
    /// How many answers are missing in this round.
    missing: usize,
    /// Who has confirmed here, and who elsewhere, of those that were asked about.
    here: BTreeSet<RunnerId>,
    told: Vec<(BTreeSet<RunnerId>, BTreeSet<RunnerId>)>,
    is_last: bool,
}

impl World {
    fn wait_of(&mut self, member: usize, wait: u64) -> Option<&mut Wait> {
        self.members[member].program.as_mut()?.waits.get_mut(&wait)
    }

    /// Waits until all that know something of a deployment have confirmed what changed up to `revision`.
    pub(super) fn begin_wait(
        &mut self,
        member: usize,
        (order, app): (u64, usize),
        revision: Revision,
        patience: Duration,
    ) {
        let (id, deadline, bug) = (self.number(), self.now + patience, self.bug);
        let Some(program) = &mut self.members[member].program else { return };
        let pending = match bug {
            Some(Bug::OwedForgotten) => program.state.affected_by(&deployment_name(app)),
            _ => program.sessions.affected(&program.state, &deployment_name(app)),
        };
        let (here, told) = (BTreeSet::new(), Vec::new());
        let wait = Wait { order, app, revision, deadline, pending, missing: 0, here, told, is_last: false };
        program.waits.insert(id, wait);
        self.next_round(member, id);
    }

    /// Asks another coordinator about runners for a wait.
    fn ask_peer(&mut self, member: usize, other: MemberId, wait: u64, runners: BTreeSet<RunnerId>, until: Duration) {
        let (call, patience) = (self.number(), until - self.now);
        let Some(program) = &mut self.members[member].program else { return };
        let Some(revision) = program.waits.get(&wait).map(|wait| wait.revision) else { return };
        let epoch = program.sessions.epoch();
        program.pending.insert(call, Pending::Peer(wait, runners.clone()));
        self.input_after(patience + ON_THE_WAY, member, Input::Late(call));
        let is_other = |program: &Program| program.me == other;
        let place = self.members.iter().position(|member| member.program.as_ref().is_some_and(is_other));
        let from = Caller { process: self.process(member), call };
        if let Some(place) = place
            && !self.members[member].cut_clients
            && !self.members[place].cut_clients
        {
            let pause = self.latency();
            self.input_after(pause, place, Input::Question(Question { from, epoch, revision, runners, patience }));
        }
    }

    pub(super) fn answer_of_peer(&mut self, member: usize, call: u64, runners: BTreeSet<RunnerId>) {
        let Some(program) = &mut self.members[member].program else { return };
        if let Some(Pending::Peer(wait, asked)) = program.pending.remove(&call) {
            self.told_by_peer(member, wait, asked, Some(runners));
        }
    }

    /// Another coordinator has answered, or not in time.
    pub(super) fn told_by_peer(
        &mut self,
        member: usize,
        wait: u64,
        asked: BTreeSet<RunnerId>,
        answer: Option<BTreeSet<RunnerId>>,
    ) {
        let Some(one) = self.wait_of(member, wait) else { return };
        one.missing -= 1;
        one.told.extend(answer.map(|answer| (asked, answer)));
        self.all_told(member, wait);
    }

    /// Goes on once all answers are there.
    fn all_told(&mut self, member: usize, id: u64) {
        let Some(program) = &mut self.members[member].program else { return };
        let Some(wait) = program.waits.get_mut(&id).filter(|wait| wait.missing == 0) else { return };
        let confirmed = settle::confirmed(std::mem::take(&mut wait.here), std::mem::take(&mut wait.told));
        let state = &program.state;
        wait.pending.retain(|runner| !confirmed.contains(runner) && state.is_active(*runner));
        if wait.pending.is_empty() || wait.is_last {
            let (order, revision, app) = (wait.order, wait.revision, wait.app);
            let unconfirmed = std::mem::take(&mut wait.pending);
            program.waits.remove(&id);
            self.wait_ended(member, (order, app), revision, &unconfirmed);
        } else {
            self.input_after(PAUSE, member, Input::Wait(id));
        }
    }

    /// Asks all who may have confirmed.
    pub(super) fn next_round(&mut self, member: usize, id: u64) {
        let (now, start) = (self.now, self.instant_at(Duration::ZERO));
        let Some(program) = &mut self.members[member].program else { return };
        let Some(wait) = program.waits.get_mut(&id) else { return };
        let left = wait.deadline.saturating_sub(now);
        let patience = left.min(ROUND);
        let elsewhere = settle::elsewhere(&program.sessions, &wait.pending);
        wait.is_last = left.is_zero();
        wait.missing = elsewhere.len() + 1;
        let (runners, revision, until) = (wait.pending.clone(), wait.revision, start + now + patience);
        let here = program.sessions.wait_for_connected(runners, revision, until, start + now);
        program.here.insert(here, Here::Own(id));
        self.input_after(patience, member, Input::Timer);
        for (other, runners) in elsewhere {
            self.ask_peer(member, other, id, runners, now + patience);
        }
    }

    // === Who is asked ===

    pub(super) fn asked(&mut self, member: usize, question: Question) {
        let now = self.instant();
        if self.members[member].program.as_ref().is_some_and(|program| !program.is_stale(now)) {
            self.refresh(member, Refreshed::Question(question));
        }
    }

    /// All is known that was confirmed before the question.
    pub(super) fn answer_question(&mut self, member: usize, question: Question) {
        let (until, now) = (self.instant_at(self.now + question.patience), self.instant());
        let Some(program) = &mut self.members[member].program else { return };
        let (runners, revision, patience) = (question.runners.clone(), question.revision, question.patience);
        let here = program.sessions.wait_for_connected(runners, revision, until, now);
        program.here.insert(here, Here::Question(question));
        self.input_after(patience, member, Input::Timer);
    }

    fn answer_peer(&mut self, member: usize, to: Caller, runners: BTreeSet<RunnerId>) {
        if !self.members[member].cut_clients && !self.members[to.process.member].cut_clients {
            let pause = self.latency();
            self.after(pause, Event::Input(to.process, Input::Answered(to.call, runners)));
        }
    }

    pub(super) fn time_out(&mut self, member: usize) {
        let now = self.instant();
        if let Some(program) = &mut self.members[member].program {
            program.sessions.handle_timeout(now);
        }
    }

    /// Those that are connected here have confirmed, or the time is over.
    pub(super) fn waited_here(&mut self, member: usize, id: WaitId) {
        let Some(program) = &mut self.members[member].program else { return };
        match program.here.remove(&id) {
            None => {}
            Some(Here::Own(wait)) => {
                let Some(wait_of) = program.waits.get_mut(&wait) else { return };
                wait_of.missing -= 1;
                wait_of.here = program.sessions.confirmed_among(&wait_of.pending, wait_of.revision);
                self.all_told(member, wait);
            }
            Some(Here::Question(Question { from, epoch, revision, runners, .. })) => {
                let confirmed = match program.sessions.epoch() == epoch {
                    true => program.sessions.confirmed_among(&runners, revision),
                    // Revisions of different epochs say nothing of each other.
                    false => BTreeSet::new(),
                };
                self.answer_peer(member, from, confirmed);
            }
        }
    }
}
