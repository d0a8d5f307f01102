//! The ways of packets: from a host into its runner's engine, from engine to engine, and to a host.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use mesh_engine::{Engine, Event as EngineEvent, Port, Sink};
use mesh_proto::RunnerId;

use super::World;
use crate::{
    Failure,
    bug::Bug,
    host::End,
    network::Event,
    packet::{self, Tcp},
    reference::Service,
};

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
}
