//! Hostile instances, and a hostile runner: they send anything, with numbers that they can't know, singly and in
//! floods. No other instance must notice (`checks.rs`).

use mesh_engine::Port;
use mesh_proto::{InstanceId, Ports, Record, RunnerId, View, view::Grant};

use crate::{
    Failure,
    bug::Bug,
    host::End,
    packet::{ACK, FIN, RST, SYN, Tcp, VNET},
    reference::Service,
    world::{PORTS, SERVICES, World},
};

/// The service of each deployment whose instances are hostile.
pub(crate) const HOSTILE: usize = SERVICES - 1;

/// The most segments of a flood: twice what one instance may have of a simulated engine's table.
const FLOOD: u64 = 2048;

/// Whether a service's instances are hostile, in a world with hostile ones.
pub(crate) const fn is_hostile(service: Service) -> bool {
    service.1 == HOSTILE
}

/// The view of a runner that allows everything.
pub(crate) fn lawless(view: &View) -> View {
    let mut lawless = view.clone();
    let deployments: Vec<_> = view.deployments().map(|deployment| deployment.id).collect();
    for callee in view.services().map(|service| service.id) {
        for caller in &deployments {
            lawless.put(Record::Grant(Grant { caller: *caller, callee, ports: Ports::All }.into()));
        }
    }
    lawless
}

impl World {
    /// The runner that a hostile program replaces.
    pub(crate) fn is_hostile_runner(&self, id: RunnerId) -> bool {
        self.hostile && self.runners.keys().next_back() == Some(&id)
    }

    /// One or several hostile instances send anything.
    pub(crate) fn assault(&mut self) -> Result<(), Failure> {
        let all: Vec<_> = self.hosts().filter(|(_, host)| is_hostile(host.service)).collect();
        let all: Vec<_> = all.into_iter().map(|(id, host)| (id, host.port, host.instance)).collect();
        let count = 1 + self.rng.below(3);
        for _ in 0..count {
            let Some((runner, port, instance)) = self.rng.pick(&all).copied() else { return Ok(()) };
            if self.rng.chance(10) {
                self.flood(runner, port, instance)?;
            } else {
                self.note(format!("{instance} sends what it likes"));
                for _ in 0..1 + self.rng.below(30) {
                    let bytes = self.anything(runner, port);
                    self.write(runner, port, bytes)?;
                }
            }
        }
        Ok(())
    }

    /// The same segment from many ports.
    fn flood(&mut self, runner: RunnerId, port: Port, instance: InstanceId) -> Result<(), Failure> {
        let Some(first) = self.a_segment(runner, port) else { return Ok(()) };
        let count = 1 + self.rng.below(FLOOD);
        self.note(format!("{instance} sends {count} times {first:?}"));
        let before = self.trace.len();
        for n in 0..count {
            let source = (first.source.0, (n as u16).wrapping_add(1024));
            self.write(runner, port, Tcp { source, ..first }.to_bytes())?;
        }
        self.trace.truncate(before);
        Ok(())
    }

    /// A read of a TUN: a segment, a damaged one, a super-packet, or an ICMP error about another instance's packet.
    fn anything(&mut self, runner: RunnerId, port: Port) -> Vec<u8> {
        let Some(segment) = self.a_segment(runner, port) else { return vec![] };
        let mut bytes = segment.to_bytes();
        match self.rng.below(20) {
            0 => {
                let at = self.rng.below(bytes.len() as u64) as usize;
                bytes[at] = self.rng.below(256) as u8;
            }
            1 => {
                bytes.resize(bytes.len() + 5000, 0);
                let total = (bytes.len() - VNET) as u16;
                bytes[VNET + 2..VNET + 4].copy_from_slice(&total.to_be_bytes());
                (bytes[0], bytes[1]) = (1, 1);
                bytes[4..6].copy_from_slice(&(1 + self.rng.below(2000) as u16).to_ne_bytes());
            }
            2 => {
                let quoted = bytes.split_off(VNET);
                let (from, to) = (segment.source.0, segment.destination.0);
                let mut icmp = vec![0x45, 0, 0, 28 + quoted.len() as u8, 0, 0, 0x40, 0, 64, 1, 0, 0];
                icmp.extend(from.octets().into_iter().chain(to.octets()));
                icmp.extend([3, self.rng.below(16) as u8, 0, 0, 0, 0, 0, 0]);
                bytes.extend([icmp, quoted].concat());
            }
            _ => {}
        }
        bytes
    }

    /// A segment of an instance, or with another one's address, between existing ends.
    fn a_segment(&mut self, runner: RunnerId, port: Port) -> Option<Tcp> {
        let own = self.host(runner, port)?.address;
        let mut addresses: Vec<_> = self.hosts().map(|(_, host)| host.address).collect();
        addresses.extend(self.service_addresses().values());
        // Ends of standing connections with their numbers, as if it had intercepted everything.
        let mut known: Vec<(End, End, u32, u32)> = vec![];
        for (_, host) in self.hosts() {
            known.extend(host.connections.iter().map(|((ours, theirs), c)| (*ours, *theirs, c.sends(), c.expects())));
        }
        let known = if self.rng.chance(60) { self.rng.pick(&known).copied() } else { None };
        let ports = [PORTS[0], PORTS[1], 30_001, 40_000, 1];
        let a_port = |world: &mut Self| ports[world.rng.below(ports.len() as u64) as usize];
        let (from, to) = (a_port(self), a_port(self));
        let any = self.rng.pick(&addresses).copied()?;
        let sequence = self.rng.below(1 << 32) as u32;
        let (mut source, destination, sequence, acknowledgment) =
            known.unwrap_or(((own, from), (any, to), sequence, sequence.wrapping_mul(7)));
        // Its own address or its service's: packets from others are dropped at once.
        let honest = if self.bug == Some(Bug::SourceBelieved) { 10 } else { 90 };
        if self.rng.chance(honest) {
            let service = self.host(runner, port)?.service;
            let of_service = self.service_addresses().get(&service).copied();
            source.0 = if self.rng.chance(30) { of_service.unwrap_or(own) } else { own };
        }
        let all = [SYN, SYN | ACK, ACK, ACK, RST, RST | ACK, FIN | ACK, 0, SYN | FIN, 0xff];
        let flags = all[self.rng.below(all.len() as u64) as usize];
        Some(Tcp { source, destination, sequence, acknowledgment, flags, data: None })
    }

    fn write(&mut self, runner: RunnerId, port: Port, mut bytes: Vec<u8>) -> Result<(), Failure> {
        if self.bug == Some(Bug::SourceBelieved) {
            // The verdict is ignored.
            let read = crate::packet::read(&bytes);
            let crate::packet::Read::Tcp(segment) = read else { return Ok(()) };
            let to = self.hosts().find(|(_, host)| host.address == segment.destination.0);
            let Some((at, to)) = to.map(|(at, host)| (at, host.port)) else { return Ok(()) };
            if let Some(answer) = self.host(at, to).and_then(|host| host.receive(read)) {
                self.transmit(at, to, answer)?;
            }
        }
        let now = self.instant();
        self.engine(runner, |engine, said| {
            engine.handle_tun(port, &mut bytes, now, said);
            engine.flush(said);
        })
    }
}
