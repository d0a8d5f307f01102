//! The agents.

use std::{collections::BTreeMap, time::Duration};

use mesh_proto::{
    InstanceId, Revision, RunnerId, ServicePath,
    message::{Have, Held},
};
use mesh_sessions::{News, StreamId};

use super::{
    event::{Event, Input, Process},
    member::Program,
    world::World,
};
use crate::waits::agent::{Agent, Pace, Untaken};

/// After how long without a sign of life an agent looks for another coordinator.
const SILENCE: Duration = Duration::from_secs(6);
/// How long a message of a stream is under way. A stream keeps the order.
pub(super) const STREAM: Duration = Duration::from_millis(3);
/// How long a stream's begin may take.
const BEGIN: Duration = Duration::from_secs(15);

/// A machine with an agent.
pub(super) struct Runner {
    pub(super) agent: Agent,
    /// The instances that it runs.
    pub(super) held: BTreeMap<InstanceId, Held>,
    pub(super) link: Option<Link>,
    /// What it asks for next when an answer comes.
    attaching: Option<ServicePath>,
}

/// Its connection to a coordinator.
pub(super) struct Link {
    pub(super) process: Process,
    number: u64,
    began: Duration,
    is_open: bool,
    /// Whether a message was lost on it.
    is_broken: bool,
    /// Since when nothing is heard.
    silent: Option<Duration>,
}

/// A stream that begins.
#[derive(Clone)]
pub(super) struct Opening {
    pub(super) runner: RunnerId,
    pub(super) link: u64,
    pub(super) process: u64,
    pub(super) have: Option<Have>,
    pub(super) held: Vec<Held>,
}

/// What an agent is told.
pub(super) enum Down {
    Opened(Vec<InstanceId>),
    News(News),
    Attached(InstanceId, Held),
    Closed,
}

/// What an agent tells.
pub(super) enum Up {
    Hello(Opening),
    Applied(Revision),
    Resync,
    Attach(ServicePath),
    Detach(InstanceId),
}

impl World {
    /// A machine has joined.
    pub(super) fn join(&mut self, runner: RunnerId) {
        let agent = Agent::new(self.rng.next());
        self.agents.insert(runner, Runner { agent, held: BTreeMap::new(), link: None, attaching: None });
        let pause = Duration::from_millis(self.rng.below(2000));
        self.after(pause, Event::Connect(runner));
    }

    pub(super) fn some_runner(&mut self) -> Option<RunnerId> {
        let all: Vec<RunnerId> = self.agents.keys().copied().collect();
        self.rng.pick(&all).copied()
    }

    pub(super) fn connect(&mut self, runner: RunnerId) {
        let member = self.rng.below(self.members.len() as u64) as usize;
        let (process, number) = (self.process(member), self.number());
        let Some(one) = self.agents.get_mut(&runner).filter(|one| one.link.is_none()) else { return };
        if !self.members[member].answers() {
            let pause = Duration::from_millis(300 + self.rng.below(2000));
            self.after(pause, Event::Connect(runner));
            return;
        }
        one.link = Some(Link { process, number, began: self.now, is_open: false, is_broken: false, silent: None });
        one.agent.connected(StreamId { runner, number });
        one.attaching = None;
        let held = one.held.values().cloned().collect();
        let opening = Opening { runner, link: number, process: one.agent.process, have: one.agent.have(), held };
        self.up(runner, Up::Hello(opening));
    }

    fn up(&mut self, runner: RunnerId, up: Up) {
        let Some(link) = self.agents.get_mut(&runner).and_then(|one| one.link.as_mut()) else { return };
        let (process, number) = (link.process, link.number);
        if self.members[process.member].cut_clients {
            link.is_broken = true;
        } else {
            self.after(STREAM, Event::Input(process, Input::Up(number, runner, up)));
        }
    }

    /// The agent's connection is gone. It looks for another coordinator.
    pub(super) fn disconnect(&mut self, runner: RunnerId) {
        let Some(link) = self.agents.get_mut(&runner).and_then(|one| one.link.take()) else { return };
        let noticed = Duration::from_millis(self.rng.below(6000));
        self.after(noticed, Event::Input(link.process, Input::Gone(link.number)));
        let most = if self.rng.chance(10) { 60_000 } else { 1000 };
        let pause = Duration::from_millis(self.rng.below(most));
        self.after(pause, Event::Connect(runner));
    }

    /// Agents notice that their coordinators are silent or gone.
    pub(super) fn look_at_coordinators(&mut self) {
        let now = self.now;
        for runner in self.agents.keys().copied().collect::<Vec<_>>() {
            let Some(link) = self.agents.get_mut(&runner).and_then(|one| one.link.as_mut()) else { continue };
            let member = &self.members[link.process.member];
            let is_gone = member.life != link.process.life || member.program.is_none();
            let is_there = |program: &Program| !link.is_open || program.streams.contains_key(&link.number);
            let hears = member.answers()
                && member.paused_until <= now
                && !link.is_broken
                && member.program.as_ref().is_some_and(is_there);
            if hears {
                link.silent = None;
            }
            let is_silent = !hears && now - *link.silent.get_or_insert(now) > SILENCE;
            let is_late = !link.is_open && now - link.began > BEGIN;
            if is_gone || is_silent || is_late {
                self.disconnect(runner);
            }
        }
    }

    pub(super) fn hear(&mut self, runner: RunnerId, number: u64, down: Down) {
        let Some(one) = self.agents.get_mut(&runner) else { return };
        let Some(link) = one.link.as_mut().filter(|link| link.number == number) else { return };
        if self.members[link.process.member].cut_clients {
            link.is_broken = true;
            return;
        }
        match down {
            Down::Opened(rejected) => {
                link.is_open = true;
                one.held.retain(|instance, _| !rejected.contains(instance));
            }
            Down::Attached(instance, held) => drop(one.held.insert(instance, held)),
            Down::Closed => self.disconnect(runner),
            Down::News(news) => match (one.agent.receive(news, 0), one.agent.pace) {
                (Ok(()), Pace::After(time)) => self.after(time, Event::Apply(runner)),
                (Ok(()), Pace::Never) => {}
                (Err(Untaken::Gap), _) => self.up(runner, Up::Resync),
                (Err(Untaken::Older), _) => self.wrong(format!("the map of {runner} goes back")),
            },
        }
        self.confirm(runner);
    }

    /// The data plane acts on what was received.
    pub(super) fn apply(&mut self, runner: RunnerId) {
        if let Some(one) = self.agents.get_mut(&runner) {
            one.agent.write();
            one.agent.apply();
        }
        self.check_applied(runner);
        self.confirm(runner);
    }

    fn confirm(&mut self, runner: RunnerId) {
        // On a stream that has not begun, nothing is heard.
        let is_open = |one: &&mut Runner| one.link.as_ref().is_some_and(|link| link.is_open);
        let one = self.agents.get_mut(&runner).filter(is_open);
        if let Some(revision) = one.and_then(|one| one.agent.confirm(None)) {
            self.up(runner, Up::Applied(revision));
        }
    }

    pub(super) fn restart_agent(&mut self, runner: RunnerId) {
        self.disconnect(runner);
        let process = self.rng.next();
        if let Some(one) = self.agents.get_mut(&runner) {
            one.agent.restart(process);
        }
        self.check_applied(runner);
    }

    pub(super) fn attach(&mut self, runner: RunnerId, service: ServicePath) {
        self.up(runner, Up::Attach(service));
    }

    pub(super) fn detach(&mut self, runner: RunnerId) {
        let held = self.agents.get_mut(&runner).and_then(|one| one.held.pop_first());
        if let Some((instance, _)) = held {
            self.up(runner, Up::Detach(instance));
        }
    }
}
