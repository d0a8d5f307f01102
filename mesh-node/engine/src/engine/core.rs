//! The engine's state without its counters, and the inputs that change more than one part of it.

use std::time::Instant;

use mesh_proto::{InstanceId, PrivateKey};

use super::pending_resets::PendingResets;
use crate::{
    Map, PinMemory, Port, Sink, Switches,
    coalesce::Coalescer,
    cx::Cx,
    delayed::DelayedRejects,
    denial_log::DenialLog,
    flow::{Flows, Skips, Target},
    number::Numbers,
    peers::Peers,
    ports::Ports,
    segment::split,
    tunnel::Identity,
    vnet::Vnet,
};

pub(super) struct Core {
    pub(super) map: Map,
    pub(super) ports: Ports,
    pub(super) flows: Flows,
    pub(super) skips: Skips,
    pub(super) resets: PendingResets,
    pub(super) peers: Peers,
    pub(super) inbox: Coalescer,
    pub(super) delayed: DelayedRejects,
    pub(super) denials: DenialLog,
    pub(super) switches: Switches,
    /// When to look for keepalives that are due; `None` while no connection to another runner stands.
    pub(super) next_keepalive: Option<Instant>,
}

impl Core {
    pub(super) fn new(private_key: &PrivateKey, seed: [u8; 32], pins: Box<dyn PinMemory>, now: Instant) -> Self {
        let mut numbers = Numbers::new(seed);
        Self {
            map: Map::empty(),
            ports: Ports::default(),
            flows: Flows::new(pins, numbers.draw(), now),
            skips: Skips::default(),
            resets: PendingResets::default(),
            peers: Peers::new(Identity::new(private_key), numbers),
            inbox: Coalescer::new(),
            delayed: DelayedRejects::default(),
            denials: DenialLog::new(),
            switches: Switches::default(),
            next_keepalive: None,
        }
    }

    /// Sends and delivers what was held back to be batched.
    pub(super) fn flush(&mut self, now: Instant, sink: &mut impl Sink) {
        self.expect_keepalives(now);
        self.peers.flush(sink);
        self.inbox.flush(sink);
    }

    pub(super) fn replace_map<S: Sink>(&mut self, map: Map, cx: &mut Cx<'_, S>) {
        self.reset_parting(&map, cx);
        self.flush(cx.now, cx.sink);
        self.peers.remap(&map.route, map.mtu, cx);
        let gone = self.map.route.instances.values().filter(|instance| map.route.owner(instance.address).is_none());
        gone.for_each(|instance| self.peers.departed.addresses.note(instance.address, cx.now));
        self.ports.resolve(&map.route);
        self.map = map;
        self.reset_broken(cx);
        self.flush(cx.now, cx.sink);
    }

    pub(super) fn attach(&mut self, port: Port, instance: InstanceId) {
        for vacated in self.ports.attach(port, instance, &self.map.route) {
            self.inbox.forget(vacated);
            self.delayed.forget(vacated);
        }
    }

    pub(super) fn detach<S: Sink>(&mut self, port: Port, cx: &mut Cx<'_, S>) {
        self.flush(cx.now, cx.sink);
        if let Some(instance) = self.ports.instance(port) {
            self.reset_connections_of(instance, cx);
        }
        self.flush(cx.now, cx.sink);
        self.ports.detach(port, &self.map.route);
        self.inbox.forget(port);
        self.delayed.forget(port);
        self.peers.forget_moves(port);
    }

    pub(super) fn end_instance<S: Sink>(&mut self, instance: InstanceId, cx: &mut Cx<'_, S>) {
        self.ports.mark_ended(instance, &self.map.route);
        self.reset_connections_of(instance, cx);
        self.flush(cx.now, cx.sink);
    }

    pub(super) fn time_passed<S: Sink>(&mut self, cx: &mut Cx<'_, S>) {
        self.delayed.deliver(cx.now, cx.sink);
        self.reset_silent(cx);
        self.resend_resets(cx);
        self.peers.tick(cx);
        self.end_moves(cx);
        self.reject_unreachable(cx);
        self.keep_alive(cx);
    }

    /// Delivers a packet to a TUN, in segments if the TUN is to get no super-packets.
    pub(super) fn deliver(&self, to: Port, vnet: Vnet, bytes: &mut [u8], sink: &mut impl Sink) {
        if vnet.size.is_some() && !self.switches.tun_gso {
            split(bytes, |segment| sink.deliver(to, segment));
        } else {
            sink.deliver(to, bytes);
        }
    }

    /// The TUN of a target, if that is an attached instance.
    pub(super) fn port(&self, target: Target) -> Option<Port> {
        match target {
            Target::Instance(instance) => self.ports.port(instance),
            Target::Runner(_) => None,
        }
    }
}
