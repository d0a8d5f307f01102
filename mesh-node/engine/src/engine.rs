//! The facade: every input of the engine, and what can be asked of it.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use mesh_proto::{InstanceId, PrivateKey, RelayId, RunnerId};

use self::{core::Core, from_tun::Place};
use crate::{
    Denied, Failing, Hop, InstanceReport, Map, News, PeerReport, PinMemory, Port, Reason, Report, Sink, Switches,
    cx::Cx,
    drop::Drops,
    hop::{Way, canonical},
};

mod choose;
mod connect;
mod core;
mod from_tun;
mod from_udp;
mod keepalive;
mod lanes;
mod pending_resets;
mod rejection;
mod reset;
mod retry;
mod unreachable;

/// The packet engine of one runner. See the crate's documentation for how it is driven.
pub struct Engine {
    core: Core,
    drops: Drops,
    /// The latest time that was passed in.
    now: Instant,
}

/// What one receive call of the UDP socket returned.
#[derive(Debug, Clone, Copy)]
pub struct Datagrams<'a> {
    /// The sender.
    pub from: Hop,
    /// The machine's address that they were sent to, if known: answers leave from it.
    pub local: Option<IpAddr>,
    /// The datagrams, one after another.
    pub bytes: &'a [u8],
    /// The length of each datagram in bytes; the last one may be shorter.
    pub stride: usize,
    /// The bytes at the beginning of each datagram that the engine ignores: a relay's header.
    pub skip: usize,
}

impl Engine {
    /// Creates an engine that drops everything until it gets a map. `seed` has to be random: session indices and the
    /// like are drawn from it. `pins` is the memory in which an earlier engine may have left its connections (best with
    /// [`crate::PIN_MEMORY`] bytes); valid records are adopted, anything else in it is ignored.
    #[must_use]
    pub fn new(private_key: PrivateKey, seed: [u8; 32], pins: Box<dyn PinMemory>, now: Instant) -> Self {
        Self { core: Core::new(&private_key, seed, pins, now), drops: Drops::new(), now }
    }

    fn begin<'a, S: Sink>(&'a mut self, now: Instant, sink: &'a mut S) -> (&'a mut Core, Cx<'a, S>) {
        self.now = now;
        (&mut self.core, Cx { now, sink, drops: &mut self.drops })
    }

    /// Handles what was read from the TUN `from`: `virtio_net_hdr`, then a packet or super-packet. The bytes may be
    /// overwritten. Returns the number of segments, which is what the work is proportional to.
    pub fn handle_tun(&mut self, from: Port, bytes: &mut [u8], now: Instant, sink: &mut impl Sink) -> usize {
        let (core, mut cx) = self.begin(now, sink);
        match core.take_from_tun(from, bytes, Place::Read, &mut cx) {
            Ok(segments) => segments,
            Err(reason) => {
                cx.drops.count(reason);
                1
            }
        }
    }

    /// Handles received datagrams.
    pub fn handle_udp(&mut self, received: &Datagrams<'_>, now: Instant, sink: &mut impl Sink) {
        let (core, mut cx) = self.begin(now, sink);
        let Datagrams { from, local, bytes, stride, skip } = *received;
        let back = Way { to: from.canonical(), from: local.map(|local| local.to_canonical()) };
        for datagram in bytes.chunks(stride.max(1)) {
            let datagram = datagram.get(skip..).unwrap_or_default();
            if let Err(reason) = core.take_from_udp(back, datagram, &mut cx) {
                cx.drops.count(reason);
            }
        }
    }

    /// Handles a packet again that an [`crate::Order`] was about: the owner could not pass it on before the map changed, or
    /// the order is taken back ([`Sink::moved`]). `runner` is that of [`crate::Order::packet`].
    pub fn handle_again(&mut self, from: Port, runner: RunnerId, bytes: &mut [u8], now: Instant, sink: &mut impl Sink) {
        let (core, mut cx) = self.begin(now, sink);
        let runner = core.map.route.runner(runner).ok_or(Reason::RunnerGone);
        if let Err(reason) = runner.and_then(|runner| core.take_from_tun(from, bytes, Place::Again(runner), &mut cx)) {
            cx.drops.count(reason);
        }
    }

    /// Handles what a lane says. `packet` is the one that belongs to the news, and may be overwritten.
    pub fn handle_lane(&mut self, news: &News, packet: &mut [u8], now: Instant, sink: &mut impl Sink) {
        let (core, mut cx) = self.begin(now, sink);
        if let Err(reason) = core.take_from_lane(&news.0, packet, &mut cx) {
            cx.drops.count(reason);
        }
    }

    /// Replaces the map. Runners that the new one doesn't hold are forgotten, with their keys.
    pub fn handle_map(&mut self, map: Map, now: Instant, sink: &mut impl Sink) {
        let (core, mut cx) = self.begin(now, sink);
        core.replace_map(map, &mut cx);
    }

    /// `port` is the TUN of `instance` from now on. The map need not hold the instance yet.
    pub fn handle_attach(&mut self, port: Port, instance: InstanceId) {
        self.core.attach(port, instance);
    }

    /// `port` is no longer used, and its instance has ended: its connections are reset.
    pub fn handle_detach(&mut self, port: Port, now: Instant, sink: &mut impl Sink) {
        let (core, mut cx) = self.begin(now, sink);
        core.detach(port, &mut cx);
    }

    /// An instance of an earlier run has ended, which the map may not show yet: its connections are reset, and its TUN
    /// isn't expected any more.
    pub fn handle_ended(&mut self, instance: InstanceId, now: Instant, sink: &mut impl Sink) {
        let (core, mut cx) = self.begin(now, sink);
        core.end_instance(instance, &mut cx);
    }

    /// A runner was authenticated at `endpoint` in an earlier run. The engine tries that address first and starts a
    /// handshake at once, or with the first map that holds the runner.
    pub fn handle_known_endpoint(&mut self, runner: RunnerId, endpoint: SocketAddr) {
        self.core.peers.recall(runner, canonical(endpoint), self.now);
    }

    /// The machine's own addresses have changed. The engine starts a handshake with every runner in contact, which
    /// tells it the new address.
    pub fn handle_address_change(&mut self) {
        self.core.peers.greet_all(self.now);
    }

    /// The relays at which this runner has an allocation. Runners that share one of them are reached by it where no direct
    /// path is known. After a change of this runner's own relayed address [`Self::handle_address_change`] has to follow.
    pub fn handle_relays(&mut self, relays: &[RelayId], now: Instant) {
        self.now = now;
        self.core.peers.set_relays(relays, now);
    }

    /// This runner's own addresses, those at which the outside sees it among them. The first eight are told to runners that
    /// are reached by a relay, so that both find a direct path.
    pub fn handle_own_addresses(&mut self, own: &[SocketAddr], now: Instant) {
        self.now = now;
        self.core.peers.set_own_addresses(own, now);
    }

    /// Asks a runner for an answer by the path that data takes, after a handshake if there is no session. The answer is an
    /// [`crate::Event::Ping`] with this `ticket`; there is none if the runner is not in the map, is silent for 5 s, or has an
    /// agent that can't answer.
    pub fn handle_ping(&mut self, runner: RunnerId, ticket: u64, now: Instant, sink: &mut impl Sink) {
        let (core, mut cx) = self.begin(now, sink);
        if let Some(runner) = core.map.route.runner(runner) {
            core.peers.ping(runner, ticket, &mut cx);
        }
    }

    /// Switches offloads. With `tun_gso` off every segment is delivered by itself; with `udp_gso` off every datagram
    /// is sent by itself. (`udp_gro` concerns the owner's socket only.) Other lanes are told by [`crate::Order::switch`].
    pub const fn handle_switches(&mut self, switches: Switches) {
        self.core.switches = switches;
        self.core.inbox.enable(switches.tun_gso);
        self.core.peers.enable_batches(switches.udp_gso);
    }

    /// Says how many lanes there are, with the engine's own: at most [`crate::LANES`]. The owner has a [`crate::Lane`] for
    /// each of the others, to which it hands what comes out of [`Sink::order`]. It is called once, before the first map.
    pub const fn set_lanes(&mut self, lanes: usize) {
        self.core.peers.set_lanes(lanes);
    }

    /// Does what is due by `now`.
    pub fn handle_timeout(&mut self, now: Instant, sink: &mut impl Sink) {
        let (core, mut cx) = self.begin(now, sink);
        core.time_passed(&mut cx);
    }

    /// Ends a turn: sends the datagrams and delivers the segments that were held back to be batched.
    pub fn flush(&mut self, sink: &mut impl Sink) {
        self.core.flush(self.now, sink);
    }

    /// When [`Self::handle_timeout`] has to be called next, and what for. `None`: not before another input.
    #[must_use]
    pub fn next_timeout(&self) -> Option<(Instant, &'static str)> {
        let core = &self.core;
        let reject = core.delayed.next().map(|at| (at, "a delayed reject"));
        let tick = core.peers.next_tick().map(|at| (at, "the tunnels' timers"));
        let flow = core.flows.next_tick().map(|at| (at, "the expiry of a connection's record"));
        let reset = core.resets.next().map(|at| (at, "the retransmission of a reset"));
        let keepalive = core.next_keepalive.map(|at| (at, "a keepalive"));
        [reject, tick, flow, reset, keepalive].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// The engine's state for `status`.
    #[must_use]
    pub fn report(&self, now: Instant) -> Report {
        let core = &self.core;
        let denied = core.denials.latest_first().into_iter().map(|entry| Denied {
            caller: entry.caller.address,
            caller_service: entry.caller.service,
            callee: entry.callee.address,
            callee_service: entry.callee.service,
            port: entry.port,
            reason: entry.reason,
            count: entry.count,
            age: now.saturating_duration_since(entry.last),
        });
        let peers = core.peers.list().values().map(|peer| PeerReport {
            runner: peer.runner.id,
            endpoint: peer.link.authenticated(),
            handshake_age: peer.tunnel.as_ref().and_then(|tunnel| tunnel.session_age()),
            failing: peer.failing(now).map(|(tries, since)| Failing {
                tries,
                since,
                tried: core.peers.all(peer).collect(),
            }),
            path: peer.path_report(now),
            rx_bytes: peer.rx_bytes,
            tx_bytes: peer.tx_bytes,
        });
        let instances = core.map.route.instances.iter().filter_map(|(index, instance)| {
            core.ports.port(index)?;
            Some(InstanceReport { instance: instance.id, open: core.flows.open_here(index) })
        });
        Report {
            peers: peers.collect(),
            drops: self.drops.all().collect(),
            denied: denied.collect(),
            instances: instances.collect(),
            connections: core.flows.standing(),
            pairs: core.flows.pairs().collect(),
        }
    }

    /// The first lane's tunnel to a runner is lost.
    #[cfg(test)]
    pub(crate) fn forget_first_lane(&mut self, runner: RunnerId) {
        let runner = self.core.map.route.runner(runner).expect("a runner");
        self.core.peers.forget_first_lane(runner);
    }

    /// How many packets were dropped for this reason.
    #[must_use]
    pub fn dropped(&self, reason: Reason) -> u64 {
        self.drops.get(reason)
    }
}

#[cfg(test)]
mod tests;
