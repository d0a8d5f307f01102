//! The facade: takes what comes in to whoever deals with it.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use mesh_proto::{InstanceId, PrivateKey, RunnerId};

use self::reset::Resets;
use crate::{
    Denied, Failing, InstanceReport, Map, PeerReport, PinMemory, Port, Reason, Report, Sink, Switches,
    coalesce::Coalescer,
    denied::Denials,
    drop::Drops,
    flow::{Flows, Skips},
    homes::Homes,
    number::Numbers,
    outbox::Hop,
    peers::{Peers, Turn},
    route::{Instance, canonical},
    segment,
    timers::Waiting,
    tunnel::Identity,
};

mod choose;
mod connect;
mod from_tun;
mod from_udp;
mod keepalive;
mod refused;
mod reset;
mod unreachable;

/// The packet engine of one runner. See the crate's documentation for how it is driven.
pub struct Engine {
    map: Map,
    homes: Homes,
    flows: Flows,
    skips: Skips,
    resets: Resets,
    peers: Peers,
    inbox: Coalescer,
    waiting: Waiting,
    drops: Drops,
    denials: Denials,
    switches: Switches,
    /// When it is to be seen whether a keepalive is due; `None` while no connection stands with another runner.
    next_keepalive: Option<Instant>,
    /// The latest time that we were told.
    now: Instant,
}

impl Engine {
    /// An engine that knows nobody and lets nothing through until it is given a map. `seed` has to be random: from it
    /// come session indexes and the like. `pins` is the memory in which an earlier engine may have left its connections
    /// (best with [`crate::PIN_MEMORY`] octets); they are taken up, whatever else it holds is not.
    #[must_use]
    pub fn new(private_key: PrivateKey, seed: [u8; 32], pins: Box<dyn PinMemory>, now: Instant) -> Self {
        let mut numbers = Numbers::new(seed);
        Self {
            map: Map::nobody(),
            homes: Homes::default(),
            flows: Flows::new(pins, numbers.draw(), now),
            skips: Skips::default(),
            resets: Resets::default(),
            peers: Peers::new(Identity::new(&private_key), numbers),
            inbox: Coalescer::new(),
            waiting: Waiting::default(),
            drops: Drops::new(),
            denials: Denials::new(),
            switches: Switches::default(),
            next_keepalive: None,
            now,
        }
    }

    /// Takes in what was read from the TUN `from`: `virtio_net_hdr`, then a packet or super-packet. It may be written
    /// over. Returns of how many segments it was, which is what the work with it goes by.
    pub fn handle_tun(&mut self, from: Port, octets: &mut [u8], now: Instant, sink: &mut impl Sink) -> usize {
        self.now = now;
        let segments = segment::count(octets);
        match self.take_from_tun(from, octets, None, now, sink) {
            Ok(()) => segments,
            Err(reason) => {
                self.drops.count(reason);
                1
            }
        }
    }

    /// Takes in what was received from `from`: datagrams of `stride` octets, of which the last may be shorter.
    pub fn handle_udp(
        &mut self,
        from: SocketAddr,
        datagrams: &[u8],
        stride: usize,
        now: Instant,
        sink: &mut impl Sink,
    ) {
        self.handle_udp_at(None, from, datagrams, stride, now, sink);
    }

    /// The same, where it is known to which of the machine's addresses they were sent: answers leave from there.
    pub fn handle_udp_at(
        &mut self,
        local: Option<IpAddr>,
        from: SocketAddr,
        datagrams: &[u8],
        stride: usize,
        now: Instant,
        sink: &mut impl Sink,
    ) {
        self.now = now;
        let back = Hop { to: canonical(from), from: local.map(|local| local.to_canonical()) };
        for datagram in datagrams.chunks(stride.max(1)) {
            if let Err(reason) = self.take_from_udp(back, datagram, now, sink) {
                self.drops.count(reason);
            }
        }
    }

    /// Ends a turn: sends the datagrams and delivers the segments that were waiting for more of their kind.
    pub fn flush(&mut self, sink: &mut impl Sink) {
        self.expect_keepalives(self.now);
        self.peers.flush(sink);
        self.inbox.flush(sink);
    }

    /// Puts a map in the place of the one before. Peers that it doesn't hold are forgotten, with their keys.
    pub fn handle_map(&mut self, map: Map, now: Instant, sink: &mut impl Sink) {
        self.now = now;
        self.reset_parting(&map, now, sink);
        self.flush(sink);
        let mut turn = Turn { now, sink, drops: &mut self.drops };
        self.peers.remap(&map.route, map.mtu, &mut turn);
        let gone = self.map.route.instances.iter().filter(|instance| map.route.owner(instance.address).is_none());
        gone.for_each(|instance| self.peers.departed.addresses.note(instance.address, now));
        self.homes.resolve(&map.route);
        self.map = map;
        self.reset_broken(now, sink);
        self.flush(sink);
    }

    /// From now on `port` is the TUN of `instance`, whether the map knows it yet or not.
    pub fn attach(&mut self, port: Port, instance: InstanceId) {
        for left in self.homes.attach(port, instance, &self.map.route) {
            self.inbox.forget(left);
            self.waiting.forget(left);
        }
    }

    /// From now on nothing is taken from or delivered to `port`, and its instance counts as ended: its connections are
    /// reset.
    pub fn detach(&mut self, port: Port, now: Instant, sink: &mut impl Sink) {
        self.now = now;
        self.flush(sink);
        if let Some(instance) = self.homes.instance(port) {
            self.reset_of(instance, now, sink);
        }
        self.flush(sink);
        self.homes.detach(port, &self.map.route);
        self.inbox.forget(port);
        self.waiting.forget(port);
    }

    /// An instance of an earlier run has ended meanwhile, which the map need not know yet: its connections are reset, and
    /// nobody waits for it to be attached.
    pub fn ended(&mut self, instance: InstanceId, now: Instant, sink: &mut impl Sink) {
        self.now = now;
        self.homes.bury(instance, &self.map.route);
        self.reset_of(instance, now, sink);
        self.flush(sink);
    }

    /// An endpoint at which a runner was authenticated in an earlier run: tried first, and with a handshake at once
    /// (with the map that first holds the runner, if none does yet).
    pub fn learned(&mut self, runner: RunnerId, endpoint: SocketAddr) {
        self.peers.recall(runner, canonical(endpoint), self.now);
    }

    /// The machine's own addresses have changed: a handshake with everyone in touch, who learn the new one by it.
    pub fn moved(&mut self) {
        self.peers.greet_all(self.now);
    }

    /// Switches offloads. With `tun_gso` off every segment is delivered by itself; with `udp_gso` off every datagram
    /// is sent by itself. (`udp_gro` is the owner's business.)
    pub const fn set_switches(&mut self, switches: Switches) {
        self.switches = switches;
        self.inbox.enable(switches.tun_gso);
        self.peers.enable_batches(switches.udp_gso);
    }

    /// Does what has come due by `now`.
    pub fn handle_timeout(&mut self, now: Instant, sink: &mut impl Sink) {
        self.now = now;
        self.waiting.deliver(now, sink);
        self.reset_silent(now, sink);
        self.reset_again(now, sink);
        self.peers.tick(&mut Turn { now, sink, drops: &mut self.drops });
        self.refuse_unreachable(now, sink);
        self.keep_alive(now, sink);
    }

    /// When [`Self::handle_timeout`] wants to be called next, and for what. `None`: not before something comes in.
    #[must_use]
    pub fn next_timeout(&self) -> Option<(Instant, &'static str)> {
        let refusal = self.waiting.next().map(|at| (at, "a refusal that waits"));
        let tick = self.peers.next_tick().map(|at| (at, "the tunnels' timers"));
        let flow = self.flows.next_tick().map(|at| (at, "the end of what is remembered of a connection"));
        let reset = self.resets.next().map(|at| (at, "a reset that is sent again"));
        let keepalive = self.next_keepalive.map(|at| (at, "a keepalive"));
        [refusal, tick, flow, reset, keepalive].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// The engine's state, for people to read.
    #[must_use]
    pub fn report(&self, now: Instant) -> Report {
        let route = &self.map.route;
        let denied = self.denials.all().into_iter().map(|denial| Denied {
            caller: denial.caller.address,
            caller_service: denial.caller.service,
            callee: denial.callee.address,
            callee_service: denial.callee.service,
            port: denial.port,
            reason: denial.reason,
            count: denial.count,
            age: now.saturating_duration_since(denial.last),
        });
        let peers = self.peers.list().iter().map(|peer| PeerReport {
            runner: peer.runner.id,
            endpoint: peer.path.authenticated(),
            handshake_age: peer.tunnel.as_ref().and_then(|tunnel| tunnel.session_age()),
            failing: peer.failing(now).map(|(tries, since)| Failing { tries, since, tried: peer.all().collect() }),
            rx_bytes: peer.rx_bytes,
            tx_bytes: peer.tx_bytes,
        });
        let here = |(index, instance): (u32, &Instance)| {
            self.homes.port(index)?;
            Some(InstanceReport { instance: instance.id, open: self.flows.open_here(index) })
        };
        Report {
            peers: peers.collect(),
            drops: self.drops.all().collect(),
            denied: denied.collect(),
            instances: (0..).zip(&route.instances).filter_map(here).collect(),
            connections: self.flows.standing(),
        }
    }

    /// The count of one reason for which packets died.
    #[must_use]
    pub fn dropped(&self, reason: Reason) -> u64 {
        self.drops.get(reason)
    }
}

#[cfg(test)]
mod tests;
