//! Everything, its clock, and how effects are done.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use mesh_lifecycle::{
    AskError, CallId, Effect, Farewell, HostsSource, Input, KernelStep, Lifecycle, Link, Look, NamespacePlace, Notice,
    Nsid, OpId, Opened, Outcome, Port, Remembered, Reply, SaveId, TakenUp, WatchId,
};
use mesh_proto::{
    InstanceId, Revision, ServicePath, View,
    message::{Answer, Ask, Have, Refusal},
};

use super::{
    Bug,
    coordinator::{Coordinator, Presence},
    machine::{Generation, Machine, Mesh0},
};
use crate::{Failure, rng::Rng};

pub(super) const BOOT: &str = "boot";

/// What has been done.
#[derive(Debug, Default, Clone, Copy)]
pub struct Count {
    /// Requests, ends and other events.
    pub operations: u64,
    /// Effects.
    pub effects: u64,
    /// How many times the agent was killed.
    pub kills: u64,
}

/// What is on its way.
#[derive(Debug)]
pub(super) enum Event {
    Input(Input),
    Kernel(OpId, KernelStep),
    Ask(OpId, Ask),
    Disk(SaveId, Box<Remembered>),
    /// The view of a stream.
    View(u64, Arc<View>),
    Written(OpId, u64),
    Cleared(OpId, u64),
    Silence(u64),
    /// The agent has started, and a stream may begin.
    Started,
}

/// What is expected of a namespace when all is calm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Must {
    Stand,
    Gone,
    Either,
}

/// What is known of a call that waits.
#[derive(Debug, Clone)]
pub(super) struct Issued {
    /// The namespaces that it concerns, with how often each was touched then.
    pub(super) concerns: Vec<(Generation, u64)>,
    pub(super) hung: bool,
}

pub(super) struct Life {
    pub(super) rng: Rng,
    pub(super) bug: Option<Bug>,
    start: Instant,
    pub(super) now: Duration,
    pub(super) core: Lifecycle,
    pub(super) machine: Machine,
    pub(super) coordinator: Coordinator,
    pub(super) events: BTreeMap<(Duration, u64), Event>,
    pub(super) calls: BTreeMap<CallId, Issued>,
    pub(super) must: BTreeMap<Generation, Must>,
    pub(super) touched: BTreeMap<Generation, u64>,
    /// Generations that were attached without a container, or whose container may have ended unheard.
    pub(super) plain: BTreeSet<Generation>,
    /// Running containers: where, and by which process.
    pub(super) containers: BTreeMap<String, (Generation, Option<i32>)>,
    /// The agent has taken up what there was.
    pub(super) started: bool,
    /// The coordinator is there, and the agent is not yet.
    waits_for_start: bool,
    /// What was last asked for by a caller about each instance's drain, and answered.
    pub(super) told_draining: BTreeMap<InstanceId, (CallId, Option<bool>)>,
    /// Calls whose callers have hung up.
    pub(super) hung: BTreeSet<CallId>,
    /// Namespaces in which a process is left behind a container.
    pub(super) must_be_barred: BTreeMap<Generation, bool>,
    watched: BTreeMap<WatchId, Generation>,
    /// Namespaces in which a process has ended that may be the one of an attachment on its way.
    pub(super) bereft: BTreeSet<Generation>,
    pub(super) trace: Vec<String>,
    pub(super) count: Count,
    /// The agent is killed after so many effects.
    pub(super) kill_at: Option<u64>,
    pub(super) wrong: Option<String>,
}

/// Lives through so many operations, with kills at random effects.
///
/// # Errors
/// The first thing that was not as it should be.
pub fn run(seed: u64, operations: u32, bug: Option<Bug>) -> Result<Count, Failure> {
    live(Life::new(seed, bug), operations, true)
}

/// The same without kills but one: after this many effects. `None`: the life had fewer.
///
/// # Errors
/// The first thing that was not as it should be.
pub fn run_and_kill(seed: u64, operations: u32, after: u64) -> Result<Option<Count>, Failure> {
    let mut life = Life::new(seed, None);
    life.kill_at = Some(after);
    let count = live(life, operations, false)?;
    Ok(Some(count).filter(|count| count.kills > 0))
}

fn live(mut life: Life, operations: u32, kills: bool) -> Result<Count, Failure> {
    let fail = |what: String, life: Life| Failure { what, trace: life.trace };
    life.boot();
    for n in 0..operations {
        if kills && life.rng.chance(4) {
            life.kill_at = Some(life.count.effects + life.rng.below(25));
        }
        life.operate();
        let pause = Duration::from_millis(life.rng.below(400));
        life.run_for(pause);
        if n % 40 == 39 || n + 1 == operations {
            life.calm();
        }
        if let Some(what) = life.wrong.take() {
            return Err(fail(what, life));
        }
    }
    Ok(life.count)
}

impl Life {
    fn new(seed: u64, bug: Option<Bug>) -> Self {
        let start = Instant::now();
        Self {
            rng: Rng::new(seed),
            bug,
            start,
            now: Duration::ZERO,
            core: Lifecycle::new(Remembered::nothing(BOOT.to_owned()), start),
            machine: Machine::default(),
            coordinator: Coordinator::new(),
            events: BTreeMap::new(),
            calls: BTreeMap::new(),
            must: BTreeMap::new(),
            touched: BTreeMap::new(),
            plain: BTreeSet::new(),
            containers: BTreeMap::new(),
            started: false,
            waits_for_start: true,
            told_draining: BTreeMap::new(),
            hung: BTreeSet::new(),
            must_be_barred: BTreeMap::new(),
            watched: BTreeMap::new(),
            bereft: BTreeSet::new(),
            trace: vec![],
            count: Count::default(),
            kill_at: None,
            wrong: None,
        }
    }

    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        let at = self.now.as_millis();
        self.trace.push(format!("{at}: {}", what()));
    }

    pub(super) fn fail(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    pub(super) fn after(&mut self, delay: Duration, event: Event) {
        let seq = self.machine.number();
        self.events.insert((self.now + delay, seq), event);
    }

    pub(super) fn soon(&mut self, most: u64, event: Event) {
        let delay = Duration::from_millis(1 + self.rng.below(most));
        self.after(delay, event);
    }

    // === The agent ===

    /// An agent starts, and takes up what is on the disk.
    pub(super) fn boot(&mut self) {
        let remembered = self.machine.disk.clone().unwrap_or_else(|| Remembered::nothing(BOOT.to_owned()));
        let text = remembered.attachments.iter().map(|a| (a.instance, a.namespace.ino, a.ending)).collect::<Vec<_>>();
        self.note(|| format!("an agent starts with {text:?}"));
        self.core = Lifecycle::new(remembered, self.start + self.now);
        if let Some(view) = Some(self.coordinator.view.clone()).filter(|_| self.count.kills > 0) {
            self.input(Input::View(Arc::new(view)));
        }
        self.input(Input::Hearing(true));
        let call = self.call(vec![]);
        self.input(Input::Start(call));
    }

    /// The agent is killed: what is under way ends somehow.
    fn kill(&mut self) {
        self.count.kills += 1;
        self.kill_at = None;
        self.note(|| "the agent is killed".to_owned());
        let mut disk_works = true;
        for event in std::mem::take(&mut self.events).into_values() {
            let done = self.rng.chance(50);
            match event {
                Event::Kernel(_, step) if done => drop(self.in_kernel(&step)),
                Event::Ask(_, ask) if done && self.coordinator.presence == Presence::There => {
                    let _ = self.coordinator.answer(&ask);
                }
                Event::Disk(_, remembered) => {
                    // One after the other.
                    disk_works &= done;
                    if disk_works {
                        self.machine.disk = Some(*remembered);
                    }
                }
                Event::Written(_, file) | Event::Cleared(_, file) if done => self.machine.write(file),
                _ => {}
            }
        }
        self.machine.agent_gone();
        self.started = false;
        self.waits_for_start |= !self.coordinator.presence.is_away();
        self.coordinator.presence = Presence::Away;
        self.hung.clear();
        for issued in std::mem::take(&mut self.calls).into_values() {
            for (generation, _) in issued.concerns {
                self.must.insert(generation, Must::Either);
            }
        }
        // Containers that had no answer are started again by their runtimes, or not: their ends must be noticed all the same.
        self.boot();
    }

    pub(super) fn call(&mut self, concerns: Vec<Generation>) -> CallId {
        let call = CallId(self.machine.number());
        let concerns = concerns.into_iter().map(|generation| (generation, self.touch(generation))).collect();
        self.calls.insert(call, Issued { concerns, hung: false });
        call
    }

    /// Something is about to change there.
    pub(super) fn touch(&mut self, generation: Generation) -> u64 {
        let touched = self.touched.entry(generation).or_default();
        *touched += 1;
        *touched
    }

    pub(super) fn input(&mut self, input: Input) {
        let mut out = vec![];
        self.core.handle(input, self.start + self.now, &mut out);
        self.perform(out);
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            self.count.effects += 1;
            if self.kill_at.is_some_and(|at| at <= self.count.effects) {
                return self.kill();
            }
            let kills = self.count.kills;
            self.execute(effect);
            if self.count.kills != kills {
                return;
            }
        }
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.wrong.is_none() {
            let timer = self.core.poll_timeout().map(|(at, _)| at.saturating_duration_since(self.start).max(self.now));
            let event = self.events.first_key_value().map(|(key, _)| key.0);
            let next = timer.into_iter().chain(event).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            match event.filter(|event| *event <= next) {
                Some(_) => {
                    let (_, event) = self.events.pop_first().expect("it was seen");
                    self.arrive(event);
                }
                None => {
                    let mut out = vec![];
                    self.core.handle_timeout(self.start + self.now, &mut out);
                    self.perform(out);
                }
            }
        }
        self.now = end;
    }

    // === The coordinator ===

    pub(super) fn connect(&mut self) {
        if !self.started {
            self.waits_for_start = true;
            return;
        }
        self.coordinator.stream += 1;
        self.coordinator.presence = Presence::There;
        let held = self.core.hello();
        self.note(|| format!("the coordinator is there, and hears of {held:?}"));
        self.coordinator.hello(&held);
        self.input(Input::Link(Link { connected: true, ..Link::default() }));
        self.view_arrives(&Arc::new(self.coordinator.view.clone()));
        self.input(Input::Link(Link { connected: true, synced: true, unknown: false }));
    }

    pub(super) fn disconnect(&mut self) {
        self.note(|| "the coordinator is away".to_owned());
        self.coordinator.presence = Presence::Away;
        self.stream_ends(Link::default());
    }

    /// The coordinator refuses this runner from now on.
    pub(super) fn refuse(&mut self) {
        self.note(|| "the coordinator refuses this runner".to_owned());
        self.coordinator.presence = Presence::Refusing;
        self.stream_ends(Link { unknown: self.bug != Some(Bug::RefusalUnheard), ..Link::default() });
    }

    fn stream_ends(&mut self, link: Link) {
        self.input(Input::Link(link));
        let lost: Vec<_> =
            self.events.iter().filter(|(_, e)| matches!(e, Event::Ask(..))).map(|(key, _)| *key).collect();
        for key in lost {
            let Some(Event::Ask(op, ask)) = self.events.remove(&key) else { continue };
            if self.rng.chance(50) {
                let _ = self.coordinator.answer(&ask);
            }
            self.soon(20, Event::Input(Input::Done(op, Outcome::Answered(Err(away())))));
        }
    }

    /// Sends the agent the view. Answers overtake views, and views don't overtake each other.
    pub(super) fn publish(&mut self) {
        if self.coordinator.presence.is_away() {
            return;
        }
        let sent = self.events.iter().filter(|(_, event)| matches!(event, Event::View(..))).map(|(key, _)| key.0);
        let from = sent.max().unwrap_or(self.now) - self.now;
        let delay = from + Duration::from_millis(self.rng.below(150));
        let view = Arc::new(self.coordinator.view.clone());
        self.after(delay, Event::View(self.coordinator.stream, view));
    }

    /// A view is there, and comes into force.
    fn view_arrives(&mut self, view: &Arc<View>) {
        let have = Have { epoch: view.epoch, revision: view.revision };
        self.input(Input::View(Arc::clone(view)));
        self.soon(60, Event::Input(Input::Applied(have)));
    }

    fn arrive(&mut self, event: Event) {
        match event {
            Event::Input(input) => {
                if let Input::ProcessEnded(watch) = input
                    && let Some(generation) = self.watched.remove(&watch)
                {
                    // What was promised meanwhile was promised before this was heard.
                    self.touch(generation);
                    self.must.entry(generation).and_modify(|must| {
                        *must = if *must == Must::Stand { Must::Either } else { *must };
                    });
                }
                self.input(input);
            }
            Event::Kernel(op, step) => {
                let outcome = self.in_kernel(&step);
                self.input(Input::Done(op, outcome));
            }
            Event::Ask(op, ask) => match self.coordinator.presence {
                Presence::There => {
                    let told = self.answer(&ask);
                    self.publish();
                    self.input(Input::Done(op, Outcome::Answered(told.map_err(AskError::Refused))));
                }
                // Until the stream breaks.
                Presence::Silent => self.soon(500, Event::Ask(op, ask)),
                Presence::Away | Presence::Refusing => {
                    self.input(Input::Done(op, Outcome::Answered(Err(away()))));
                }
            },
            Event::View(stream, view) if stream == self.coordinator.stream && !self.coordinator.presence.is_away() => {
                self.view_arrives(&view);
            }
            Event::View(..) => {}
            Event::Disk(save, remembered) => {
                if !(self.bug == Some(Bug::SaveLost) && self.rng.chance(25)) {
                    let mut remembered = *remembered;
                    if self.bug == Some(Bug::ContainersForgotten) {
                        remembered.containers.clear();
                    }
                    self.machine.disk = Some(remembered);
                }
                self.input(Input::Saved(save));
            }
            Event::Written(op, file) => {
                self.machine.write(file);
                if op != OpId(0) {
                    self.input(Input::Done(op, Outcome::Did(Ok(()))));
                }
            }
            Event::Cleared(op, file) => {
                if self.bug != Some(Bug::ClearLost) {
                    self.machine.write(file);
                }
                let is_free = self.machine.let_go(file);
                self.input(Input::Done(op, Outcome::Did(Ok(()))));
                if is_free {
                    self.input(Input::HostsReleased);
                }
            }
            Event::Silence(stream) if stream == self.coordinator.stream => self.disconnect(),
            Event::Silence(_) => {}
            Event::Started => {
                self.started = true;
                if std::mem::take(&mut self.waits_for_start) {
                    self.connect();
                }
            }
        }
    }

    fn answer(&mut self, ask: &Ask) -> Result<Answer, Refusal> {
        if self.bug == Some(Bug::EndUntold) && matches!(ask, Ask::Detach { .. }) {
            return Ok(Answer::Detached { revision: self.coordinator.view.revision });
        }
        let answer = self.coordinator.answer(ask);
        match answer {
            Ok(Answer::Drained { .. }) if self.bug == Some(Bug::RevisionLost) => {
                Ok(Answer::Drained { revision: Revision(0) })
            }
            other => other,
        }
    }

    // === Effects ===

    fn execute(&mut self, effect: Effect) {
        match effect {
            Effect::Reply(call, result) => self.replied(call, result.map_err(|error| error.to_string())),
            Effect::Close(call) => self.close(call),
            Effect::Save(save, remembered) => {
                // One after the other.
                let busy =
                    self.events.iter().filter(|(_, event)| matches!(event, Event::Disk(..))).map(|(key, _)| key.0);
                let from = busy.max().unwrap_or(self.now) - self.now;
                let delay = from + Duration::from_millis(1 + self.rng.below(10));
                self.after(delay, Event::Disk(save, remembered));
            }
            Effect::Log(notice) => {
                self.check_notice(&notice);
                self.note(|| format!("{notice:?}"));
            }
            Effect::Ask(op, ask) => match self.coordinator.presence {
                Presence::Away | Presence::Refusing => {
                    self.soon(2, Event::Input(Input::Done(op, Outcome::Answered(Err(away())))))
                }
                _ => self.soon(30, Event::Ask(op, ask)),
            },
            Effect::HurryStream | Effect::Departed(_) => {}
            Effect::Unwatch(watch) => drop(self.machine.watches.remove(&watch)),
            Effect::StopServing(port) => {
                for ns in self.machine.namespaces.values_mut() {
                    if let Some(mesh0) =
                        ns.mesh0.as_mut().filter(|mesh0| mesh0.served.is_some_and(|(at, _)| at == port))
                    {
                        (mesh0.served, mesh0.holds) = (None, false);
                    }
                }
                self.collect_all();
            }
            Effect::Serve(op, namespace, instance) => {
                let port = Port(self.machine.number() as u32);
                let generation = self.machine.by_id(namespace);
                self.serve(generation, port, instance);
                self.input(Input::Done(op, Outcome::Serving(port)));
            }
            Effect::Kernel(op, step) => {
                self.check_step(&step);
                self.soon(25, Event::Kernel(op, step));
            }
            Effect::KeepHosts(op, source, service) => {
                let file = match source {
                    HostsSource::Call(call) => self.machine.opened.get(&OpId(call.0)).copied(),
                    HostsSource::Opened(opened) => self.machine.opened.remove(&opened),
                };
                let Some(file) = file else { return self.fail(format!("{source:?} is not open")) };
                let answer = self.machine.keep(op, file, &service, self.bug == Some(Bug::HostsShared));
                self.input(Input::Done(op, Outcome::Hosts(answer)));
            }
            Effect::PutNames(op, handle, _) => self.put_names(op, handle),
            Effect::RenewNames(handle, _, _) => self.put_names(OpId(0), handle),
            Effect::ClearNames(op, handle) => {
                let Some(file) = self.machine.handles.remove(&handle) else {
                    return self.fail(format!("{handle:?} is cleared and not open"));
                };
                self.machine.wanted.insert(file, None);
                self.soon(30, Event::Cleared(op, file));
            }
            Effect::CloseHosts(handle) => {
                let Some(file) = self.machine.handles.remove(&handle) else {
                    return self.fail(format!("{handle:?} is closed twice"));
                };
                if self.machine.let_go(file) {
                    self.input(Input::HostsReleased);
                }
            }
            Effect::OpenHosts(op, place, namespace) => {
                let is_there = |pid: i32| {
                    let at = self.machine.processes.get(&pid);
                    at.is_some_and(|at| self.machine.namespaces[at].id == namespace.ino)
                };
                let opened = match place.pid() {
                    Some(pid) if !is_there(pid) => Opened::Gone,
                    _ if self.rng.chance(15) => Opened::Leased,
                    _ => {
                        let file = self.machine.file_at(&place);
                        self.machine.opened.insert(op, file);
                        Opened::Open
                    }
                };
                self.soon(20, Event::Input(Input::Done(op, Outcome::Opened(opened))));
            }
            Effect::CloseOpened(op) => drop(self.machine.opened.remove(&op)),
            Effect::CompareHosts(op, place, handle) => {
                let now = self.machine.file_at(&place);
                let moved = self.machine.handles.get(&handle).map(|file| *file != now);
                self.soon(20, Event::Input(Input::Done(op, Outcome::Moved(moved))));
            }
        }
    }

    fn put_names(&mut self, op: OpId, handle: OpId) {
        let Some(file) = self.machine.handles.get(&handle).copied() else {
            return self.fail(format!("{handle:?} is written to and not open"));
        };
        let service: Option<ServicePath> = self.machine.kept.get(&file).map(|(service, _)| service.clone());
        self.machine.wanted.insert(file, service);
        self.soon(30, Event::Written(op, file));
    }

    fn close(&mut self, call: CallId) {
        self.machine.opened.remove(&OpId(call.0));
        let generation = self.machine.of_call(call);
        if let Some(ns) = generation.and_then(|generation| self.machine.namespaces.get_mut(&generation)) {
            ns.open.remove(&call);
        }
        self.collect_all();
    }

    pub(super) fn collect_all(&mut self) {
        let all: Vec<Generation> = self.machine.namespaces.keys().copied().collect();
        for generation in all {
            if let Some(port) = self.machine.collect(generation)
                && self.bug != Some(Bug::TunGoneLost)
            {
                self.soon(100, Event::Input(Input::TunGone(port)));
            }
        }
    }

    /// *One place*: an instance is served once, and only where it was made.
    fn serve(&mut self, generation: Option<Generation>, port: Port, instance: InstanceId) {
        let all = self.machine.namespaces.values();
        let served = all.filter_map(|ns| ns.mesh0.as_ref()?.served).any(|(_, other)| other == instance);
        if served {
            self.fail(format!("{instance} is served twice"));
        }
        let mesh0 = generation.and_then(|generation| self.machine.namespaces.get_mut(&generation)?.mesh0.as_mut());
        match mesh0 {
            Some(mesh0) if mesh0.served.is_some() => self.fail(format!("a TUN is served for {instance} and another")),
            Some(mesh0) => mesh0.served = Some((port, instance)),
            // It has gone just now.
            None => self.soon(50, Event::Input(Input::TunGone(port))),
        }
    }

    /// *Remembered first*: what is made is on the disk.
    fn check_step(&mut self, step: &KernelStep) {
        if let KernelStep::Create(_, attachment) = step {
            let disk = self.machine.disk.iter().flat_map(|disk| &disk.attachments);
            let is_there =
                disk.clone().any(|there| there.instance == attachment.instance && there.mark == attachment.mark);
            if !is_there {
                self.fail(format!("{} is made and not remembered", attachment.instance));
            }
        }
    }

    /// *No relapse*: what a caller was told of a drain stands until another one decides. *One owner*: what a coordinator that refuses this
    /// runner gave is another machine's.
    fn check_notice(&mut self, notice: &Notice) {
        match notice {
            Notice::DrainLearned { instance, draining, .. } => {
                let told = self.told_draining.get(instance).and_then(|(_, told)| *told);
                if told.is_some_and(|told| told != *draining) {
                    self.fail(format!("an earlier view has turned the drain of {instance} back"));
                }
            }
            Notice::TakingOver { instance, .. } if self.coordinator.presence == Presence::Refusing => {
                self.fail(format!("{instance} is taken over from a coordinator that refuses this runner"));
            }
            _ => {}
        }
    }

    fn in_kernel(&mut self, step: &KernelStep) -> Outcome {
        let did = |result: Result<(), String>| Outcome::Did(result.map_err(Refusal::bare));
        let any = self.bug == Some(Bug::MarkIgnored);
        match step {
            KernelStep::Holds(call, mark) => {
                let ns = self.machine.of_call(*call).and_then(|generation| self.machine.namespaces.get(&generation));
                let mesh0 = ns.and_then(|ns| ns.mesh0.as_ref());
                Outcome::Is(any || mesh0.is_some_and(|mesh0| mark.is_none() || mesh0.mark == *mark))
            }
            KernelStep::FindClash(..) => did(if self.rng.chance(3) { Err("a clash".to_owned()) } else { Ok(()) }),
            KernelStep::Prepare(call, at) => did(self.prepare(*call, *at)),
            KernelStep::Discard(call) => {
                let generation = self.machine.of_call(*call).filter(|_| self.bug != Some(Bug::DiscardLost));
                if let Some(ns) = generation.and_then(|generation| self.machine.namespaces.get_mut(&generation)) {
                    ns.mesh0 = ns.mesh0.take().filter(|mesh0| !mesh0.prepared);
                }
                did(Ok(()))
            }
            KernelStep::Create(call, attachment) => {
                let fails = self.rng.chance(3);
                let Some(generation) = self.machine.of_call(*call) else { return did(Err("not open".to_owned())) };
                match fails {
                    true => {
                        self.machine.remove(generation, Farewell::Barred);
                        did(Err("no room".to_owned()))
                    }
                    false => {
                        self.must_be_barred.remove(&generation);
                        did(self.machine.create(generation, attachment))
                    }
                }
            }
            KernelStep::Replace(attachment) | KernelStep::Readdress { attachment, .. } => {
                let generation = self.machine.by_id(attachment.namespace);
                let ns = generation.and_then(|generation| self.machine.namespaces.get_mut(&generation));
                match ns.and_then(|ns| ns.mesh0.as_mut()) {
                    Some(mesh0) => {
                        mesh0.addresses = Some((attachment.address, attachment.service_address));
                        did(Ok(()))
                    }
                    None => did(Err("its namespace is gone".to_owned())),
                }
            }
            KernelStep::EndConnections(_) => did(Ok(())),
            KernelStep::Remove(attachment, farewell) => {
                let asked = *farewell;
                let farewell = if self.bug == Some(Bug::BarForgotten) { Farewell::Restored } else { *farewell };
                if let Some(generation) = self.machine.by_id(attachment.namespace) {
                    let was_there = self.machine.namespaces[&generation].mesh0.is_some();
                    self.machine.remove(generation, farewell);
                    if was_there {
                        self.must_be_barred.insert(generation, asked == Farewell::Barred);
                    }
                }
                self.collect_all();
                did(Ok(()))
            }
            KernelStep::TakeUp(attachment) => self.take_up(attachment, any),
            KernelStep::IsInhabited(namespace) => {
                Outcome::Is(self.machine.by_id(*namespace).is_some_and(|generation| self.machine.inhabited(generation)))
            }
            KernelStep::WatchProcess(pid, namespace) => {
                let at = self.machine.processes.get(pid).copied();
                let is_there = at.is_some_and(|at| self.machine.namespaces[&at].id == namespace.ino);
                Outcome::Watching(is_there.then(|| self.watch(*pid)))
            }
            KernelStep::Mend(attachment, _) => {
                let found = self.machine.by_id(attachment.namespace);
                let mended = if self.rng.chance(10) { vec!["routes"] } else { vec![] };
                Outcome::Looked(
                    found.map(|generation| Look { nsid: Some(Nsid(generation as i32)), mended: Ok(mended) }),
                )
            }
        }
    }

    pub(super) fn watch(&mut self, pid: i32) -> WatchId {
        let watch = WatchId(self.machine.number());
        self.machine.watches.insert(watch, pid);
        self.watched.extend(self.machine.processes.get(&pid).map(|generation| (watch, *generation)));
        watch
    }

    fn prepare(&mut self, call: CallId, at: mesh_lifecycle::Birthplace) -> Result<(), String> {
        let fails = self.rng.chance(2);
        let generation = self.machine.of_call(call).ok_or("not open")?;
        let ns = self.machine.namespaces.get_mut(&generation).ok_or("no namespace")?;
        if ns.mesh0.is_some() {
            return Err("there is already a mesh0".to_owned());
        }
        if fails {
            return Err("no TUN".to_owned());
        }
        let holds = at == mesh_lifecycle::Birthplace::There;
        ns.mesh0 = Some(Mesh0 { mark: None, addresses: None, prepared: true, served: None, holds });
        Ok(())
    }

    fn take_up(&mut self, attachment: &mesh_lifecycle::Attachment, any: bool) -> Outcome {
        let gone = |why: &str| Outcome::TakenUp(Err(why.to_owned()));
        let Some(generation) = self.machine.by_id(attachment.namespace) else { return gone("its namespace is gone") };
        let mesh0 = self.machine.namespaces[&generation].mesh0.as_ref();
        if !(any || mesh0.is_some_and(|mesh0| attachment.mark.is_none() || mesh0.mark == attachment.mark)) {
            return gone("its mesh0 is not there");
        }
        let watch = match attachment.place {
            NamespacePlace::Path(_) => None,
            NamespacePlace::Process(pid) if self.machine.processes.get(&pid) == Some(&generation) => {
                Some(self.watch(pid))
            }
            NamespacePlace::Process(_) => {
                self.machine.remove(generation, Farewell::Restored);
                return gone("its process has ended");
            }
        };
        let port = Port(self.machine.number() as u32);
        if let Some(ns) = self.machine.namespaces.get_mut(&generation) {
            let mark = attachment.mark;
            ns.mesh0.get_or_insert(Mesh0 { mark, addresses: None, prepared: false, served: None, holds: false });
        }
        self.serve(Some(generation), port, attachment.instance);
        Outcome::TakenUp(Ok(TakenUp { port, mark: attachment.mark, watch }))
    }

    /// *One answer*: each call gets one.
    fn replied(&mut self, call: CallId, result: Result<Reply, String>) {
        self.note(|| format!("{call:?} is answered {}", short(&result)));
        // An agent opens its stream when it has taken up what there was.
        if matches!(result, Ok(Reply::Started)) {
            self.soon(20, Event::Started);
        }
        if let Ok(Reply::DrainingSet(shown, _)) = &result
            && let Some((asked, told)) = self.told_draining.get_mut(&shown.attachment.instance)
            && *asked == call
        {
            *told = Some(shown.attachment.draining);
        }
        let Some(issued) = self.calls.remove(&call) else {
            if self.hung.remove(&call) {
                return;
            }
            return self.fail(format!("{call:?} was not waiting for an answer"));
        };
        for (generation, touched) in issued.concerns {
            let must = match &result {
                Ok(_) if self.touched.get(&generation) != Some(&touched) => Must::Either,
                Ok(Reply::Attached(..)) if self.bereft.contains(&generation) => Must::Either,
                Ok(Reply::Attached(..)) => Must::Stand,
                Ok(Reply::Detached(_) | Reply::AllDetached(_)) => Must::Gone,
                _ => continue,
            };
            if self.machine.namespaces.get(&generation).is_some_and(|ns| ns.alive) {
                self.must.insert(generation, must);
            }
        }
    }
}

fn short(result: &Result<Reply, String>) -> String {
    match result {
        Ok(Reply::Attached(shown, _)) => format!("attached {}", shown.attachment.instance),
        Ok(Reply::Detached(shown)) => format!("detached {}", shown.attachment.instance),
        Ok(Reply::ContainerDetached(shown)) => format!("let go {:?}", shown.as_ref().map(|s| s.attachment.instance)),
        Ok(other) => format!("{:.20}", format!("{other:?}")),
        Err(why) => why.clone(),
    }
}

fn away() -> AskError {
    AskError::Away(Refusal::bare("the coordinator is away"))
}
