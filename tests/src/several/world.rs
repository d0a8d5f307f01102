//! The world: etcd, the coordinators, the agents, the clients, and what is under way between them.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use mesh_proto::RunnerId;
use mesh_several::etcd::layout::Layout;

use super::{
    Bug, Tally,
    agents::Runner,
    clients::Order,
    etcd::Etcd,
    event::{Ask, Caller, Event, Input, Process},
    member::{Member, Pending},
    truth::{PREFIX, Truth},
};
use crate::{Failure, rng::Rng};

/// How often agents look whether their coordinators are there.
const AGENTS: Duration = Duration::from_millis(500);
/// How long a message to etcd or between machines is under way at least.
const LATENCY: Duration = Duration::from_millis(1);

/// Everything.
pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) bug: Option<Bug>,
    start: Instant,
    pub(super) now: Duration,
    events: BTreeMap<(Duration, u64), Event>,
    pub(super) scheduled: u64,
    pub(super) layout: Layout,
    pub(super) etcd: Etcd,
    /// Until when etcd has no quorum.
    pub(super) away_until: Duration,
    /// Writes that are under way to etcd from members that are cut off.
    pub(super) floating: Vec<(Caller, Ask)>,
    pub(super) truth: Truth,
    pub(super) members: Vec<Member>,
    pub(super) agents: BTreeMap<RunnerId, Runner>,
    pub(super) orders: BTreeMap<u64, Order>,
    /// Whether messages are lost and late.
    pub(super) calm: bool,
    pub(super) tally: Tally,
    trace: Vec<String>,
    wrong: Option<String>,
}

impl World {
    pub(super) fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut rng = Rng::new(seed);
        let members = (0..2 + rng.below(4)).map(|_| Member::new(rng.below(2000) as f64 - 1000.0)).collect();
        let (truth, etcd, runners) = Truth::first(&mut rng);
        let mut world = Self {
            rng: Rng::new(rng.next()),
            bug,
            start: Instant::now(),
            now: Duration::ZERO,
            events: BTreeMap::new(),
            scheduled: 0,
            layout: Layout::new(PREFIX),
            etcd,
            away_until: Duration::ZERO,
            floating: vec![],
            truth,
            members,
            agents: BTreeMap::new(),
            orders: BTreeMap::new(),
            calm: false,
            tally: Tally::default(),
            trace: vec![],
            wrong: None,
        };
        for runner in runners {
            world.join(runner);
        }
        for member in 0..world.members.len() {
            let pause = Duration::from_millis(world.rng.below(if member == 0 { 1 } else { 3000 }));
            world.after(pause, Event::Start(member));
        }
        world.after(AGENTS, Event::Agents);
        world
    }

    pub(super) fn note(&mut self, what: impl fmt::Display) {
        self.trace.push(format!("{:?} at {}: {what}", self.now, self.truth.state.revision()));
    }

    /// Something isn't as it should be.
    pub(super) fn wrong(&mut self, what: impl Into<String>) {
        let what = what.into();
        self.note(&what);
        self.wrong.get_or_insert(what);
    }

    fn check(&mut self) -> Result<(), Failure> {
        match self.wrong.take() {
            Some(what) => Err(Failure { what, trace: std::mem::take(&mut self.trace) }),
            None => Ok(()),
        }
    }

    /// The time by the clock of all timers.
    pub(super) fn instant(&self) -> Instant {
        self.start + self.now
    }

    pub(super) fn instant_at(&self, at: Duration) -> Instant {
        self.start + at
    }

    pub(super) fn number(&mut self) -> u64 {
        self.scheduled += 1;
        self.scheduled
    }

    // === What is under way ===

    pub(super) fn after(&mut self, pause: Duration, event: Event) {
        let number = self.number();
        self.events.insert((self.now + pause, number), event);
    }

    /// The process that runs on a member's machine.
    pub(super) fn process(&self, member: usize) -> Process {
        Process { member, life: self.members[member].life }
    }

    pub(super) fn input_after(&mut self, pause: Duration, member: usize, input: Input) {
        let process = self.process(member);
        self.after(pause, Event::Input(process, input));
    }

    /// How long a message is under way.
    pub(super) fn latency(&mut self) -> Duration {
        let slow = !self.calm && self.rng.chance(2);
        LATENCY + Duration::from_micros(self.rng.below(if slow { 6_000_000 } else { 4000 }))
    }

    /// Asks etcd.
    pub(super) fn ask(&mut self, member: usize, ask: Ask, what: Pending, patience: Duration) {
        let call = self.number();
        let Some(program) = &mut self.members[member].program else { return };
        program.pending.insert(call, what);
        self.input_after(patience, member, Input::Late(call));
        let caller = Caller { process: self.process(member), call };
        if self.members[member].cut_store {
            // What was written to a broken connection may yet arrive.
            if matches!(ask, Ask::Txn(_)) && self.rng.chance(30) {
                self.floating.push((caller, ask));
            }
        } else if self.calm || !self.rng.chance(1) {
            let pause = self.latency();
            self.after(pause, Event::Etcd(caller, ask));
        }
    }

    pub(super) fn run_for(&mut self, time: Duration) -> Result<(), Failure> {
        let end = self.now + time;
        self.check()?;
        while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= end) {
            let ((at, _), event) = entry.remove_entry();
            self.now = self.now.max(at);
            self.happen(event);
            self.check()?;
        }
        self.now = end;
        Ok(())
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Etcd(caller, ask) if self.now < self.away_until => {
                let pause = self.away_until - self.now;
                self.after(pause, Event::Etcd(caller, ask));
            }
            Event::Etcd(caller, ask) => self.at_etcd(caller, ask),
            Event::Input(process, input) => {
                let member = &self.members[process.member];
                if member.life != process.life || member.program.is_none() {
                    return;
                }
                if member.paused_until > self.now {
                    let pause = member.paused_until - self.now;
                    self.after(pause, Event::Input(process, input));
                } else {
                    self.take(process.member, input);
                }
            }
            Event::Start(member) => self.start(member),
            Event::Heal(member) => self.heal(member),
            Event::Down(runner, link, down) => self.hear(runner, link, down),
            Event::Apply(runner) => self.apply(runner),
            Event::Connect(runner) => self.connect(runner),
            Event::Agents => {
                self.after(AGENTS, Event::Agents);
                self.look_at_coordinators();
            }
            Event::Enrol => self.enrol(),
            Event::Answered(order) => self.answered(order),
        }
    }

    fn take(&mut self, member: usize, input: Input) {
        match input {
            Input::Answer(call, answer) => self.take_answer(member, call, Some(answer)),
            Input::Late(call) => self.take_answer(member, call, None),
            Input::Told(watch, message) => self.told(member, watch, &message),
            Input::Follow => self.follow(member),
            Input::Up(link, runner, up) => self.take_up(member, (link, runner), up),
            Input::Gone(link) => self.close(member, link),
            Input::Question(question) => self.asked(member, question),
            Input::Answered(call, runners) => self.answer_of_peer(member, call, runners),
            Input::Order(order) => self.take_order(member, order),
            Input::Send(job) => self.send(member, job),
            Input::Renew(job, until) => self.renew(member, job, until),
            Input::Wait(wait) => self.next_round(member, wait),
            Input::Load => self.load(member),
            Input::Timer => self.time_out(member),
            Input::Second => self.second(member),
            Input::Beat => self.beat(member),
        }
        self.go_on(member);
    }
}
