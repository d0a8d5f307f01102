//! The world: what is in it, its clock, and how packets and views take their way.

use std::{
    collections::BTreeMap,
    fmt,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use mesh_engine::{Engine, Event as EngineEvent, Map, Port, Reason, Sink};
use mesh_model::{
    Admin, AdminCommand, Command, Enrolment, NewPurpose, NewToken, Outcome, Record, RunnerCommand, State, UnixSeconds,
    record::Meta,
};
use mesh_proto::{
    Epoch, InstanceId, Key, Label, PrivateKey, Range, Record as ViewRecord, Revision, RunnerId, Secret, ServiceName,
    ServicePath, View, view::Network as Shared,
};
use mock_instant::MockClock;

use crate::{
    bug::{Bug, swapped},
    control::{Agent, Message, Sent},
    host::Host,
    network::{Event, Network},
    packet::{self, Tcp},
    reference::{Reference, Service},
    rng::Rng,
};

pub(crate) const RUNNERS: u64 = 4;
pub(crate) const DEPLOYMENTS: usize = 4;
pub(crate) const SERVICES: usize = 3;
/// The only port that a port rule ever names, and one that none does.
pub(crate) const PORTS: [u16; 2] = [5432, 80];

/// What was not as it should be, with all that led to it.
pub struct Failure {
    /// What was wrong.
    pub what: String,
    /// Every operation and arrival before it.
    pub trace: Vec<String>,
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.trace.len().saturating_sub(40);
        write!(f, "{}\nthe last steps:\n{}", self.what, self.trace[last..].join("\n"))
    }
}

pub(crate) struct Runner {
    pub(crate) key: PrivateKey,
    pub(crate) engine: Engine,
    pub(crate) agent: Agent,
    pub(crate) sent: Sent,
    pub(crate) address: SocketAddr,
    pub(crate) hosts: BTreeMap<Port, Host>,
}

/// Everything.
pub struct World {
    pub(crate) rng: Rng,
    pub(crate) bug: Option<Bug>,
    pub(crate) start: Instant,
    pub(crate) now: Duration,
    pub(crate) network: Network,
    pub(crate) state: State,
    pub(crate) epoch: Epoch,
    pub(crate) runners: BTreeMap<RunnerId, Runner>,
    pub(crate) reference: Reference,
    pub(crate) next_port: u32,
    pub(crate) next_address: u8,
    pub(crate) trace: Vec<String>,
}

/// Takes what an engine has to say.
#[derive(Default)]
pub(crate) struct Said {
    datagrams: Vec<(SocketAddr, Vec<u8>)>,
    packets: Vec<(Port, Vec<u8>)>,
}

impl Sink for Said {
    fn send(&mut self, to: SocketAddr, batch: &[u8], stride: usize) {
        self.datagrams.extend(batch.chunks(stride).map(|datagram| (to, datagram.to_vec())));
    }

    fn deliver(&mut self, to: Port, packet: &[u8]) {
        self.packets.push((to, packet.to_vec()));
    }

    fn event(&mut self, _: EngineEvent) {}
}

impl World {
    /// Some runners without instances, and nothing declared.
    pub(crate) fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut rng = Rng::new(seed);
        let meta = Meta::new(Shared { range: Range::DEFAULT, mtu: 1344 }).expect("the default MTU is one");
        let mut world = Self {
            epoch: Epoch([0; 16]),
            state: State::load(Revision(0), [Record::Meta(meta.into())]).expect("there is a `meta` record"),
            bug,
            start: Instant::now(),
            now: Duration::ZERO,
            network: Network::new(),
            runners: BTreeMap::new(),
            reference: Reference::default(),
            next_port: 0,
            next_address: 0,
            trace: Vec::new(),
            rng: Rng::new(rng.next()),
        };
        world.enrol();
        world
    }

    pub(crate) fn into_trace(self) -> Vec<String> {
        self.trace
    }

    fn enrol(&mut self) {
        let secret = Secret::from_bytes(self.rng.bytes());
        let purpose = NewPurpose::JoinAny { uses: 100 };
        let create = Command::CreateToken {
            by: Admin::socket(0),
            token: NewToken { purpose, ttl: 3600, ephemeral: false },
            secret: secret.hash(),
        };
        let Ok(Outcome::TokenCreated { token, .. }) = self.commit(&create) else { panic!("no token") };
        for number in 0..RUNNERS {
            let key = PrivateKey::from_bytes(self.rng.bytes());
            let enrol = Command::Enrol(Enrolment {
                token,
                secret: secret.clone(),
                name: label(&format!("runner{number}")),
                provider: label("basement"),
                public_key: key.public(),
                proved: true,
                replace: false,
                credential: Secret::from_bytes(self.rng.bytes()).hash(),
            });
            let Ok(Outcome::Enrolled { runner, .. }) = self.commit(&enrol) else { panic!("not enrolled") };
            let engine = Engine::new(key.clone(), self.rng.bytes(), Box::new(vec![0; 1 << 16]), self.instant());
            let address = self.fresh_address();
            let hosts = BTreeMap::new();
            let (agent, sent) = (Agent::default(), Sent::default());
            self.runners.insert(runner, Runner { key, engine, agent, sent, address, hosts });
            self.endpoints(runner);
        }
        let all: Vec<_> = self.runners.keys().copied().collect();
        self.publish(all);
    }

    // === The coordinator ===

    pub(crate) fn admin(&mut self, what: AdminCommand, words: String) -> bool {
        let done = self.commit(&Command::Admin { by: Admin::socket(0), what });
        self.note(format!("{words}: {}", done.as_ref().map_or_else(ToString::to_string, |_| "done".to_owned())));
        done.is_ok()
    }

    pub(crate) fn endpoints(&mut self, id: RunnerId) {
        let endpoints = vec![self.runners[&id].address];
        let what = RunnerCommand::Endpoints { endpoints };
        self.commit(&Command::Runner { by: id, what }).expect("an endpoint is never refused");
    }

    pub(crate) fn commit(&mut self, command: &Command) -> Result<Outcome, mesh_model::Refusal> {
        let unix = UnixSeconds(1_700_000_000 + self.now.as_secs());
        let decision = self.state.decide(command, unix)?;
        if !decision.changes.is_empty() {
            let next = self.state.revision().next();
            let affected = self.state.absorb(&decision.changes, next);
            self.publish(affected);
        }
        Ok(decision.outcome)
    }

    /// Sends each of these runners what has changed for it.
    pub(crate) fn publish(&mut self, to: impl IntoIterator<Item = RunnerId>) {
        for id in to {
            let (Some(view), Some(runner)) = (self.state.view(id, self.epoch), self.runners.get_mut(&id)) else {
                continue;
            };
            let Some(message) = runner.sent.advance(view) else { continue };
            if self.bug == Some(Bug::DeltaDropped) && matches!(message, Message::Delta(_)) && self.rng.chance(25) {
                continue;
            }
            // A stream keeps its order: nothing overtakes.
            let event = Event::Control { runner: id, stream: runner.sent.stream, message };
            self.network.at(self.now + Duration::from_millis(20), event);
        }
    }

    // === Time ===

    pub(crate) fn instant(&self) -> Instant {
        self.start + self.now
    }

    pub(crate) fn run_until(&mut self, end: Duration) -> Result<(), Failure> {
        loop {
            let timer = self.runners.iter().filter_map(|(id, r)| Some((r.engine.next_timeout()?.0, *id))).min();
            let timer = timer.map(|(at, id)| (at.saturating_duration_since(self.start), id));
            let arrival = self.network.next();
            let next = [timer.map(|t| t.0), arrival].into_iter().flatten().min().filter(|at| *at <= end);
            let Some(next) = next else { break };
            self.advance(next);
            match timer {
                Some((at, id)) if at <= next => {
                    let now = self.instant();
                    self.engine(id, |engine, said| engine.handle_timeout(now, said))?;
                }
                _ => self.arrive()?,
            }
        }
        self.advance(end);
        Ok(())
    }

    fn advance(&mut self, to: Duration) {
        if to > self.now {
            MockClock::advance(to - self.now);
            self.now = to;
        }
    }

    fn arrive(&mut self) -> Result<(), Failure> {
        let now = self.instant();
        match self.network.pop() {
            Some(Event::Datagram { from, to, bytes }) => {
                let Some(id) = self.runners.iter().find(|(_, r)| r.address == to).map(|(id, _)| *id) else {
                    return Ok(());
                };
                let stride = bytes.len();
                self.engine(id, |engine, said| {
                    engine.handle_udp(from, &bytes, stride, now, said);
                    engine.flush(said);
                })
            }
            Some(Event::Control { runner: id, stream, message }) => {
                let Some(runner) = self.runners.get_mut(&id).filter(|r| r.sent.stream == stream) else { return Ok(()) };
                if !runner.agent.receive(message) {
                    runner.sent.view = None;
                    self.publish([id]);
                    return Ok(());
                }
                self.bring_into_force(id)
            }
            Some(Event::Retransmit { instance, port: attempt }) => {
                let Some((id, port)) = self.hosts().find(|(_, h)| h.instance == instance).map(|(id, h)| (id, h.port))
                else {
                    return Ok(());
                };
                let syn = self.host(id, port).and_then(|host| host.syn(attempt));
                let Some(syn) = syn else { return Ok(()) };
                self.network.at(self.now + Duration::from_secs(1), Event::Retransmit { instance, port: attempt });
                self.transmit(id, port, syn)
            }
            None => Ok(()),
        }
    }

    /// Gives a runner's engine the view that its agent has.
    pub(crate) fn bring_into_force(&mut self, id: RunnerId) -> Result<(), Failure> {
        let view = self.runners.get(&id).and_then(|runner| runner.agent.view.as_ref());
        let Some(map) = view.map(|view| compile(view, self.bug)) else { return Ok(()) };
        let now = self.instant();
        self.engine(id, |engine, said| engine.handle_map(map, now, said))
    }

    /// Has a runner's engine drop its tunnel to another one, whose agent restarts. The mock clock doesn't move the wall
    /// clock, so that a tunnel made anew sends older time stamps than the one before, and would be taken for a replay.
    pub(crate) fn forget(&mut self, id: RunnerId, other: RunnerId) -> Result<(), Failure> {
        let Some(view) = self.runners.get(&id).and_then(|runner| runner.agent.view.as_ref()) else { return Ok(()) };
        let mut without = View::empty(view.epoch, view.revision, view.runner, view.network);
        let keeps = |record: &&ViewRecord| record.key() != Key::Runner { id: other };
        view.records().filter(keeps).for_each(|record| without.put(record.clone()));
        let now = self.instant();
        for map in [compile(&without, self.bug), compile(view, self.bug)] {
            self.engine(id, |engine, said| engine.handle_map(map, now, said))?;
        }
        Ok(())
    }

    // === Packets ===

    /// Opens a connection from the host at `port`; the local port of the attempt.
    pub(crate) fn dial(&mut self, runner: RunnerId, port: Port, to: (Ipv4Addr, u16)) -> Result<u16, Failure> {
        let Some(host) = self.host(runner, port) else { return Ok(0) };
        let instance = host.instance;
        let (attempt, syn) = host.connect(to);
        self.network.at(self.now + Duration::from_secs(1), Event::Retransmit { instance, port: attempt });
        self.transmit(runner, port, syn)?;
        Ok(attempt)
    }

    pub(crate) fn transmit(&mut self, runner: RunnerId, port: Port, segment: Tcp) -> Result<(), Failure> {
        let (now, mut bytes) = (self.instant(), segment.to_bytes());
        self.engine(runner, |engine, said| {
            engine.handle_tun(port, &mut bytes, now, said);
            engine.flush(said);
        })
    }

    /// Lets a runner's engine do something, then has what it says take its way.
    pub(crate) fn engine(&mut self, id: RunnerId, action: impl FnOnce(&mut Engine, &mut Said)) -> Result<(), Failure> {
        let mut said = Said::default();
        let Some(runner) = self.runners.get_mut(&id) else { return Ok(()) };
        action(&mut runner.engine, &mut said);
        let from = runner.address;
        for (to, datagram) in said.datagrams {
            match datagram.first() {
                Some(1) => self.note(format!("{id} at {from} asks {to} for a session")),
                Some(2) => self.note(format!("{id} at {from} gives {to} a session")),
                _ => {}
            }
            self.network.datagram(self.now, &mut self.rng, from, to, &datagram);
        }
        for (port, bytes) in said.packets {
            let read = packet::read(&bytes);
            self.check_safety(id, port, read)?;
            let answer = self.host(id, port).and_then(|host| host.receive(read));
            if let Some(answer) = answer {
                self.transmit(id, port, answer)?;
            }
        }
        Ok(())
    }

    // === Helpers ===

    pub(crate) fn hosts(&self) -> impl Iterator<Item = (RunnerId, &Host)> {
        self.runners.iter().flat_map(|(id, runner)| runner.hosts.values().map(move |host| (*id, host)))
    }

    pub(crate) fn host(&mut self, runner: RunnerId, port: Port) -> Option<&mut Host> {
        self.runners.get_mut(&runner)?.hosts.get_mut(&port)
    }

    pub(crate) fn some_runner(&mut self) -> Option<RunnerId> {
        let all: Vec<_> = self.runners.keys().copied().collect();
        self.rng.pick(&all).copied()
    }

    pub(crate) fn some_host(&mut self) -> Option<(RunnerId, Port, InstanceId)> {
        let all: Vec<_> = self.hosts().map(|(id, host)| (id, host.port, host.instance)).collect();
        self.rng.pick(&all).copied()
    }

    /// How many handshakes were rejected so far.
    pub(crate) fn rejected(&self) -> u64 {
        self.runners.values().map(|runner| runner.engine.dropped(Reason::HandshakeRejected)).sum()
    }

    pub(crate) fn service_addresses(&self) -> BTreeMap<Service, Ipv4Addr> {
        let address = |service: &Service| {
            let path = ServicePath { deployment: deployment_name(service.0), service: service_name(service.1) };
            Some((*service, self.state.service_at(&path)?.address))
        };
        self.reference.services.iter().filter_map(address).collect()
    }

    pub(crate) fn fresh_address(&mut self) -> SocketAddr {
        self.next_address = self.next_address.wrapping_add(1);
        (Ipv4Addr::new(10, 0, self.rng.below(250) as u8, self.next_address), 51820).into()
    }

    pub(crate) fn note(&mut self, what: String) {
        self.trace.push(format!("{:>10.4}s {what}", self.now.as_secs_f64()));
    }

    pub(crate) fn failure(&mut self, what: String) -> Failure {
        for (id, runner) in &self.runners {
            let report = runner.engine.report(self.start + self.now);
            let drops: Vec<_> =
                report.drops.iter().filter(|(_, n)| *n > 0).map(|(r, n)| format!("{n} {}", r.name())).collect();
            self.trace.push(format!("{id} at {}: {:?}, dropped {}", runner.address, report.peers, drops.join(", ")));
        }
        Failure { what, trace: std::mem::take(&mut self.trace) }
    }
}

fn compile(view: &View, bug: Option<Bug>) -> Map {
    match bug {
        Some(Bug::DirectionSwapped) => Map::compile(&swapped(view)),
        _ => Map::compile(view),
    }
}

pub(crate) fn label(text: &str) -> Label {
    text.parse().expect("a label")
}

pub(crate) fn deployment_name(number: usize) -> Label {
    label(&format!("d{number}"))
}

pub(crate) fn service_name(number: usize) -> ServiceName {
    format!("s{number}").parse().expect("a service's name")
}
