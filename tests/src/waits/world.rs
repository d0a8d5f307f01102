//! The world: the coordinator, the agents, the messages between them, and the waits under way.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::{Duration, Instant},
};

use mesh_model::{
    Admin, AdminCommand, Command, Enrolment, NewPurpose, NewToken, Outcome, Record, RunnerCommand, State, record::Meta,
};
use mesh_proto::{Abilities, Epoch, Label, PrivateKey, Revision, RunnerId, Secret, message::Held, view::Network};
use mesh_sessions::{Ahead, News, StreamId, WaitId};

use super::{
    Bug,
    agent::{Agent, Pace, Untaken},
    coordinator::Coordinator,
};
use crate::{Failure, reference::Reference, rng::Rng};

pub(super) const RUNNERS: usize = 5;
/// How long a message is under way.
const LATENCY: Duration = Duration::from_millis(20);
/// How often the streams' tasks and the search for silent runners come to their turn at least.
const TICK: Duration = Duration::from_millis(200);

enum Event {
    /// News reach an agent.
    Down(StreamId, News),
    /// A confirmation, or `None` for the wish for a snapshot, reaches the coordinator.
    Up(StreamId, Option<Revision>),
    /// A data plane acts on what its agent has received.
    Apply(RunnerId),
    /// An agent connects.
    Connect(RunnerId),
    /// The coordinator notices that a connection is gone.
    Close(StreamId),
    /// Time for what is done regularly.
    Tick,
}

/// A wait under way.
pub(super) struct Waiting {
    pub(super) app: usize,
    /// The last commit before the wait.
    pub(super) revision: Revision,
    pub(super) deadline: Duration,
    /// The runners whose views held the deployment when the wait began,
    pub(super) affected: BTreeSet<RunnerId>,
    /// and its hosts.
    pub(super) hosts: BTreeSet<RunnerId>,
}

/// Everything.
pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) bug: Option<Bug>,
    start: Instant,
    pub(super) now: Duration,
    pub(super) coordinator: Coordinator,
    pub(super) agents: BTreeMap<RunnerId, Agent>,
    events: BTreeMap<(Duration, u64), Event>,
    scheduled: u64,
    pub(super) waits: BTreeMap<WaitId, Waiting>,
    /// What the operators have asked for, as of each revision that changed it.
    pub(super) history: BTreeMap<Revision, Reference>,
    /// The removed runners, and since which revision they are.
    pub(super) removed: BTreeMap<RunnerId, Revision>,
    /// A copy of the database.
    backup: Option<(State, Epoch)>,
    pub(super) trace: Vec<String>,
    pub(super) succeeded: u32,
    pub(super) failed: u32,
}

impl World {
    pub(super) fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut rng = Rng::new(seed);
        let meta = Meta::new(Network { range: "100.112.0.0/16".parse().expect("a range"), mtu: 1344 });
        let meta = Record::Meta(meta.expect("the default MTU is one").into());
        let state = State::load(Revision(0), [meta]).expect("there is a `meta` record");
        let start = Instant::now();
        let mut world = Self {
            rng: Rng::new(rng.next()),
            bug,
            start,
            now: Duration::ZERO,
            coordinator: Coordinator::new(state, start),
            agents: BTreeMap::new(),
            events: BTreeMap::new(),
            scheduled: 0,
            waits: BTreeMap::new(),
            history: BTreeMap::from([(Revision(0), Reference::default())]),
            removed: BTreeMap::new(),
            backup: None,
            trace: vec![],
            succeeded: 0,
            failed: 0,
        };
        for _ in 0..RUNNERS {
            world.enrol();
        }
        world.at(TICK, Event::Tick);
        world
    }

    pub(super) const fn outcomes(&self) -> (u32, u32) {
        (self.succeeded, self.failed)
    }

    pub(super) fn note(&mut self, what: impl fmt::Display) {
        self.trace.push(format!("{:?} at {}: {what}", self.now, self.coordinator.state.revision()));
    }

    pub(super) fn failure(&self, what: String) -> Failure {
        Failure { what, trace: self.trace.clone() }
    }

    // === The coordinator ===

    pub(super) fn instant(&self) -> Instant {
        self.start + self.now
    }

    pub(super) fn commit(&mut self, command: &Command) -> Option<Outcome> {
        let (passed, now) = (self.now, self.instant());
        self.coordinator.commit(command, passed, now)
    }

    pub(super) fn order(&mut self, what: AdminCommand) -> Option<Outcome> {
        self.commit(&Command::Admin { by: Admin::socket(0), what })
    }

    /// A new runner, whose agent connects at once.
    pub(super) fn enrol(&mut self) {
        let secret = Secret::from_bytes(self.rng.bytes());
        let (purpose, ephemeral) = (NewPurpose::JoinAny { uses: 1 }, self.rng.chance(30));
        let token = NewToken { purpose, ttl: 3600, ephemeral, name: None };
        let create = Command::CreateToken { by: Admin::socket(0), token, secret: secret.hash() };
        let Some(Outcome::TokenCreated { token, .. }) = self.commit(&create) else { panic!("no token") };
        let key = PrivateKey::from_bytes(self.rng.bytes());
        let enrol = Command::Enrol(Enrolment {
            token,
            secret,
            name: label(&format!("runner{}", self.scheduled)),
            provider: label("basement"),
            public_key: key.public(),
            proved: true,
            replace: false,
            credential: Secret::from_bytes(self.rng.bytes()).hash(),
        });
        let Some(Outcome::Enrolled { runner, .. }) = self.commit(&enrol) else { panic!("not enrolled") };
        self.note(format!("{runner} enrols"));
        self.agents.insert(runner, Agent::new(self.rng.next()));
        self.at(LATENCY, Event::Connect(runner));
    }

    /// A runner is none any more.
    pub(super) fn forget(&mut self, runner: RunnerId) {
        self.agents.remove(&runner);
        self.removed.insert(runner, self.coordinator.state.revision());
        self.note(format!("{runner} is removed"));
    }

    /// All connections end with the coordinator, and so do the waits.
    pub(super) fn restart_coordinator(&mut self) {
        let now = self.instant();
        let runners = |state: &State| state.active_runners().map(|runner| runner.id).collect::<Vec<_>>();
        let (state, epoch) =
            match self.backup.take().filter(|(old, _)| runners(old) == runners(&self.coordinator.state)) {
                Some((old, epoch)) => {
                    self.note(format!("the coordinator restarts, and its database is put back to {}", old.revision()));
                    self.history.retain(|revision, _| *revision <= old.revision());
                    (old, epoch)
                }
                None => {
                    self.note("the coordinator restarts");
                    let now = (self.coordinator.state.clone(), self.coordinator.sessions.epoch());
                    self.backup = self.rng.chance(80).then(|| now.clone());
                    now
                }
            };
        self.coordinator.restart(&state, epoch, now);
        self.waits.clear();
        self.events.retain(|_, event| !matches!(event, Event::Down(..) | Event::Up(..) | Event::Close(_)));
        for runner in self.agents.keys().copied().collect::<Vec<_>>() {
            if self.agents.get_mut(&runner).is_some_and(|agent| agent.stream.take().is_some()) {
                self.connect_later(runner);
            }
        }
    }

    pub(super) fn wait(&mut self, app: usize, revision: Revision, patience: Duration) {
        let (deadline, now) = (self.instant() + patience, self.instant());
        let id = self.coordinator.wait(&deployment_name(app), revision, deadline, now);
        let (affected, hosts) = (self.coordinator.state.affected_by(&deployment_name(app)), self.hosts(app));
        self.note(format!("wait for {app} up to {revision}, {patience:?} long"));
        let revision = self.coordinator.state.revision();
        self.waits.insert(id, Waiting { app, revision, deadline: self.now + patience, affected, hosts });
    }

    /// The runners that have instances of a deployment.
    fn hosts(&self, app: usize) -> BTreeSet<RunnerId> {
        let state = &self.coordinator.state;
        let deployment = state.deployment_named(&deployment_name(app)).map(|deployment| deployment.id);
        let has = |runner: &RunnerId| {
            let view = self.coordinator.view(*runner);
            let of = |view: &mesh_proto::View, service| view.service(service).map(|service| service.deployment);
            view.is_some_and(|view| view.instances().any(|i| i.runner == *runner && of(&view, i.service) == deployment))
        };
        self.agents.keys().copied().filter(has).collect()
    }

    // === Time ===

    fn at(&mut self, pause: Duration, event: Event) {
        self.scheduled += 1;
        self.events.insert((self.now + pause, self.scheduled), event);
    }

    pub(super) fn run_for(&mut self, time: Duration) -> Result<(), Failure> {
        let end = self.now + time;
        self.follow_up()?;
        while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= end) {
            let ((at, _), event) = entry.remove_entry();
            self.now = self.now.max(at);
            self.happen(event);
            self.follow_up()?;
        }
        self.now = end;
        Ok(())
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Down(stream, news) => {
                let Some(agent) = self.agents.get_mut(&stream.runner).filter(|a| a.stream == Some(stream)) else {
                    return;
                };
                match (agent.receive(news, self.coordinator.life), agent.pace) {
                    (Ok(()), Pace::After(time)) => self.at(time, Event::Apply(stream.runner)),
                    (Ok(()), Pace::Never) => {}
                    (Err(Untaken::Gap), _) => self.at(LATENCY, Event::Up(stream, None)),
                    (Err(Untaken::Older), _) => {
                        self.note(format!("{} refuses a view that goes back", stream.runner));
                        self.break_stream(stream.runner);
                    }
                }
            }
            Event::Up(stream, Some(revision)) => self.coordinator.confirm(stream, revision, self.bug),
            Event::Up(stream, None) => self.coordinator.resync(stream),
            Event::Apply(runner) => {
                if let Some(agent) = self.agents.get_mut(&runner) {
                    agent.apply();
                }
            }
            Event::Connect(runner) => self.connect(runner),
            Event::Close(stream) => {
                let now = self.instant();
                self.coordinator.close(stream, now);
            }
            Event::Tick => self.tick(),
        }
    }

    fn tick(&mut self) {
        self.at(TICK, Event::Tick);
        for agent in self.agents.values_mut() {
            agent.write();
        }
        if self.bug != Some(Bug::TimerStopped) {
            let now = self.instant();
            self.coordinator.sessions.handle_timeout(now);
        }
        let now = self.instant();
        for command in self.coordinator.sessions.unheard(&self.coordinator.state, now).commands {
            self.commit(&command);
            if let Command::Expire(runner) = command {
                self.forget(runner);
                self.enrol();
            }
        }
    }

    /// What follows from anything that happens: effects are carried out, streams send, agents confirm, waits end.
    fn follow_up(&mut self) -> Result<(), Failure> {
        let (bug, rng) = (self.bug, &mut self.rng);
        self.coordinator.carry_out(|| bug == Some(Bug::NewsLost) && rng.chance(25));
        for stream in self.coordinator.streams.keys().copied().collect::<Vec<_>>() {
            // A stream that is slow has its turn later.
            if !self.rng.chance(70) {
                continue;
            }
            if let Some(news) = self.coordinator.send(stream, bug) {
                self.at(LATENCY, Event::Down(stream, news));
            }
        }
        for agent in self.agents.values_mut() {
            let Some(stream) = agent.stream else { continue };
            if let Some(revision) = agent.confirm(bug) {
                self.scheduled += 1;
                self.events.insert((self.now + LATENCY, self.scheduled), Event::Up(stream, Some(revision)));
            }
        }
        self.coordinator.carry_out(|| false);
        self.check_waits()
    }

    // === Agents ===

    /// An agent connects after a while, which may be long.
    pub(super) fn connect_later(&mut self, runner: RunnerId) {
        let most = if self.rng.chance(5) { 700_000 } else { 3000 };
        let pause = Duration::from_millis(self.rng.below(most));
        self.at(pause, Event::Connect(runner));
    }

    fn connect(&mut self, runner: RunnerId) {
        let Some(agent) = self.agents.get(&runner).filter(|agent| agent.stream.is_none()) else { return };
        let (process, have) = (agent.process, agent.have());
        if let Some(ahead) = self.coordinator.sessions.ahead(runner, have) {
            let Ahead::OfRestored { seen } = ahead else { panic!("no agent invents a view") };
            self.renew(runner, seen);
        }
        let state = &self.coordinator.state;
        let held = state.instances_on(runner).filter_map(|instance| {
            let view = self.coordinator.view(runner)?;
            let service = view.service(instance.service)?;
            let deployment = view.deployment(service.deployment)?.name.clone();
            let service = mesh_proto::ServicePath { deployment, service: service.name.clone() };
            Some(Held {
                instance: instance.id,
                service,
                address: instance.address,
                client: false,
                draining: false,
                release: None,
            })
        });
        let instances = held.collect();
        let hello = RunnerCommand::Hello {
            version: "1".to_owned(),
            can: Abilities::NONE,
            endpoints: vec![],
            seen: None,
            outside: mesh_model::record::Outside::default(),
            instances,
        };
        self.commit(&Command::Runner { by: runner, what: hello });
        let stream = self.coordinator.open((runner, process), have, self.instant(), self.bug);
        if let Some(agent) = self.agents.get_mut(&runner) {
            agent.connected(stream);
        }
        // A stream sends the view before it reads anything.
        if let Some(news) = self.coordinator.send(stream, self.bug) {
            self.at(LATENCY, Event::Down(stream, news));
        }
    }

    /// The coordinator has found out that its database was put back.
    fn renew(&mut self, runner: RunnerId, seen: Revision) {
        if self.bug == Some(Bug::EpochKept) {
            return;
        }
        self.note(format!("{runner} has seen {seen}: another epoch begins"));
        self.commit(&Command::PutBack { runner, seen });
        let now = self.instant();
        self.coordinator.renew(now);
        for runner in self.agents.keys().copied().collect::<Vec<_>>() {
            if self.agents.get_mut(&runner).is_some_and(|agent| agent.stream.take().is_some()) {
                self.connect_later(runner);
            }
        }
    }

    /// The connection of a runner breaks: its agent knows at once, the coordinator a little later.
    pub(super) fn break_stream(&mut self, runner: RunnerId) {
        if let Some(stream) = self.agents.get_mut(&runner).and_then(|agent| agent.stream.take()) {
            let pause = Duration::from_millis(self.rng.below(6000));
            self.at(pause, Event::Close(stream));
            self.connect_later(runner);
        }
    }

    pub(super) fn restart_agent(&mut self, runner: RunnerId) {
        self.break_stream(runner);
        let process = self.rng.next();
        if let Some(agent) = self.agents.get_mut(&runner) {
            agent.restart(process);
        }
    }

    pub(super) fn some_runner(&mut self) -> Option<RunnerId> {
        let runners: Vec<RunnerId> = self.agents.keys().copied().collect();
        self.rng.pick(&runners).copied()
    }

    /// Applies what was received a moment ago at the latest, from now on.
    pub(super) fn hurry(&mut self, runner: RunnerId, pace: Pace) {
        if let Some(agent) = self.agents.get_mut(&runner) {
            agent.pace = pace;
            if let Pace::After(time) = pace {
                self.at(time, Event::Apply(runner));
            }
        }
    }
}

pub(crate) fn label(text: &str) -> Label {
    text.parse().expect("a label")
}

pub(crate) fn deployment_name(number: usize) -> Label {
    label(&format!("deployment{number}"))
}
