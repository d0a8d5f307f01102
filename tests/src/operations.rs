//! Random operations on the world.

use std::{collections::BTreeSet, net::Ipv4Addr, time::Duration};

use mesh_engine::{Engine, Port};
use mesh_model::{
    AdminCommand, Command, Outcome, Record, RunnerCommand, State, TrustChange,
    declare::{Declaration, Declared, Deployment, File},
};
use mesh_proto::{Ports, RunnerId, ServicePath};

use crate::{
    Failure,
    bug::Bug,
    control::Sent,
    host::{Host, Phase},
    hostile::is_hostile,
    packet::{FIN, SYN, Tcp},
    reference::Service,
    world::{DEPLOYMENTS, PORTS, SERVICES, World, deployment_name, label, service_name},
};

/// The most instances of a service.
const REPLICAS: usize = 3;

impl World {
    /// One random operation, and a little time.
    pub(crate) fn operate(&mut self) -> Result<(), Failure> {
        if self.hostile && self.rng.chance(25) {
            self.assault()?;
        }
        match self.rng.below(100) {
            0..7 => self.deploy(),
            7..15 => self.trust(),
            15..32 => self.attach(),
            32..37 => self.detach()?,
            37..39 => self.drain(),
            39..41 => self.refuse(),
            41..42 => self.silence(),
            42..70 => self.connect()?,
            70..80 => self.talk()?,
            80..85 => self.forge()?,
            85..88 => self.cut(),
            88..92 => self.roam(),
            92..95 => self.lose_stream(),
            95..96 => self.restart_coordinator(),
            96..98 => self.restart_agent()?,
            _ => return self.settle_and_probe(),
        }
        self.mark();
        if let Some(hasty) = self.hasty.take() {
            return Err(self.failure(hasty));
        }
        let pause = Duration::from_millis(self.rng.below(1500));
        self.run_until(self.now + pause)
    }

    fn deploy(&mut self) {
        let deployment = self.rng.below(DEPLOYMENTS as u64) as usize;
        let services: BTreeSet<usize> = (0..SERVICES).filter(|_| self.rng.chance(60)).collect();
        // Deployment 3 is of another team: its trust, and trust in it, must have no effect.
        let team = usize::from(deployment == 3);
        let whole = Deployment {
            name: deployment_name(deployment),
            team: Some(label(&format!("team{team}"))),
            expose: None,
            trust: None,
            services: services.iter().map(|s| (service_name(*s), Declared::default())).collect(),
        };
        let file = File { name: "mesh.toml".to_owned(), declaration: Declaration::Whole(whole) };
        let apply = AdminCommand::Apply { files: vec![file], dry_run: false, force: true, prune: None };
        if self.admin(apply, format!("deploy {deployment} with {services:?}")) {
            self.reference.teams.insert(deployment, team);
            self.reference.services.retain(|(d, _)| *d != deployment);
            self.reference.services.extend(services.iter().map(|s| (deployment, *s)));
            for host in self.runners.values_mut().flat_map(|runner| runner.hosts.values_mut()) {
                host.ended |= host.service.0 == deployment && !services.contains(&host.service.1);
            }
        }
    }

    fn trust(&mut self) {
        let (callee, caller) = (self.rng.below(4) as usize, self.rng.below(4) as usize);
        let port = self.rng.chance(40).then_some(PORTS[0]);
        let ports = port.map_or(Ports::All, |port| Ports::Only([port].into()));
        let callers = BTreeSet::from([deployment_name(caller)]);
        let add = self.rng.chance(65);
        let change = match add {
            true => TrustChange::Add { callers, services: None, ports },
            false => TrustChange::Clear,
        };
        let words = format!("{callee} {} {caller} on {port:?}", if add { "trusts" } else { "trusts none, not even" });
        if self.admin(AdminCommand::Trust { deployment: deployment_name(callee), change }, words) {
            match add {
                true => {
                    self.reference.trust.insert((callee, caller, port));
                }
                false => self.reference.trust.retain(|(c, _, _)| *c != callee),
            }
        }
    }

    fn attach(&mut self) {
        let running = |service: &Service| self.hosts().filter(|(_, h)| !h.ended && h.service == *service).count();
        let free: Vec<Service> = self.reference.services.iter().copied().filter(|s| running(s) < REPLICAS).collect();
        let (Some(service), Some(runner)) = (self.rng.pick(&free).copied(), self.some_runner()) else { return };
        if self.is_hostile_runner(runner) && !is_hostile(service) {
            return;
        }
        let path = ServicePath { deployment: deployment_name(service.0), service: service_name(service.1) };
        // Two releases, and every third instance of none.
        let release = Some(self.next_port % 3).filter(|number| *number > 0);
        let name = release.and_then(|number| format!("v{number}").parse().ok());
        let attach = RunnerCommand::Attach { service: path, client: false, release: name };
        let Ok(Outcome::Attached { instance, address, .. }) =
            self.commit(&Command::Runner { by: runner, what: attach })
        else {
            return;
        };
        self.note(format!("attach {service:?} to {runner} as {instance} at {address}"));
        let port = Port(self.next_port);
        self.next_port += 1;
        let Some(runner) = self.runners.get_mut(&runner) else { return };
        runner.engine.handle_attach(port, instance);
        let mut host = Host::new(instance, service, address, port);
        host.release = release;
        runner.hosts.insert(port, host);
    }

    fn detach(&mut self) -> Result<(), Failure> {
        let Some((runner, port, instance)) = self.some_host() else { return Ok(()) };
        self.note(format!("detach {instance} from {runner}"));
        let _ = self.commit(&Command::Runner { by: runner, what: RunnerCommand::Detach { instance } });
        if let Some(runner) = self.runners.get_mut(&runner) {
            runner.hosts.remove(&port);
        }
        let now = self.instant();
        self.ending(runner, |engine, said| engine.handle_detach(port, now, said))
    }

    fn drain(&mut self) {
        let Some((runner, port, instance)) = self.some_host() else { return };
        let drained = self.commit(&Command::Runner { by: runner, what: RunnerCommand::Drain { instance } }).is_ok();
        if let Some(host) = self.host(runner, port).filter(|_| drained) {
            host.draining = true;
        }
        self.note(format!("drain {instance} on {runner}: {drained}"));
    }

    /// A program stops listening, or starts again.
    fn refuse(&mut self) {
        let Some((runner, port, instance)) = self.some_host() else { return };
        let Some(host) = self.host(runner, port) else { return };
        host.refuses = !host.refuses;
        let word = if host.refuses { "refuses" } else { "listens" };
        self.note(format!("{instance} on {runner} {word}"));
    }

    /// The coordinator loses a runner's stream for long, until it comes back.
    fn silence(&mut self) {
        let Some(runner) = self.some_runner() else { return };
        self.note(format!("{runner} is silent"));
        let _ = self.commit(&Command::Silent { runners: [runner].into(), held_back: None });
    }

    fn connect(&mut self) -> Result<(), Failure> {
        let Some((runner, port, instance)) = self.some_host() else { return Ok(()) };
        let mut targets: Vec<Ipv4Addr> = self.hosts().map(|(_, host)| host.address).collect();
        targets.extend(self.service_addresses().values());
        targets.push(Ipv4Addr::new(100, 120, 7, 7));
        let Some(target) = self.rng.pick(&targets).copied() else { return Ok(()) };
        let to = (target, PORTS[self.rng.below(2) as usize]);
        self.note(format!("{instance} dials {}:{}", to.0, to.1));
        self.dial(runner, port, to).map(drop)
    }

    /// Data on a standing connection.
    fn talk(&mut self) -> Result<(), Failure> {
        let Some((runner, port, _)) = self.some_host() else { return Ok(()) };
        let Some(host) = self.runners.get(&runner).and_then(|r| r.hosts.get(&port)) else { return Ok(()) };
        let open = host.connections.iter().filter(|(_, c)| c.calls && c.phase == Phase::Open);
        let ends: Vec<_> = open.map(|(ends, _)| *ends).take(3).collect();
        ends.into_iter().try_for_each(|ends| self.ask(runner, port, ends))
    }

    /// A packet from an address that isn't the sender's, or a SYN from a service address.
    fn forge(&mut self) -> Result<(), Failure> {
        let Some((runner, port, instance)) = self.some_host() else { return Ok(()) };
        let own = self.runners.get(&runner).and_then(|r| r.hosts.get(&port)).map(|h| h.address);
        let mut addresses: Vec<Ipv4Addr> = self.hosts().map(|(_, host)| host.address).collect();
        addresses.extend(self.service_addresses().values());
        let (Some(source), Some(target)) = (self.rng.pick(&addresses).copied(), self.rng.pick(&addresses).copied())
        else {
            return Ok(());
        };
        if Some(source) == own {
            return Ok(());
        }
        self.note(format!("{instance} forges {source}"));
        let flags = if self.rng.chance(50) { SYN } else { SYN | FIN };
        let data = Some(Tcp::FORGED);
        self.transmit(
            runner,
            port,
            Tcp { source: (source, 1), destination: (target, PORTS[0]), sequence: 9, acknowledgment: 0, flags, data },
        )
    }

    fn cut(&mut self) {
        let (Some(a), Some(b)) = (self.some_runner(), self.some_runner()) else { return };
        let (a, b) = (self.runners[&a].address, self.runners[&b].address);
        self.note(format!("nothing passes between {a} and {b}"));
        self.network.cut.insert((a.min(b), a.max(b)));
    }

    fn roam(&mut self) {
        let Some(id) = self.some_runner() else { return };
        let address = self.fresh_address();
        self.note(format!("{id} moves to {address}"));
        if let Some(runner) = self.runners.get_mut(&id) {
            runner.address = address;
        }
        self.endpoints(id);
    }

    fn lose_stream(&mut self) {
        let Some(id) = self.some_runner() else { return };
        self.note(format!("{id} loses its stream"));
        if let Some(runner) = self.runners.get_mut(&id) {
            runner.sent = Sent { view: None, stream: runner.sent.stream + 1 };
        }
        self.publish([id]);
    }

    /// An hour without the coordinator.
    pub(crate) fn hour_away(&mut self, roams: Option<RunnerId>) -> Result<(), Failure> {
        for _ in 0..5 {
            match self.rng.below(4) {
                0 => self.restart_agent()?,
                1 => self.move_alone(roams)?,
                2 => self.restart_container()?,
                _ => self.connect()?,
            }
            self.mark();
            self.run_until(self.now + Duration::from_secs(600))?;
        }
        self.settle_and_probe()
    }

    /// A runner's address changes, and only the runner itself can announce it. (Two runners that both move without
    /// contact in between can't find each other.)
    fn move_alone(&mut self, runner: Option<RunnerId>) -> Result<(), Failure> {
        let Some(id) = runner else { return Ok(()) };
        let address = self.fresh_address();
        self.note(format!("{id} moves to {address} unannounced"));
        if let Some(runner) = self.runners.get_mut(&id) {
            runner.address = address;
        }
        self.engine(id, |engine, _| engine.handle_address_change())
    }

    /// A container ends, and another one of its service replaces it, as an agent does while the coordinator is away.
    fn restart_container(&mut self) -> Result<(), Failure> {
        let Some((runner, port, instance)) = self.some_host() else { return Ok(()) };
        let Some(host) = self.host(runner, port).filter(|host| !host.ended) else { return Ok(()) };
        let (service, address, draining, release) = (host.service, host.address, host.draining, host.release);
        self.note(format!("{instance}'s container on {runner} is restarted"));
        if let Some(runner) = self.runners.get_mut(&runner) {
            runner.hosts.remove(&port);
        }
        let now = self.instant();
        self.ending(runner, |engine, said| engine.handle_detach(port, now, said))?;
        let port = Port(self.next_port);
        self.next_port += 1;
        if let Some(runner) = self.runners.get_mut(&runner) {
            runner.engine.handle_attach(port, instance);
            let mut host = Host::new(instance, service, address, port);
            (host.draining, host.release) = (draining, release);
            runner.hosts.insert(port, host);
        }
        Ok(())
    }

    pub(crate) fn restart_coordinator(&mut self) {
        self.note("the coordinator restarts".to_owned());
        let records: Vec<Record> = self.state.records().collect();
        self.state = State::load(self.state.revision(), records).expect("what was a state is one still");
        self.epoch.0[0] = self.epoch.0[0].wrapping_add(1);
        for runner in self.runners.values_mut() {
            runner.sent = Sent { view: None, stream: runner.sent.stream + 1 };
        }
        let all: Vec<_> = self.runners.keys().copied().collect();
        self.publish(all);
    }

    /// An agent is replaced. The new one finds the TUNs, the view, and the addresses of the other runners.
    fn restart_agent(&mut self) -> Result<(), Failure> {
        let Some(id) = self.some_runner() else { return Ok(()) };
        self.note(format!("{id}'s agent restarts"));
        let (seed, now) = (self.rng.bytes(), self.instant());
        let others: Vec<_> = self.runners.iter().filter(|(o, _)| **o != id).map(|(o, r)| (*o, r.address)).collect();
        others.iter().try_for_each(|(other, _)| self.forget(*other, id))?;
        let (bug, records) = (self.bug, self.records());
        let Some(runner) = self.runners.get_mut(&id) else { return Ok(()) };
        // The old one ends first and leaves its memory.
        runner.engine = Engine::new(runner.key.clone(), seed, Box::new(vec![]), now);
        if bug == Some(Bug::PinLost) {
            runner.pins.lose();
        }
        runner.engine = Engine::new(runner.key.clone(), seed, runner.pins.lend(records), now);
        runner.hosts.iter().for_each(|(port, host)| runner.engine.handle_attach(*port, host.instance));
        others.iter().for_each(|(other, address)| runner.engine.handle_known_endpoint(*other, *address));
        self.bring_into_force(id)
    }
}
