//! The coordinators' end of streams.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use mesh_model::{
    Command, Enrolment, Outcome, RunnerCommand,
    record::{Outside, Session, StreamKey},
};
use mesh_proto::{Abilities, InstanceId, RunnerId, message::Held};
use mesh_sessions::{Peer, Sent};

use super::{
    Bug,
    agents::{Down, Opening, STREAM, Up},
    event::{Event, Input},
    member::{Ended, Job, Refreshed, Stream, Then},
    world::World,
};

/// Where all agents connect from.
const FROM: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

impl World {
    pub(super) fn down(&mut self, member: usize, runner: RunnerId, link: u64, down: Down) {
        if self.members[member].cut_clients {
            let noticed = Duration::from_millis(self.rng.below(6000));
            self.input_after(noticed, member, Input::Gone(link));
        } else {
            self.after(STREAM, Event::Down(runner, link, down));
        }
    }

    pub(super) fn take_up(&mut self, member: usize, (link, runner): (u64, RunnerId), up: Up) {
        let now = self.instant();
        let Some(program) = &mut self.members[member].program else { return };
        match up {
            Up::Hello(opening) if program.is_stale(now) => self.down(member, runner, opening.link, Down::Closed),
            Up::Hello(opening) if self.bug == Some(Bug::StaleServed) => {
                self.go_on_with(member, Refreshed::Stream(opening));
            }
            Up::Hello(opening) => self.refresh(member, Refreshed::Stream(opening)),
            Up::Applied(revision) => {
                if let Some(stream) = program.streams.get(&link).filter(|stream| stream.sent.reaches(revision)) {
                    program.sessions.confirm(stream.id, revision);
                }
            }
            Up::Resync => {
                if let Some(stream) = program.streams.get_mut(&link) {
                    stream.sent.forget();
                    stream.outdated = true;
                }
            }
            Up::Attach(service) => {
                let Some(key) = program.streams.get(&link).map(|stream| stream.key) else { return };
                let what = RunnerCommand::Attach { service, client: false, release: None };
                self.submit_of(member, (runner, key), what, Then::Asked(runner, link));
            }
            Up::Detach(instance) => {
                let Some(key) = program.streams.get(&link).map(|stream| stream.key) else { return };
                self.submit_of(member, (runner, key), RunnerCommand::Detach { instance }, Then::Nothing);
            }
        }
    }

    /// A stream doesn't begin.
    pub(super) fn refuse(&mut self, member: usize, opening: &Opening) {
        self.down(member, opening.runner, opening.link, Down::Closed);
    }

    /// A stream begins: its coordinator knows all that was confirmed.
    pub(super) fn begin(&mut self, member: usize, opening: Opening) {
        let number = self.rng.next();
        let Some(program) = &mut self.members[member].program else { return };
        let runner = opening.runner;
        if !program.state.is_active(runner) {
            return self.down(member, runner, opening.link, Down::Closed);
        }
        if let Some(ahead) = program.sessions.ahead(runner, opening.have) {
            let what = format!("{runner} has a later map than coordinator {member}, which is fresh: {ahead:?}");
            return self.wrong(what);
        }
        let key = StreamKey { member: program.me, number };
        let from = FROM;
        let session = Session { runner, stream: key, process: Some(opening.process), from };
        let living = program.sessions.may_have(runner);
        self.submit(member, Command::Begin { session, living }, None, Then::Begun(opening, key));
    }

    /// A command has ended.
    pub(super) fn ended(&mut self, member: usize, job: Job, ended: Ended) {
        let then = job.then;
        match (then, ended) {
            (Then::Order(order), ended) => self.order_ended(member, order, ended),
            (Then::Begun(opening, key), Ended::Done(..)) => {
                let hello = RunnerCommand::Hello {
                    version: "1".to_owned(),
                    can: Abilities::NONE,
                    endpoints: vec![],
                    seen: None,
                    outside: Outside::default(),
                    instances: opening.held.clone(),
                };
                let runner = opening.runner;
                self.submit_of(member, (runner, key), hello, Then::Greeted(opening, key));
            }
            (Then::Greeted(opening, key), Ended::Done(Outcome::Welcomed { rejected, .. }, _)) => {
                self.open(member, &opening, key, rejected);
            }
            (Then::Begun(opening, _) | Then::Greeted(opening, _), _) => {
                self.down(member, opening.runner, opening.link, Down::Closed);
            }
            (Then::Asked(runner, link), Ended::Done(Outcome::Attached { instance, address, .. }, _)) => {
                let Some(program) = &self.members[member].program else { return };
                let instances = program.state.instances_on(runner);
                let service =
                    instances.filter(|one| one.id == instance).find_map(|one| program.state.path_of(one.service));
                let Some(service) = service else { return };
                let held = Held { instance, service, address, client: false, draining: false, release: None };
                self.down(member, runner, link, Down::Attached(instance, held));
            }
            (Then::Token(enrolment), Ended::Done(Outcome::TokenCreated { token, .. }, _)) => {
                let enrolment = Enrolment { token, ..*enrolment };
                self.submit(member, Command::Enrol(enrolment), None, Then::Enrolled);
            }
            (Then::Enrolled, Ended::Done(Outcome::Enrolled { runner, .. }, _)) => self.join(runner),
            (Then::Token(_) | Then::Enrolled, _) => self.after(Duration::from_secs(2), Event::Enrol),
            (Then::Nothing | Then::Asked(..), _) => {}
        }
    }

    fn open(&mut self, member: usize, opening: &Opening, key: StreamKey, rejected: Vec<InstanceId>) {
        let now = self.instant();
        let Opening { runner, link, process, have, .. } = *opening;
        let peer = Peer { process: Some(process), from: FROM };
        let Some(program) = &mut self.members[member].program else { return };
        let Some(opened) = program.sessions.open(Some(key), &program.state, runner, peer, have, now) else {
            return self.down(member, runner, link, Down::Closed);
        };
        let sent = Sent::new(opened.continued);
        program.streams.insert(link, Stream { id: opened.stream, key, sent, outdated: true, ended: false });
        self.tally.streams += 1;
        self.down(member, runner, link, Down::Opened(rejected));
    }

    /// Streams send what is new, and those that were ended end.
    pub(super) fn stream_news(&mut self, member: usize) {
        let Some(program) = &mut self.members[member].program else { return };
        let (mut news, mut over) = (Vec::new(), Vec::new());
        for (link, stream) in &mut program.streams {
            if stream.ended {
                over.push((*link, stream.id.runner));
            } else if std::mem::take(&mut stream.outdated)
                && let Some(view) = program.sessions.view(&program.state, stream.id)
                && let Some(update) = stream.sent.news(&view)
            {
                stream.sent.sent(view);
                news.push((*link, stream.id.runner, update));
            }
        }
        for (link, runner, update) in news {
            self.down(member, runner, link, Down::News(update));
        }
        for (link, runner) in over {
            self.down(member, runner, link, Down::Closed);
            self.close(member, link);
        }
    }

    /// A stream has ended, which is committed.
    pub(super) fn close(&mut self, member: usize, link: u64) {
        let now = self.instant();
        let Some(program) = &mut self.members[member].program else { return };
        let Some(stream) = program.streams.remove(&link) else { return };
        program.sessions.close(stream.id, stream.sent.into_view(), now);
        let owing = program.sessions.owing(&program.state, stream.id.runner, stream.key, true);
        self.submit(member, Command::Owing(vec![owing]), None, Then::Nothing);
    }
}
