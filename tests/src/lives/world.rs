//! Everything, its clock, and how effects are done.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use mesh_lifecycle::{CallId, Effect, Input, KernelStep, Lifecycle, OpId, Remembered, SaveId, WatchId};
use mesh_proto::{InstanceId, View, message::Ask};

use super::{
    Bug,
    coordinator::Coordinator,
    machine::{Generation, Machine},
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
    pub(super) start: Instant,
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
    pub(super) waits_for_start: bool,
    /// What was last asked for by a caller about each instance's drain, and answered.
    pub(super) told_draining: BTreeMap<InstanceId, (CallId, Option<bool>)>,
    /// Calls whose callers have hung up.
    pub(super) hung: BTreeSet<CallId>,
    /// Namespaces in which a process is left behind a container.
    pub(super) must_be_barred: BTreeMap<Generation, bool>,
    pub(super) watched: BTreeMap<WatchId, Generation>,
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
    // What the file lacks shows at kills only.
    let often = matches!(life.bug, Some(Bug::SaveLost | Bug::ContainersForgotten | Bug::HostsLeftForgotten));
    for n in 0..operations {
        if kills && life.rng.chance(if often { 25 } else { 4 }) {
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
            // What could not be written is lost with the agent: that is no promise.
            if self.kill_at.is_some_and(|at| at <= self.count.effects) && self.machine.unwritten.is_none() {
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

    fn arrive(&mut self, event: Event) {
        match event {
            Event::Input(input) => {
                if let Input::ProcessEnded(watch) = input {
                    self.end_is_heard(watch);
                }
                self.input(input);
            }
            Event::Kernel(op, step) => {
                let outcome = self.in_kernel(&step);
                self.input(Input::Done(op, outcome));
            }
            Event::Ask(op, ask) => self.asked(op, ask),
            Event::View(stream, view) if stream == self.coordinator.stream && !self.coordinator.presence.is_away() => {
                self.view_arrives(&view);
            }
            Event::View(..) => {}
            Event::Disk(save, remembered) => self.write_file(save, *remembered),
            Event::Written(op, file) => self.names_written(op, file),
            Event::Cleared(op, file) => self.names_cleared(op, file),
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

    /// What was promised meanwhile was promised before the end of the process was heard.
    fn end_is_heard(&mut self, watch: WatchId) {
        let Some(generation) = self.watched.remove(&watch) else { return };
        self.touch(generation);
        self.must.entry(generation).and_modify(|must| {
            *must = if *must == Must::Stand { Must::Either } else { *must };
        });
    }

    fn write_file(&mut self, save: SaveId, mut remembered: Remembered) {
        if self.bug == Some(Bug::ContainersForgotten) {
            remembered.containers.clear();
        }
        if self.bug == Some(Bug::HostsLeftForgotten) {
            remembered.hosts_left.clear();
        }
        if self.machine.disk_fails {
            self.machine.unwritten = Some(remembered);
        } else if !(self.bug == Some(Bug::SaveLost) && self.rng.chance(25)) {
            (self.machine.disk, self.machine.unwritten) = (Some(remembered), None);
        }
        self.input(Input::Saved(save));
    }
}
