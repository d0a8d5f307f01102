//! What each input sets off, and what begins when a namespace is at rest.

use std::{collections::BTreeMap, time::Instant};

use mesh_proto::{
    InstanceId,
    message::{Held, Refusal},
};

use crate::{
    Attachment, ContainerId, Effect, Input, Lifecycle, NamespaceId, OpId, Outcome, Remembered, Shown,
    state::{
        Context, Owner,
        request::IdJob,
        space::{Job, Space, State},
    },
};

impl Lifecycle {
    /// Takes in what has happened. What is to be done about it is added to `out`.
    pub fn handle(&mut self, input: Input, now: Instant, out: &mut Vec<Effect>) {
        let cx = &mut Context { now, out };
        match input {
            Input::Start(call) => self.start(call, cx),
            Input::Attach(call, request) => self.attach(call, *request, cx),
            Input::Detach(call, instance) => self.detach(call, instance, cx),
            Input::DetachNamespace(call, namespace) => self.detach_namespace(call, namespace, cx),
            Input::DetachContainer(call, id) => self.container_job(&id, IdJob::Detach(call), cx),
            Input::DetachAll(call) => self.detach_all(call, cx),
            Input::SetDraining(call, instance, draining) => self.set_draining(call, instance, draining, cx),
            Input::Waits(id, why) => self.containers.waits(id, why),
            Input::HungUp(call) => self.hung_up(call, cx),
            Input::ProcessEnded(watch) => self.process_ended(watch, cx),
            Input::TunGone(port) => self.tun_gone(port),
            Input::View(view) => self.take_view(view),
            Input::Applied(have) => {
                self.applied = Some(have);
                self.stirred = true;
            }
            Input::Link(link) => self.take_link(link, cx),
            Input::HostsReleased => self.hosts_released(),
            Input::HostsMoved(file) => self.hosts_moved(file, cx),
            Input::Hearing(hears) => self.rounds.hearing(hears, now),
            Input::Changed(nsid) => self.changed(nsid, now),
            Input::ChangesLost => self.rounds.lost(now),
            Input::Done(op, outcome) => self.done(op, outcome, cx),
            Input::Saved(save) => {
                self.saved = self.saved.max(save);
                self.stirred = true;
            }
        }
        self.go_on(cx);
    }

    /// What a stream that begins tells the coordinator. What it does not name has ended.
    pub fn hello(&mut self) -> Vec<Held> {
        self.departed.iter_mut().for_each(|departed| departed.told = true);
        self.spaces.values().flat_map(Space::held).collect()
    }

    /// What the next agent needs.
    #[must_use]
    pub fn remembered(&self) -> Remembered {
        let mut remembered = Remembered::nothing(self.boot.clone());
        let attachments = self.spaces.values().filter_map(Space::remembered);
        remembered.attachments =
            attachments.map(|(attachment, ending)| Attachment { ending, ..attachment.clone() }).collect();
        remembered.attachments.sort_by_key(|attachment| attachment.instance);
        remembered.ended = self.departed.iter().map(|departed| departed.held.clone()).collect();
        remembered.containers = self.containers.remembered();
        remembered.hosts_left = self.hosts_left();
        remembered
    }

    /// The instances, by identifier, without those that are being made or taken out.
    #[must_use]
    pub fn list(&self) -> Vec<Shown> {
        let mut all: Vec<Shown> = self.spaces.values().filter_map(Space::listed).collect();
        all.sort_by_key(|shown| shown.attachment.instance);
        all
    }

    /// The namespace of an instance.
    #[must_use]
    pub fn namespace_of(&self, instance: InstanceId) -> Option<NamespaceId> {
        self.space_of(instance)
    }

    /// The containers that hold instances.
    #[must_use]
    pub fn containers(&self) -> Vec<ContainerId> {
        self.containers.holding.keys().cloned().collect()
    }

    /// The containers that hold the instance of a namespace.
    #[must_use]
    pub fn holding(&self, namespace: NamespaceId) -> Vec<ContainerId> {
        self.containers.of(namespace)
    }

    /// The containers that run without the mesh though they ask for it.
    #[must_use]
    pub const fn waiting(&self) -> &BTreeMap<ContainerId, Refusal> {
        &self.containers.waiting
    }

    fn done(&mut self, op: OpId, outcome: Outcome, cx: &mut Context<'_>) {
        match self.end_op(op) {
            Some(Owner::Space(namespace)) => {
                let Some(space) = self.spaces.get_mut(&namespace) else { return };
                match std::mem::take(&mut space.state) {
                    State::Free => {}
                    State::TakingUp(attachment) => self.looked_for(*attachment, outcome, cx),
                    State::Attaching(attaching) => self.attaching_done(namespace, *attaching, op, outcome, cx),
                    State::Standing(standing) => self.standing_done(namespace, *standing, op, outcome, cx),
                    State::Ending(ending) => self.ending_done(namespace, *ending, op, outcome, cx),
                }
            }
            Some(Owner::Settling(call)) => self.settled(call, outcome, cx),
            Some(Owner::Seek(namespace, place)) => self.seek_done(namespace, place, op, outcome, cx),
            Some(Owner::Container(id, run)) => self.container_found(&id, run, &outcome, cx),
            Some(Owner::Clear(left)) => self.cleared(left.place, outcome, cx),
            Some(Owner::Departed(instance)) if self.told_of_end(instance, &outcome) => {
                self.save(cx);
            }
            Some(Owner::Departed(_)) | None => {}
        }
    }

    /// Begins what can begin, until nothing can.
    pub(crate) fn go_on(&mut self, cx: &mut Context<'_>) {
        loop {
            if std::mem::take(&mut self.stirred) {
                self.prune(cx);
                // Of thousands at most a few wait for something.
                let waiting = self.spaces.iter().filter(|(_, space)| space.waits());
                let waiting: Vec<NamespaceId> = waiting.map(|(namespace, _)| *namespace).collect();
                waiting.into_iter().for_each(|namespace| self.advance(namespace, cx));
                self.advance_settling(cx);
            } else if let Some(namespace) = self.ready.pop_front() {
                self.begin_next(namespace, cx);
            } else if !self.advance_start(cx) && !self.advance_clearing(cx) {
                return;
            }
        }
    }

    /// Goes on in a namespace if what it waits for has come.
    fn advance(&mut self, namespace: NamespaceId, cx: &mut Context<'_>) {
        let Some(space) = self.spaces.get_mut(&namespace) else { return };
        match std::mem::take(&mut space.state) {
            State::Free => {}
            taking @ State::TakingUp(_) => space.state = taking,
            State::Attaching(attaching) => self.advance_attaching(namespace, *attaching, cx),
            State::Standing(standing) => self.advance_standing(namespace, *standing, cx),
            State::Ending(ending) => self.advance_ending(namespace, *ending, cx),
        }
    }

    fn begin_next(&mut self, namespace: NamespaceId, cx: &mut Context<'_>) {
        let Some(space) = self.spaces.get_mut(&namespace).filter(|space| space.is_at_rest()) else { return };
        match space.jobs.pop_front() {
            Some(job) => {
                self.ready.push_back(namespace);
                self.begin(namespace, job, cx);
            }
            None if matches!(space.state, State::Free) => drop(self.spaces.remove(&namespace)),
            None => self.mend_if_due(namespace, cx),
        }
    }

    fn begin(&mut self, namespace: NamespaceId, job: Job, cx: &mut Context<'_>) {
        match job {
            Job::Attach(attach) => self.begin_attach(namespace, *attach, cx),
            Job::Detach(call, instance) => self.begin_detach(namespace, call, instance, cx),
            Job::DetachForAll => self.begin_detach_for_all(namespace, cx),
            Job::SetDraining(call, instance, draining) => self.begin_draining(namespace, call, instance, draining, cx),
            Job::ProcessEnded(watch) => self.begin_process_end(namespace, watch, cx),
            Job::TunGone(port) => self.begin_tun_end(namespace, port, cx),
            Job::LetGo { container, run, caller } => self.begin_letting_go(namespace, container, run, caller, cx),
            Job::Reconcile => self.begin_reconcile(namespace, cx),
            Job::KeepOpened(place, opened) => self.begin_keeping(namespace, place, opened, cx),
        }
    }
}
