//! How datagrams get from engine to engine: directly, or by the runner's own client of a relay.

use std::net::{IpAddr, SocketAddr};

use mesh_engine::{Datagrams, Engine, Event, HEADROOM, Hop, Port, Sink};
use mesh_proto::{RelayId, relay::Relayed};

use super::{
    Bug,
    places::{RELAY, TUNNEL, Taker, Way},
    world::{Carrier, MTU, OnItsWay, What, World},
};
use crate::{
    Failure,
    nat::Ends,
    pair::{Told, map},
    relay::{Access, Answer, Numbered, Request},
};

/// IPv4 and UDP.
const OUTER: usize = 28;

/// The first byte of an initiation, and of data (WireGuard §5.4).
const INITIATION: u8 = 1;
const DATA: u8 = 4;

/// Longer datagrams are data, except for those that must stay whole: short pings, keepalives and acknowledgements are
/// shorter.
const SHORT: usize = 200;

/// The effects of an engine.
#[derive(Default)]
pub(super) struct Said {
    datagrams: Vec<(Hop, Vec<u8>, bool)>,
    pub(super) packets: Vec<Vec<u8>>,
    /// Relays at which it needs an allocation.
    needed: Vec<RelayId>,
}

impl Sink for Said {
    fn send(&mut self, to: SocketAddr, batch: &[u8], stride: usize) {
        self.datagrams.extend(batch.chunks(stride).map(|datagram| (to.into(), datagram.to_vec(), false)));
    }

    fn send_whole(&mut self, _: Option<IpAddr>, to: SocketAddr, datagram: &[u8]) {
        self.datagrams.push((to.into(), datagram.to_vec(), true));
    }

    fn send_relayed(&mut self, relay: RelayId, peer: SocketAddr, batch: &mut [u8], stride: usize, whole: bool) {
        let hop = Hop::Relayed { relay, peer };
        self.datagrams.extend(batch.chunks(stride).map(|datagram| (hop, datagram[HEADROOM..].to_vec(), whole)));
    }

    fn deliver(&mut self, _: Port, packet: &[u8]) {
        self.packets.push(packet.to_vec());
    }

    fn event(&mut self, event: Event) {
        if let Event::NeedRelay { relay, .. } = event {
            self.needed.push(relay);
        }
    }
}

impl World {
    /// Calls a runner's engine, and passes on its effects.
    pub(super) fn engine(&mut self, runner: usize, action: impl FnOnce(&mut Engine, &mut Said)) -> Result<(), Failure> {
        let mut said = Said::default();
        let engine = &mut self.runners[runner].engine;
        action(engine, &mut said);
        engine.flush(&mut said);
        for (hop, bytes, whole) in said.datagrams {
            self.see(runner, hop, &bytes, whole);
            match hop {
                Hop::Direct(to) => self.send(runner, to, bytes, whole),
                Hop::Relayed { relay, peer } => {
                    let now = self.now;
                    self.runners[runner].clients[relay.0 as usize].send(peer, bytes, now);
                    self.flush_clients(runner);
                }
            }
        }
        for relay in said.needed {
            self.visit(runner, relay);
        }
        said.packets.into_iter().try_for_each(|packet| self.delivered(runner, &packet))
    }

    /// A runner needs an allocation at a relay, as the engine says.
    fn visit(&mut self, runner: usize, relay: RelayId) {
        let now = self.now;
        let first = self.runners[runner].other.relayed.first();
        if self.bug == Some(Bug::FirstRelayOnly) && first.is_none_or(|first| first.relay != relay) {
            return;
        }
        if self.runners[runner].clients.get_mut(relay.0 as usize).is_some_and(|client| client.visit(now)) {
            self.note(&format!("{runner} visits {relay}"));
            self.flush_clients(runner);
        }
    }

    /// Notes what an engine has sent.
    fn see(&mut self, runner: usize, hop: Hop, bytes: &[u8], whole: bool) {
        // Pings are what may not be fragmented.
        if self.old == Some(1 - runner) && (whole || hop.is_relayed()) {
            self.seen.unknown = Some(hop);
        }
        // (A handshake is no meeting.)
        if matches!(hop, Hop::Direct(_)) && bytes[0] == DATA {
            self.seen.knocks.push((self.now, runner));
        }
        match bytes[0] {
            INITIATION => {
                if self.seen.initiations.insert(bytes.to_vec()) {
                    self.note(&format!("{runner} makes an initiation"));
                }
                self.note(&format!("{runner} sends it to {hop}"));
            }
            DATA if bytes.len() > SHORT && !whole => {
                let carrier = match hop {
                    Hop::Direct(to) => Carrier::Direct(to),
                    Hop::Relayed { relay, .. } => Carrier::Relay(relay.0),
                };
                let before = self.seen.carriers[runner].replace(carrier);
                if before != Some(carrier) {
                    self.note(&format!("data of {runner} goes to {hop}"));
                }
                if before.is_some_and(|before| before != carrier) {
                    self.seen.changes.push((self.now, runner, carrier));
                }
            }
            DATA if bytes.len() <= SHORT && hop.direct().is_some() => {
                self.note(&format!("{runner} sends {} bytes to {hop}", bytes.len()));
            }
            _ => {}
        }
    }

    /// A runner sends a datagram to an address.
    fn send(&mut self, runner: usize, to: SocketAddr, bytes: Vec<u8>, whole: bool) {
        let is_long = bytes.len() + OUTER > self.longest && !(whole && self.bug == Some(Bug::LongPingsPass));
        if is_long || self.rng.chance(self.loss[runner]) {
            self.seen.lost += 1;
            return;
        }
        self.leave(runner, to, What::Tunnel(bytes));
    }

    fn leave(&mut self, runner: usize, to: SocketAddr, what: What) {
        match self.places.leave(runner, to, self.now) {
            Some(Way::Internet(ends, delay)) => self.after(delay, OnItsWay::Internet(ends, what)),
            Some(Way::Here(to, ends, delay)) => self.after(delay, OnItsWay::Here(to, ends, what)),
            None => {}
        }
    }

    /// The next of what is on its way arrives.
    pub(super) fn arrive(&mut self) -> Result<(), Failure> {
        let Some((_, event)) = self.queue.pop_first() else { return Ok(()) };
        match event {
            OnItsWay::Internet(ends, what) => match (self.places.arrive(ends, self.now), what) {
                (Some(Taker::Runner(runner, ends)), what) => self.receive(runner, ends, what),
                (Some(Taker::Relay(relay, ends)), What::Request(client, request)) => {
                    self.ask(relay, client, Access::Udp(ends.from), request);
                    Ok(())
                }
                _ => Ok(()),
            },
            OnItsWay::Here(runner, ends, what) => {
                if ends.to.port() == TUNNEL {
                    self.receive(runner, ends, what)
                } else {
                    Ok(())
                }
            }
            OnItsWay::ToRelay { relay, client, connection, request } => {
                self.ask(relay, client, Access::Tcp { client, connection }, request);
                Ok(())
            }
            OnItsWay::ToClient { relay, client, connection, answer } => {
                let runner = &self.runners[client];
                if runner.tcp && runner.clients[relay].connection == connection {
                    return self.answered(client, relay, answer);
                }
                Ok(())
            }
            OnItsWay::Told { by, told } => {
                self.runners[1 - by].other = told;
                self.remap(1 - by)
            }
        }
    }

    fn receive(&mut self, runner: usize, ends: Ends, what: What) -> Result<(), Failure> {
        match what {
            What::Tunnel(bytes) => self.give(runner, ends.from.into(), Some(ends.to.ip()), &bytes, 0),
            What::Answer(relay, answer) => self.answered(runner, relay, answer),
            What::Request(..) => Ok(()),
        }
    }

    fn give(
        &mut self,
        runner: usize,
        from: Hop,
        local: Option<IpAddr>,
        bytes: &[u8],
        skip: usize,
    ) -> Result<(), Failure> {
        let now = self.instant();
        let received = Datagrams { from, local, bytes, stride: bytes.len(), skip };
        self.engine(runner, |engine, said| engine.handle_udp(&received, now, said))
    }

    // === Relays ===

    /// A relay gets a request.
    fn ask(&mut self, relay: usize, client: usize, from: Access, request: Numbered<Request>) {
        let Some((to, answer)) = self.relays[relay].handle(client, from, request) else { return };
        match to {
            Access::Udp(to) => {
                let (addresses, _) = &self.places.relays[relay];
                let own = addresses.iter().find(|own| own.is_ipv4() == to.is_ipv4());
                let Some(own) = own.copied() else { return };
                let Some(delay) = self.places.delay_from_relay(relay, to.ip()) else { return };
                let ends = Ends { from: (own, RELAY).into(), to };
                self.after(delay, OnItsWay::Internet(ends, What::Answer(relay, answer)));
            }
            Access::Tcp { client, connection } => {
                let delay = self.places.delay(client) + self.places.relays[relay].1;
                self.at(self.now + delay, OnItsWay::ToClient { relay, client, connection, answer });
            }
        }
    }

    /// A client gets an answer, or a datagram for its runner.
    fn answered(&mut self, runner: usize, relay: usize, answer: Numbered<Answer>) -> Result<(), Failure> {
        let now = self.now;
        let client = &mut self.runners[runner].clients[relay];
        if let Answer::Data { from, bytes } = answer.what {
            client.heard();
            let hop = Hop::Relayed { relay: RelayId(relay as u64), peer: from };
            let framed = [&[0; HEADROOM], &bytes[..]].concat();
            return self.give(runner, hop, None, &framed, HEADROOM);
        }
        if self.bug == Some(Bug::RelayDeathUnnoticed) && matches!(answer.what, Answer::Mismatch | Answer::Closed) {
            return Ok(());
        }
        let change = client.handle(&answer, now);
        self.flush_clients(runner);
        if change.is_some() { self.allocations_changed(runner) } else { Ok(()) }
    }

    /// Sends what the clients of a runner have to send.
    pub(super) fn flush_clients(&mut self, runner: usize) {
        for relay in 0..self.runners[runner].clients.len() {
            while let Some(request) = self.runners[runner].clients[relay].out.pop_front() {
                let (addresses, near) = self.places.relays[relay].clone();
                if self.runners[runner].tcp {
                    let connection = self.runners[runner].clients[relay].connection;
                    let delay = self.places.delay(runner) + near;
                    self.at(self.now + delay, OnItsWay::ToRelay { relay, client: runner, connection, request });
                    continue;
                }
                let seat = &self.places.seats[runner];
                if let Some(to) = addresses.into_iter().find(|to| seat.own(*to).is_some()) {
                    self.leave(runner, (to, RELAY).into(), What::Request(runner, request));
                }
            }
        }
    }

    /// A runner has other allocations: its engine is told, and the coordinator.
    pub(super) fn allocations_changed(&mut self, runner: usize) -> Result<(), Failure> {
        let now = self.instant();
        let clients = self.runners[runner].clients.iter().enumerate();
        let live: Vec<(RelayId, SocketAddr)> =
            clients.filter_map(|(relay, client)| Some((RelayId(relay as u64), client.relayed()?))).collect();
        let relays: Vec<RelayId> = live.iter().map(|(relay, _)| *relay).collect();
        if self.runners[runner].relays != relays {
            self.note(&format!("{runner} has allocations: {live:?}"));
            self.runners[runner].relays.clone_from(&relays);
            self.engine(runner, |engine, _| engine.handle_relays(&relays, now))?;
        }
        let known = &mut self.runners[runner].relayed;
        let moved = live.into_iter().fold(false, |moved, (relay, at)| {
            let before = known.insert(relay, at);
            moved || before.is_some_and(|before| before != at)
        });
        if moved {
            self.engine(runner, |engine, _| engine.handle_address_change())?;
        }
        self.tell(runner)
    }

    /// A runner's agent looks where it is, and tells it.
    pub(super) fn tell(&mut self, runner: usize) -> Result<(), Failure> {
        let mut told = Told { can: self.runners[runner].told.can, ..Told::default() };
        told.endpoints = self.places.seats[runner].addresses.iter().map(|own| (*own, TUNNEL).into()).collect();
        for (relay, client) in self.runners[runner].clients.iter().enumerate() {
            if let Some(address) = client.relayed() {
                told.relayed.push(Relayed { relay: RelayId(relay as u64), address });
            }
            let seen = client.seen().filter(|seen| !told.endpoints.contains(seen) && !told.reflexive.contains(seen));
            told.reflexive.extend(seen);
        }
        if self.bug == Some(Bug::ReflexiveAsEndpoint) {
            told.endpoints.append(&mut told.reflexive);
        }
        if self.runners[runner].told != told {
            let own = [&told.endpoints[..], &told.reflexive].concat();
            let now = self.instant();
            self.note(&format!("{runner} is at {:?}, and outside at {:?}", told.endpoints, told.reflexive));
            self.runners[runner].told = told;
            self.engine(runner, |engine, _| engine.handle_own_addresses(&own, now))?;
            self.publish(runner);
        }
        Ok(())
    }

    /// A runner gets its map.
    pub(super) fn remap(&mut self, runner: usize) -> Result<(), Failure> {
        let (own, mut other) = (self.runners[runner].told.clone(), self.runners[runner].other.clone());
        if self.old == Some(runner) {
            // It doesn't read what others can do, nor where they are at relays.
            other = Told::at(other.endpoints);
        }
        let map = map(runner, MTU, &if runner == 0 { [own, other] } else { [other, own] });
        let now = self.instant();
        self.engine(runner, |engine, said| engine.handle_map(map, now, said))
    }
}
