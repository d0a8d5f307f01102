//! The whole of it: who is asked what, and what is at rest may begin.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Instant,
};

use mesh_proto::{
    InstanceId, View,
    message::{Ask, Have, Held},
};

use crate::{
    CallId, ContainerId, Effect, HostsLeft, HostsPlace, Input, KernelStep, Link, NamespaceId, OpId, Outcome,
    Remembered, SaveId, Shown, WatchId,
    clear::Clearing,
    containers::Containers,
    hosts::Seek,
    recover::Starting,
    settle::Settling,
    space::{Job, Space, State},
    timers::Rounds,
};

/// The instances and containers of a runner.
#[derive(Debug)]
pub struct Lifecycle {
    boot: String,
    pub(crate) spaces: BTreeMap<NamespaceId, Space>,
    pub(crate) departed: Vec<Departed>,
    pub(crate) containers: Containers,
    pub(crate) settling: BTreeMap<CallId, Settling>,
    pub(crate) clearing: Clearing,
    pub(crate) seeks: BTreeMap<(NamespaceId, HostsPlace), Seek>,
    pub(crate) starting: Starting,
    pub(crate) rounds: Rounds,
    pub(crate) view: Option<Arc<View>>,
    pub(crate) applied: Option<Have>,
    pub(crate) link: Link,
    pub(crate) hung: BTreeSet<CallId>,
    /// Processes that ended before what they are watched for was there.
    pub(crate) ended_processes: BTreeSet<WatchId>,
    ops: BTreeMap<OpId, Owner>,
    next_op: u64,
    asked_save: SaveId,
    pub(crate) saved: SaveId,
    /// Namespaces that may be at rest.
    ready: VecDeque<NamespaceId>,
    /// Something has changed that a state may wait for.
    pub(crate) stirred: bool,
}

/// An instance whose end the coordinator does not know yet. While it is away, the next instance of the service may take it over.
#[derive(Debug, Clone)]
pub(crate) struct Departed {
    pub(crate) held: Held,
    /// A stream has begun since, which did not name it.
    pub(crate) told: bool,
}

/// Whose an effect is.
#[derive(Debug, Clone)]
pub(crate) enum Owner {
    Space(NamespaceId),
    Settling(CallId),
    Seek(NamespaceId, HostsPlace),
    Container(ContainerId),
    /// A hosts file is cleared, and nothing waits for it.
    Clear(HostsLeft),
    /// The coordinator is told of the end of an instance that never came into its namespace.
    Departed(InstanceId),
}

/// The present, and where effects go.
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    pub(crate) out: &'a mut Vec<Effect>,
}

impl Context<'_> {
    pub(crate) fn push(&mut self, effect: Effect) {
        self.out.push(effect);
    }
}

impl Lifecycle {
    /// Of an agent that finds this of the one before; [`Input::Start`] takes it up. `hears`: changes in namespaces can be heard.
    #[must_use]
    pub fn new(remembered: Remembered, now: Instant) -> Self {
        Self {
            boot: remembered.boot.clone(),
            spaces: BTreeMap::new(),
            departed: vec![],
            containers: Containers::default(),
            settling: BTreeMap::new(),
            clearing: Clearing::default(),
            seeks: BTreeMap::new(),
            starting: Starting::Remembering(Box::new(remembered)),
            rounds: Rounds::new(now),
            view: None,
            applied: None,
            link: Link::default(),
            hung: BTreeSet::new(),
            ended_processes: BTreeSet::new(),
            ops: BTreeMap::new(),
            next_op: 0,
            asked_save: SaveId(0),
            saved: SaveId(0),
            ready: VecDeque::new(),
            stirred: false,
        }
    }

    /// Takes in what has happened. What is to be done is added to `out`.
    pub fn handle(&mut self, input: Input, now: Instant, out: &mut Vec<Effect>) {
        let cx = &mut Context { now, out };
        match input {
            Input::Start(call) => self.start(call, cx),
            Input::Attach(call, request) => self.attach(call, *request, cx),
            Input::Detach(call, instance) => self.detach(call, instance, cx),
            Input::DetachNamespace(call, namespace) => self.detach_namespace(call, namespace, cx),
            Input::DetachContainer(call, id) => self.container_job(&id, crate::containers::IdJob::Detach(call), cx),
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

    /// What a stream that begins is told. By what it doesn't hold the coordinator learns what has ended.
    pub fn hello(&mut self) -> Vec<Held> {
        self.departed.iter_mut().for_each(|departed| departed.told = true);
        self.spaces.values().flat_map(Space::held).collect()
    }

    /// What the next agent would need.
    #[must_use]
    pub fn remembered(&self) -> Remembered {
        let mut remembered = Remembered::nothing(self.boot.clone());
        remembered.attachments = self.spaces.values().filter_map(Space::remembered).collect();
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

    /// Whether the file holds what is remembered.
    #[must_use]
    pub fn is_saved(&self) -> bool {
        self.saved == self.asked_save
    }

    pub(crate) fn space_of(&self, instance: InstanceId) -> Option<NamespaceId> {
        let is_it = |space: &Space| space.attachment().is_some_and(|attachment| attachment.instance == instance);
        self.spaces.iter().find(|(_, space)| is_it(space)).map(|(namespace, _)| *namespace)
    }

    /// Whether an instance is in a namespace, or remembered to be.
    pub(crate) fn holds(&self, namespace: NamespaceId) -> bool {
        self.spaces.get(&namespace).is_some_and(|space| space.attachment().is_some())
    }

    /// The hosts files that are being cleared while nothing waits for it.
    pub(crate) fn clearings(&self) -> impl Iterator<Item = HostsLeft> {
        let in_spaces = self.spaces.values().flat_map(Space::clearings);
        let others = self.ops.values().filter_map(|owner| match owner {
            Owner::Clear(left) => Some(left.clone()),
            _ => None,
        });
        in_spaces.chain(others)
    }

    pub(crate) fn op(&mut self, owner: Owner) -> OpId {
        self.next_op += 1;
        let op = OpId(self.next_op);
        self.ops.insert(op, owner);
        op
    }

    /// Has something done in the kernel for a namespace.
    pub(crate) fn kernel(&mut self, namespace: NamespaceId, step: KernelStep, cx: &mut Context<'_>) -> OpId {
        let op = self.op(Owner::Space(namespace));
        cx.push(Effect::Kernel(op, step));
        op
    }

    /// Asks the coordinator for a namespace.
    pub(crate) fn ask(&mut self, namespace: NamespaceId, ask: Ask, cx: &mut Context<'_>) -> OpId {
        let op = self.op(Owner::Space(namespace));
        cx.push(Effect::Ask(op, ask));
        op
    }

    /// Has all remembered as it is now.
    pub(crate) fn save(&mut self, cx: &mut Context<'_>) -> SaveId {
        self.asked_save.0 += 1;
        cx.push(Effect::Save(self.asked_save, Box::new(self.remembered())));
        self.asked_save
    }

    pub(crate) fn reply(&mut self, call: CallId, reply: Result<crate::Reply, crate::Error>, cx: &mut Context<'_>) {
        self.hung.remove(&call);
        cx.push(Effect::Reply(call, reply));
    }

    /// A change of this namespace waits for its turn.
    pub(crate) fn queue(&mut self, namespace: NamespaceId, job: Job) {
        self.spaces.entry(namespace).or_default().jobs.push_back(job);
        self.ready.push_back(namespace);
    }

    pub(crate) fn put(&mut self, namespace: NamespaceId, state: State) {
        self.spaces.entry(namespace).or_default().state = state;
        self.ready.push_back(namespace);
    }

    fn done(&mut self, op: OpId, outcome: Outcome, cx: &mut Context<'_>) {
        match self.ops.remove(&op) {
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
            Some(Owner::Container(id)) => self.container_found(id, outcome, cx),
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
                let all: Vec<NamespaceId> = self.spaces.keys().copied().collect();
                all.into_iter().for_each(|namespace| self.advance(namespace, cx));
                self.advance_settling(cx);
            } else if let Some(namespace) = self.ready.pop_front() {
                self.begin_next(namespace, cx);
            } else if !self.advance_start(cx) && !self.advance_clearing(cx) {
                return;
            }
        }
    }

    /// Looks whether what a namespace waits for has come.
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
