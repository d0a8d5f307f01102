//! The world: its parts, its clock, and what arrives when.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use mesh_engine::{Datagrams, Engine, Port, Reason};
use mesh_model::{Admin, Command, Enrolment, NewPurpose, NewToken, Outcome, Record, State, record::Meta};
use mesh_proto::{
    Abilities, Ability, Epoch, InstanceId, Label, PrivateKey, Range, Revision, RunnerId, Secret, ServiceName,
    ServicePath, view::Network as Shared,
};
use mock_instant::MockClock;

use self::pins::Pins;
use crate::{
    Failure,
    bug::Bug,
    control::{Agent, Sent},
    host::Host,
    network::{Event, Network},
    reference::{Reference, Service},
    rng::Rng,
};

mod coordinator;
mod packets;
pub(crate) mod pins;

pub(crate) use self::packets::Said;

pub(crate) const RUNNERS: u64 = 4;
pub(crate) const DEPLOYMENTS: usize = 4;
pub(crate) const SERVICES: usize = 3;
/// The only port that port rules name, and one that none names.
pub(crate) const PORTS: [u16; 2] = [5432, 80];

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
            // One is of version 0.1. There are no relays.
            let can = [Abilities::NONE, Abilities::NONE.with(Ability::Paths), Abilities::ALL];
            let can = can.get(number as usize).copied().unwrap_or(Abilities::ALL);
            self.hello(runner, can);
        }
        let all: Vec<_> = self.runners.keys().copied().collect();
        self.publish(all);
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
                    engine.handle_udp(
                        &Datagrams { from: from.into(), local: None, bytes: &bytes, stride, skip: 0 },
                        now,
                        said,
                    );
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

pub(crate) fn label(text: &str) -> Label {
    text.parse().expect("a label")
}

pub(crate) fn deployment_name(number: usize) -> Label {
    label(&format!("d{number}"))
}

pub(crate) fn service_name(number: usize) -> ServiceName {
    format!("s{number}").parse().expect("a service's name")
}
