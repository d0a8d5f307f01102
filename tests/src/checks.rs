//! The checks.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

use mesh_engine::Port;
use mesh_proto::{
    RunnerId,
    rules::{Segment, verdict},
};

use crate::{
    Failure,
    host::{End, Host, Phase},
    hostile::is_hostile,
    packet::{self, Read, Tcp},
    reference::{Service, may_answer},
    world::{PORTS, World},
};

/// How many connections of one instance are tried beside hostile ones: as many of a table of 4,095 as 1,000 are of the
/// real one.
const PROMISED: usize = 15;

impl World {
    /// *Safety*: the reference verdict allows every delivered packet, by the view in force at the receiver.
    pub(crate) fn check_safety(&mut self, id: RunnerId, port: Port, read: Read) -> Result<(), Failure> {
        let Read::Tcp(segment) = read else { return Ok(()) };
        self.note(format!("{id} delivers {segment:?}"));
        if segment.data == Some(Tcp::FORGED) {
            return Err(self.failure(format!("a forged packet arrived: {segment:?}")));
        }
        if segment.flags & packet::RST != 0 {
            return Ok(()); // refusals are the runners' own
        }
        if self.is_hostile_runner(id) {
            return Ok(()); // what reaches it is its own affair
        }
        let Some(runner) = self.runners.get(&id) else { return Ok(()) };
        let (Some(view), Some(host)) = (&runner.agent.view, runner.hosts.get(&port)) else {
            return Err(self.failure(format!("delivered without a view or a host: {segment:?}")));
        };
        let owner = |address| {
            let of_instance = view.instances().find(|i| i.address == address).map(|i| i.service);
            of_instance.or_else(|| view.services().find(|s| s.address == address).map(|s| s.id))
        };
        let (source, destination) = (owner(segment.source.0), owner(segment.destination.0));
        let meant =
            Segment { source_port: segment.source.1, destination_port: segment.destination.1, opens: segment.opens() };
        let (Some(source), Some(destination)) = (source, destination) else {
            return Err(self.failure(format!("between addresses that the view doesn't hold: {segment:?}")));
        };
        if let Err(denial) = verdict(view, source, destination, meant) {
            return Err(self.failure(format!("{denial}, and yet it was delivered: {segment:?}")));
        }
        if view.instance(host.instance).is_none_or(|i| i.service != destination) {
            return Err(self.failure(format!("delivered to {}, whose it isn't: {segment:?}", host.instance)));
        }
        Ok(())
    }

    /// Notes the connections whose right or whose other end is gone: they may be reset from now on.
    pub(crate) fn mark(&mut self) {
        let ends: BTreeMap<(End, End), Vec<u32>> = self.all_ends();
        let gone: BTreeSet<(End, End)> = self
            .hosts()
            .flat_map(|(_, host)| host.connections.iter().map(move |(ends, connection)| (host, *ends, connection)))
            .filter(|(host, (ours, theirs), connection)| {
                let other = ends.get(&(*theirs, *ours));
                let is_there = other.is_some_and(|of| of.contains(&connection.theirs));
                let opens = matches!(connection.phase, Phase::Asking | Phase::Answering);
                let allowed = match connection.calls {
                    true => self.reference.may_open(host.service, connection.service, theirs.1),
                    // The caller's end has the exact state.
                    false => true,
                };
                !allowed || !(is_there || opens) || host.ended
            })
            .map(|(_, ends, _)| ends)
            .collect();
        for host in self.runners.values_mut().flat_map(|runner| runner.hosts.values_mut()) {
            for (ends, connection) in &mut host.connections {
                connection.doomed |= gone.contains(ends) || gone.contains(&(ends.1, ends.0));
            }
        }
    }

    /// The owners of connections' ends, by their initial sequence numbers.
    fn all_ends(&self) -> BTreeMap<(End, End), Vec<u32>> {
        let mut all: BTreeMap<(End, End), Vec<u32>> = BTreeMap::new();
        for (_, host) in self.hosts() {
            for (ends, connection) in host.connections.iter().filter(|(_, c)| c.phase != Phase::Reset) {
                all.entry(*ends).or_default().push(connection.ours);
            }
        }
        all
    }

    /// *Liveness*: on a calm network every instance dials every service on both ports. *Persistence*: an allowed
    /// connection stands. *Revocation*: a forbidden one is reset at its remaining ends, idle or not.
    pub(crate) fn settle_and_probe(&mut self) -> Result<(), Failure> {
        self.note("calm".to_owned());
        self.mark();
        self.network.rough = false;
        self.network.cut.clear();
        // Long enough to find a runner that was cut off or has moved, for attempts to end, and for their records to be
        // forgotten.
        self.run_until(self.now + Duration::from_secs(80))?;
        self.check_standing()?;
        self.probe()?;
        if self.hostile {
            self.probe_number()?;
        } else {
            self.check_memory()?;
        }
        self.network.rough = true;
        Ok(())
    }

    fn check_standing(&mut self) -> Result<(), Failure> {
        self.mark();
        let rejected = self.rejected();
        let all = self.all_ends();
        let mut asked = vec![];
        // Connections of hostile instances don't matter, whatever the other end is.
        let hostile: BTreeSet<Ipv4Addr> = self.hostile_addresses();
        let list: Vec<_> = self
            .hosts()
            .filter(|(_, host)| !hostile.contains(&host.address))
            .flat_map(|(id, host)| {
                host.connections.iter().map(move |(ends, c)| (id, host.port, host.service, *ends, c.clone()))
            })
            .collect();
        for (id, port, service, ends, connection) in list {
            let (ours, theirs) = ends;
            if hostile.contains(&theirs.0) {
                continue;
            }
            let right = match connection.calls {
                true => self.reference.may_open(service, connection.service, theirs.1),
                false => true,
            };
            let other = all.get(&(theirs, ours)).is_some_and(|of| of.contains(&connection.theirs));
            match connection.phase {
                Phase::Reset if connection.doomed || !connection.refusals.is_empty() => {}
                Phase::Reset if connection.calls => {
                    return Err(self.failure(format!("{ends:?} was reset on {id} without a reason: {connection:?}")));
                }
                Phase::Open if !right => {
                    return Err(
                        self.failure(format!("{ends:?} hangs on {id}, though the right is gone: {connection:?}"))
                    );
                }
                Phase::Open if connection.calls => asked.push((id, port, ends, other)),
                _ => {}
            }
        }
        for (id, port, ends, _) in &asked {
            self.ask(*id, *port, *ends)?;
        }
        self.run_until(self.now + Duration::from_secs(10))?;
        for (id, port, ends, other) in asked {
            let rejected_since = self.rejected() > rejected;
            let Some(now) = self.host(id, port).and_then(|host| host.connections.get(&ends).cloned()) else { continue };
            let well = match (now.phase, other) {
                (Phase::Open, true) => now.answers > 0 || rejected_since,
                // An end that sends notices that the other end is gone.
                (Phase::Reset, false) => true,
                (Phase::Reset, true) => now.doomed,
                _ => rejected_since,
            };
            if !well {
                return Err(self.failure(format!("{ends:?} on {id}, whose other end is there: {other}: {now:?}")));
            }
        }
        Ok(())
    }

    /// The addresses of hostile instances and of their services.
    fn hostile_addresses(&self) -> BTreeSet<Ipv4Addr> {
        let of_services = self.service_addresses().into_iter().filter(|(service, _)| is_hostile(*service));
        let of_instances = self.hosts().filter(|(_, host)| is_hostile(host.service)).map(|(_, host)| host.address);
        let all = of_instances.chain(of_services.map(|(_, address)| address));
        if self.hostile { all.collect() } else { BTreeSet::new() }
    }

    /// *Fairness*: beside hostile instances an instance opens as many connections as promised.
    fn probe_number(&mut self) -> Result<(), Failure> {
        let rejected = self.rejected();
        let services = self.service_addresses();
        let hosts: Vec<_> =
            self.hosts().map(|(id, h)| (id, h.port, h.service, h.ended || h.draining || h.refuses)).collect();
        let pair = hosts.iter().filter(|(.., service, ended)| !is_hostile(*service) && !ended).find_map(|caller| {
            let may = |callee: &Service| {
                let takes = || hosts.iter().filter(|(.., service, _)| service == callee);
                !is_hostile(*callee)
                    && *callee != caller.2
                    && self.reference.may_open(caller.2, *callee, PORTS[0])
                    && takes().next().is_some()
                    && takes().all(|(.., away)| !away)
            };
            let (_, address) = services.iter().find(|(service, _)| may(service))?;
            Some((caller.0, caller.1, *address))
        });
        let Some((runner, port, address)) = pair else { return Ok(()) };
        let mut opened = vec![];
        for _ in 0..PROMISED {
            opened.extend(self.dial(runner, port, (address, PORTS[0]))?);
        }
        self.run_until(self.now + Duration::from_secs(20))?;
        let Some(host) = self.host(runner, port) else { return Ok(()) };
        let is_open = |ends: &&(End, End)| host.connections.get(*ends).is_some_and(|c| c.phase == Phase::Open);
        let count = opened.iter().filter(is_open).count();
        if count < PROMISED && self.rejected() == rejected {
            return Err(self.failure(format!("{count} of {PROMISED} connections that were promised, on {runner}")));
        }
        for ends in opened {
            if let Some(reset) = self.host(runner, port).and_then(|host| host.abort(ends)) {
                self.transmit(runner, port, reset)?;
            }
        }
        self.run_until(self.now + Duration::from_secs(1))
    }

    fn probe(&mut self) -> Result<(), Failure> {
        let rejected = self.rejected();
        let addresses = self.service_addresses();
        let hosts: Vec<_> =
            self.hosts().map(|(id, h)| (id, h.port, h.service, h.ended, h.draining, h.refuses)).collect();
        let mut probes = Vec::new();
        let spared = |service: Service| !self.hostile || !is_hostile(service);
        let callers: Vec<_> = hosts.iter().filter(|(_, _, service, ..)| spared(*service)).copied().collect();
        let callees: Vec<_> = addresses.into_iter().filter(|(service, _)| spared(*service)).collect();
        for (runner, port, caller, ended, ..) in &callers {
            for (callee, address) in &callees {
                for dialled in PORTS {
                    if let Some(ends) = self.dial(*runner, *port, (*address, dialled))? {
                        probes.push((*runner, *port, *caller, *ended, *callee, dialled, ends));
                    }
                }
            }
        }
        self.run_until(self.now + Duration::from_secs(20))?;
        let mut opened = vec![];
        for (runner, port, caller, ended, callee, dialled, ends) in probes {
            if caller == callee {
                continue; // in a kernel this never leaves the namespace
            }
            let Some(heard) = self.host(runner, port).and_then(|host| host.connections.get(&ends).cloned()) else {
                continue;
            };
            let of_callee =
                || hosts.iter().filter(|(_, _, service, ended, draining, _)| *service == callee && !ended && !draining);
            let expected = match self.reference.may_open(caller, callee, dialled) {
                // It has no address any more, so its packets are forged.
                _ if ended => (false, vec![]),
                true if of_callee().any(|(.., refuses)| !refuses) => (true, vec![]),
                true if of_callee().next().is_some() => (false, vec![None]),
                true => (false, vec![Some(1)]),
                false => (false, vec![Some(13)]),
            };
            // On a calm network nothing is repeated: a rejected replay is an artefact of the clocks (see
            // `World::forget`), of a tunnel that one end has made anew while the other still has the old one.
            let connected = heard.phase == Phase::Open;
            let delayed = expected.0 && heard.refusals.is_empty() && self.rejected() > rejected;
            if !delayed && (connected, &heard.refusals) != (expected.0, &expected.1) {
                let what =
                    format!("{caller:?} on {runner} dialled {callee:?}:{dialled}: {heard:?} instead of {expected:?}");
                return Err(self.failure(what));
            }
            if connected {
                opened.push((runner, port, ends));
                self.check_release(runner, port, ends)?;
            }
        }
        for (runner, port, ends) in opened {
            if let Some(reset) = self.host(runner, port).and_then(|host| host.abort(ends)) {
                self.transmit(runner, port, reset)?;
            }
        }
        self.run_until(self.now + Duration::from_secs(1))
    }

    /// *Releases*: on a calm network a release of a deployment calls itself where it is there.
    fn check_release(&mut self, runner: RunnerId, port: Port, (ours, theirs): (End, End)) -> Result<(), Failure> {
        let Some(caller) = self.runners.get(&runner).and_then(|runner| runner.hosts.get(&port)) else { return Ok(()) };
        let Some(connection) = caller.connections.get(&(ours, theirs)).cloned() else { return Ok(()) };
        let (calls, callee) = ((caller.service, caller.release), connection.service);
        let there: Vec<_> = self.hosts().map(|(_, host)| host).filter(|host| host.service == callee).collect();
        let has_it = |host: &Host| host.connections.get(&(theirs, ours)).is_some_and(|c| c.ours == connection.theirs);
        let Some(answers) = there.iter().find(|host| has_it(host)).map(|host| host.release) else { return Ok(()) };
        // Refusing instances and silent runners are passed by.
        let all_well =
            there.iter().all(|host| !host.refuses) && !self.state.active_runners().any(|runner| runner.silent);
        let live: Vec<_> = there.iter().filter(|host| !host.ended && !host.draining).map(|host| host.release).collect();
        if all_well && !self.hostile && !may_answer(calls, callee, answers, &live) {
            let what = format!("{calls:?} on {runner} reached release {answers:?} of {callee:?}, which has {live:?}");
            return Err(self.failure(what));
        }
        Ok(())
    }

    /// *Memory*: an engine follows no more connections than there are.
    fn check_memory(&mut self) -> Result<(), Failure> {
        let all = self.all_ends();
        for (id, runner) in &self.runners {
            let followed = runner.engine.report(self.instant()).connections;
            // Both ends of a connection within the runner are one connection.
            let ends = runner.hosts.values().flat_map(|host| host.connections.iter());
            let there = ends.filter(|(_, c)| c.phase != Phase::Reset).count();
            // Failed attempts are remembered for a while.
            let attempts = 4 * runner.hosts.len() * all.len().min(16) + 64;
            if followed > there + attempts {
                let what = format!("{id} follows {followed} connections, and there are {there}");
                return Err(self.failure(what));
            }
        }
        Ok(())
    }
}
