//! The world: its parts, its clock, and the ways of packets and views.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use mesh_engine::{Datagrams, Engine, Event as EngineEvent, Map, PinMemory, Port, Reason, Sink};
use mesh_model::{
    Admin, AdminCommand, Command, Enrolment, NewPurpose, NewToken, Outcome, Record, RunnerCommand, State, UnixSeconds,
    record::Meta,
};
use mesh_proto::{
    Epoch, InstanceId, Label, PrivateKey, Range, Record as ViewRecord, Revision, RunnerId, Secret, ServiceName,
    ServicePath, View,
    view::{Network as Shared, Runner as RunnerView},
};
use mock_instant::MockClock;

use crate::{
    Failure,
    bug::{Bug, swapped},
    control::{Agent, Message, Sent},
    host::{End, Host},
    hostile,
    network::{Event, Network},
    packet::{self, Tcp},
    reference::{Reference, Service},
    rng::Rng,
};

pub(crate) const RUNNERS: u64 = 4;
pub(crate) const DEPLOYMENTS: usize = 4;
pub(crate) const SERVICES: usize = 3;
/// The only port that port rules name, and one that none names.
pub(crate) const PORTS: [u16; 2] = [5432, 80];

/// How long an address rests at least: ten minutes, which the coordinator counts in whole seconds.
const REST: Duration = Duration::from_secs(599);

pub(crate) struct Runner {
    pub(crate) key: PrivateKey,
    pub(crate) engine: Engine,
    /// The memory that the engine leaves to the next one.
    pub(crate) pins: Pins,
    pub(crate) agent: Agent,
    pub(crate) sent: Sent,
    pub(crate) address: SocketAddr,
    pub(crate) hosts: BTreeMap<Port, Host>,
}

/// The memory of a runner's engines: each one gets it in turn, like a mapped file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pins(Arc<Mutex<Vec<u8>>>);

/// Memory that returns when its engine is dropped.
struct Lent(Vec<u8>, Pins);

impl Pins {
    pub(crate) fn lend(&self, records: usize) -> Box<dyn PinMemory> {
        let mut bytes = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        bytes.resize(64 + 64 * records, 0);
        Box::new(Lent(bytes, self.clone()))
    }

    pub(crate) fn lose(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl PinMemory for Lent {
    fn bytes(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        *self.1.0.lock().unwrap_or_else(PoisonError::into_inner) = std::mem::take(&mut self.0);
    }
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
    /// When addresses were released.
    freed: BTreeMap<Ipv4Addr, Duration>,
    /// An address was reused too early.
    pub(crate) hasty: Option<String>,
    /// The coordinator can't be reached.
    pub(crate) away: bool,
    /// Some instances, and a runner, are hostile.
    pub hostile: bool,
    /// A right or an end is being removed.
    ending: bool,
}

/// Records the effects of an engine.
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
    /// Some runners without instances, and no deployments.
    pub(crate) fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut rng = Rng::new(seed);
        // So small that addresses are reused.
        let range: Range = "100.112.0.0/24".parse().expect("a range");
        let mut meta = Meta::new(Shared { range, mtu: 1344 }).expect("the default MTU is one");
        meta.next.service_address = Ipv4Addr::new(100, 112, 0, 215);
        if bug == Some(Bug::QuarantineIgnored) {
            meta.quarantine = 0;
        }
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
            freed: BTreeMap::new(),
            hasty: None,
            away: false,
            hostile: false,
            ending: false,
            rng: Rng::new(rng.next()),
        };
        world.enrol();
        world
    }

    /// How many connections an engine has room for.
    pub(crate) fn records(&self) -> usize {
        if self.bug == Some(Bug::TableTooSmall) { 64 } else { 4095 }
    }

    pub(crate) fn into_trace(self) -> Vec<String> {
        self.trace
    }

    fn enrol(&mut self) {
        let secret = Secret::from_bytes(self.rng.bytes());
        let purpose = NewPurpose::JoinAny { uses: 100 };
        let create = Command::CreateToken {
            by: Admin::socket(0),
            token: NewToken { purpose, ttl: 3600, ephemeral: false, name: None },
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
            let pins = Pins::default();
            let engine = Engine::new(key.clone(), self.rng.bytes(), pins.lend(self.records()), self.instant());
            let address = self.fresh_address();
            let hosts = BTreeMap::new();
            let (agent, sent) = (Agent::default(), Sent::default());
            self.runners.insert(runner, Runner { key, engine, pins, agent, sent, address, hosts });
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
        let what = RunnerCommand::Endpoints { endpoints, outside: mesh_model::record::Outside::default() };
        self.commit(&Command::Runner { by: id, what }).expect("an endpoint is never refused");
    }

    pub(crate) fn commit(&mut self, command: &Command) -> Result<Outcome, mesh_model::Refusal> {
        let unix = UnixSeconds(1_700_000_000 + self.now.as_secs());
        let decision = self.state.decide(command, unix)?;
        if !decision.changes.is_empty() {
            let next = self.state.revision().next();
            let before = self.addresses();
            let affected = self.state.absorb(&decision.changes, next);
            self.check_rest(&before);
            self.publish(affected);
        }
        Ok(decision.outcome)
    }

    fn addresses(&self) -> BTreeSet<Ipv4Addr> {
        let address = |record| match record {
            Record::Service(service) => Some(service.address),
            Record::Instance(instance) => Some(instance.address),
            _ => None,
        };
        self.state.records().filter_map(address).collect()
    }

    /// *Rest*: an address isn't reused for ten minutes.
    fn check_rest(&mut self, before: &BTreeSet<Ipv4Addr>) {
        let after = self.addresses();
        for address in after.difference(before) {
            if let Some(since) = self.freed.remove(address).filter(|since| self.now - *since < REST) {
                self.hasty = Some(format!("{address} has rested since {since:?} only"));
            }
        }
        self.freed.extend(before.difference(&after).map(|address| (*address, self.now)));
    }

    /// Sends each of these runners its changes.
    pub(crate) fn publish(&mut self, to: impl IntoIterator<Item = RunnerId>) {
        if self.away {
            return;
        }
        for id in to {
            let (Some(view), Some(runner)) = (self.state.view(id, self.epoch), self.runners.get_mut(&id)) else {
                continue;
            };
            let Some(message) = runner.sent.advance(view) else { continue };
            if self.bug == Some(Bug::DeltaDropped) && matches!(message, Message::Delta(_)) && self.rng.chance(25) {
                continue;
            }
            // A stream keeps its order.
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
                    let received = Datagrams { from: from.into(), local: None, bytes: &bytes, stride, skip: 0 };
                    engine.handle_udp(&received, now, said);
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
            Some(Event::Retransmit { instance, ends }) => {
                let Some((id, port)) = self.hosts().find(|(_, h)| h.instance == instance).map(|(id, h)| (id, h.port))
                else {
                    return Ok(());
                };
                let again = self.host(id, port).and_then(|host| host.again(ends));
                let Some(again) = again else { return Ok(()) };
                self.network.at(self.now + Duration::from_secs(1), Event::Retransmit { instance, ends });
                self.transmit(id, port, again)
            }
            None => Ok(()),
        }
    }

    /// Passes the view of a runner's agent to its engine.
    pub(crate) fn bring_into_force(&mut self, id: RunnerId) -> Result<(), Failure> {
        let view = self.runners.get(&id).and_then(|runner| runner.agent.view.as_ref());
        let lawless = self.is_hostile_runner(id);
        let map = |view: &View| if lawless { Map::compile(&hostile::lawless(view)) } else { compile(view, self.bug) };
        let Some(map) = view.map(map) else { return Ok(()) };
        let now = self.instant();
        self.ending(id, |engine, said| engine.handle_map(map, now, said))
    }

    /// Calls a runner's engine for an input that may end connections.
    pub(crate) fn ending(&mut self, id: RunnerId, action: impl FnOnce(&mut Engine, &mut Said)) -> Result<(), Failure> {
        self.ending = true;
        let result = self.engine(id, action);
        self.ending = false;
        result
    }

    /// Makes a runner's engine drop its tunnel to another one, whose agent restarts. The mock clock doesn't move the
    /// wall clock, so that a new tunnel sends older time stamps than the earlier one, like a replay.
    pub(crate) fn forget(&mut self, id: RunnerId, other: RunnerId) -> Result<(), Failure> {
        let Some(view) = self.runners.get(&id).and_then(|runner| runner.agent.view.as_ref()) else { return Ok(()) };
        // Another key makes another tunnel, but not another runner.
        let mut another = view.clone();
        if let Some(runner) = view.runner(other) {
            let public_key = PrivateKey::from_bytes([0xAA; 32]).public();
            another.put(ViewRecord::Runner(RunnerView { public_key, ..RunnerView::clone(runner) }.into()));
        }
        let now = self.instant();
        for map in [compile(&another, self.bug), compile(view, self.bug)] {
            self.engine(id, |engine, said| engine.handle_map(map, now, said))?;
        }
        Ok(())
    }

    // === Packets ===

    /// Opens a connection from the host at `port`, and returns its ends.
    pub(crate) fn dial(&mut self, runner: RunnerId, port: Port, to: End) -> Result<Option<(End, End)>, Failure> {
        let service = self.service_of(to.0);
        let Some(host) = self.host(runner, port) else { return Ok(None) };
        let instance = host.instance;
        let (ends, syn) = host.connect(to, service);
        self.network.at(self.now + Duration::from_secs(1), Event::Retransmit { instance, ends });
        self.transmit(runner, port, syn)?;
        Ok(Some(ends))
    }

    /// Sends a question on a connection.
    pub(crate) fn ask(&mut self, runner: RunnerId, port: Port, ends: (End, End)) -> Result<(), Failure> {
        let Some(host) = self.host(runner, port) else { return Ok(()) };
        let instance = host.instance;
        let Some(question) = host.ask(ends) else { return Ok(()) };
        self.network.at(self.now + Duration::from_secs(1), Event::Retransmit { instance, ends });
        self.transmit(runner, port, question)
    }

    /// The owner of an address. An address without an owner is that of a service that never exists.
    fn service_of(&self, address: Ipv4Addr) -> Service {
        let instance =
            self.hosts().find(|(_, host)| host.address == address && !host.ended).map(|(_, host)| host.service);
        let by_address = || self.service_addresses().into_iter().find(|(_, at)| *at == address).map(|(s, _)| s);
        instance.or_else(by_address).unwrap_or((usize::MAX, 0))
    }

    pub(crate) fn transmit(&mut self, runner: RunnerId, port: Port, segment: Tcp) -> Result<(), Failure> {
        let (now, mut bytes) = (self.instant(), segment.to_bytes());
        self.engine(runner, |engine, said| {
            engine.handle_tun(port, &mut bytes, now, said);
            engine.flush(said);
        })
    }

    /// Calls a runner's engine, and passes on its effects.
    pub(crate) fn engine(&mut self, id: RunnerId, action: impl FnOnce(&mut Engine, &mut Said)) -> Result<(), Failure> {
        let mut said = Said::default();
        let Some(runner) = self.runners.get_mut(&id) else { return Ok(()) };
        action(&mut runner.engine, &mut said);
        let from = runner.address;
        if self.ending && self.bug == Some(Bug::ResetForgotten) {
            said = Said::default();
        }
        for (to, datagram) in said.datagrams {
            match datagram.first() {
                Some(1) => self.note(format!("{id} at {from} asks {to} for a session")),
                Some(2) => self.note(format!("{id} at {from} answers {to} with a session")),
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
