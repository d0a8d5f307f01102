//! What happens to connections when the right to them, or one of their ends, is gone.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use mesh_proto::InstanceId;

use super::Engine;
use crate::{
    Port, Sink,
    flow::{Phase, Role, Seat, Way},
    peers::Turn,
};

/// When a RST to another runner is sent again: datagrams get lost, and an end that is idle would never notice. Whoever
/// has had it doesn't mind.
const AGAIN: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];

/// RSTs that are sent again.
#[derive(Debug, Default)]
pub(super) struct Resets(VecDeque<Again>);

#[derive(Debug)]
struct Again {
    at: Instant,
    slot: u32,
    generation: u64,
    role: Role,
    times: usize,
}

impl Resets {
    /// When [`Engine::reset_again`] wants to be called.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.iter().map(|again| again.at).min()
    }
}

impl Engine {
    /// Resets the connections to whose right or ends the map has put an end.
    pub(super) fn reset_broken(&mut self, now: Instant, sink: &mut impl Sink) {
        for slot in self.flows.resolve(&self.map.route, &self.map.filter) {
            self.reset(slot, now, sink);
        }
    }

    /// Resets the connections of an instance that ends here. The other ends hear of it from us, since the coordinator may
    /// be away.
    pub(super) fn reset_of(&mut self, instance: InstanceId, now: Instant, sink: &mut impl Sink) {
        let here = Seat::Here(instance);
        let stands = |phase| matches!(phase, Phase::Opening | Phase::Open);
        let of = self
            .flows
            .all()
            .filter(|(_, flow)| stands(flow.phase()) && Role::BOTH.iter().any(|role| flow.seat(*role) == here));
        let slots: Vec<u32> = of.map(|(slot, _)| slot).collect();
        for slot in slots {
            self.reset(slot, now, sink);
        }
    }

    /// Resets a connection at both ends.
    fn reset(&mut self, slot: u32, now: Instant, sink: &mut impl Sink) {
        for role in Role::BOTH {
            self.reset_end(slot, role, now, sink);
        }
        self.flows.end(slot, Phase::Reset, now);
    }

    /// Tells one end of a connection, wherever it is, that the connection is no more.
    pub(super) fn reset_end(&mut self, slot: u32, role: Role, now: Instant, sink: &mut impl Sink) {
        let Some(mut reset) = self.abort(slot, role) else { return };
        let Some(flow) = self.flows.get(slot) else { return };
        match flow.seat(role) {
            Seat::Here(instance) => {
                if let Some(port) = self.homes.port_of(instance) {
                    sink.deliver(port, reset.octets());
                }
            }
            Seat::There(runner) => {
                let Some(runner) = self.map.route.runner(runner) else { return };
                let generation = flow.generation();
                // Without a session there is nobody to tell, and what it says next is answered.
                let mut turn = Turn { now, sink, drops: &mut self.drops };
                if self.peers.answer(runner, reset.packet_mut(), &mut turn).is_ok() {
                    self.resets.0.push_back(Again { at: now + AGAIN[0], slot, generation, role, times: 1 });
                }
            }
        }
    }

    /// Sends the RSTs again that have come due, if their connections have not been opened anew.
    pub(super) fn reset_again(&mut self, now: Instant, sink: &mut impl Sink) {
        for _ in 0..self.resets.0.len() {
            let Some(again) = self.resets.0.pop_front() else { return };
            if again.at > now {
                self.resets.0.push_back(again);
                continue;
            }
            let Again { slot, generation, role, times, .. } = again;
            let same = |flow: &&crate::flow::Flow| flow.generation() == generation && flow.phase() == Phase::Reset;
            let Some(Seat::There(runner)) = self.flows.get(slot).filter(same).map(|flow| flow.seat(role)) else {
                continue;
            };
            let (Some(mut reset), Some(runner)) = (self.abort(slot, role), self.map.route.runner(runner)) else {
                continue;
            };
            let mut turn = Turn { now, sink, drops: &mut self.drops };
            if self.peers.answer(runner, reset.packet_mut(), &mut turn).is_ok()
                && let Some(wait) = AGAIN.get(times)
            {
                self.resets.0.push_back(Again { at: now + *wait, slot, generation, role, times: times + 1 });
            }
        }
    }

    /// The TUN for a way, if it is one to an instance that is attached.
    pub(super) fn port(&self, way: Way) -> Option<Port> {
        match way {
            Way::Instance(instance) => self.homes.port(instance),
            Way::Runner(_) => None,
        }
    }
}
