//! Opens connections, moves them while they are unanswered, and follows them.

use std::time::Instant;

use mesh_proto::{Direction, rules};

use super::{
    choose::{Call, Choice},
    core::Core,
    rejection::Rejection,
};
use crate::{
    Reason, Sink,
    cx::Cx,
    flow::{End, Location, Phase, Pin, Progress, Resolved, Role, Slot, Target},
    index::RunnerIx,
    packet::{Flags, Packet, Tcp},
    route::Owner,
};

/// A segment with what the map says of it.
#[derive(Clone, Copy)]
pub(super) struct Classified<'a> {
    pub(super) packet: &'a Packet,
    pub(super) tcp: &'a Tcp,
    /// Where it came from.
    pub(super) from: Location,
    /// The owners of its addresses.
    pub(super) source: Owner,
    pub(super) destination: Owner,
}

impl Classified<'_> {
    const fn sender(&self) -> End {
        End { address: self.packet.source, port: self.tcp.source_port }
    }

    const fn receiver(&self) -> End {
        End { address: self.packet.destination, port: self.tcp.destination_port }
    }
}

impl Core {
    /// Handles a SYN that may pass, and returns where it goes. `kept` copies it in the format of a TUN's read. A SYN
    /// that has `waited` for a session with a runner goes there or is dropped.
    pub(super) fn open<S: Sink>(
        &mut self,
        segment: &Classified<'_>,
        waited: Option<RunnerIx>,
        kept: impl FnOnce() -> Vec<u8>,
        cx: &mut Cx<'_, S>,
    ) -> Result<Target, Rejection> {
        let Classified { packet, tcp, from, source, destination } = *segment;
        let Owner::Instance(caller) = source else { return Err(Rejection::prohibited(Reason::OpensFromService)) };
        if let Some((slot, role)) = self.flows.find(packet, tcp)
            && let Some(flow) = self.flows.get(slot)
        {
            let same = role == Role::Caller && flow.isn() == tcp.sequence && flow.location(role) == from;
            match flow.phase() {
                Phase::Opening | Phase::Open if same => return self.open_again(slot, destination, waited, cx),
                // One end has forgotten the connection: the other one gets a RST.
                Phase::Open => self.reset_end(slot, role.other(), cx),
                _ => {}
            }
        }
        if waited.is_some() {
            return Err(Rejection::silent(Reason::Moved));
        }
        let call = Call { caller: segment.sender(), callee: segment.receiver(), from, owner: destination };
        let to_caller = self.target_at(from).ok_or(Rejection::silent(Reason::UnknownSource))?;
        let Choice { location, target } = self.choose(&call, &[], cx.now)?;
        let pin = Pin {
            phase: Phase::Opening,
            caller: call.caller,
            callee: call.callee,
            caller_is: self.map.route.instances[caller].id,
            caller_location: from,
            callee_location: location,
            isn: tcp.sequence,
            progress: Progress::default(),
        };
        let resolved = self.resolved(source, destination, [to_caller, target]);
        let slot = self.flows.begin(pin, resolved, Role::Caller, cx.now).map_err(Rejection::prohibited)?;
        if matches!(destination, Owner::Service(_)) {
            self.flows.keep(slot, kept());
        }
        Ok(target)
    }

    /// Handles a retransmitted SYN: the callee that has it didn't answer, so another one gets it.
    fn open_again<S: Sink>(
        &mut self,
        slot: Slot,
        owner: Owner,
        waited: Option<RunnerIx>,
        cx: &mut Cx<'_, S>,
    ) -> Result<Target, Rejection> {
        let flow = self.flows.get(slot);
        let Some((flow, target)) = flow.and_then(|flow| Some((flow, flow.target(Role::Callee)?))) else {
            return Err(Rejection::no_host(Reason::NoLiveInstance));
        };
        let from = flow.location(Role::Caller);
        let call = Call { caller: flow.end(Role::Caller), callee: flow.end(Role::Callee), from, owner };
        let current = flow.location(Role::Callee);
        match (flow.phase(), waited) {
            (_, Some(runner)) if target != Target::Runner(runner) => return Err(Rejection::silent(Reason::Moved)),
            (Phase::Open, _) | (_, Some(_)) => return Ok(target),
            _ => {}
        }
        if let Target::Runner(runner) = target {
            self.peers.doubt(runner, cx);
        }
        let mut attempt = self.flows.take_attempt(slot);
        let mut tried = vec![current];
        if let Some(attempt) = &mut attempt {
            attempt.note_unanswered(current);
            tried = attempt.tried();
        }
        let choice = self.choose(&call, &tried, cx.now);
        // If every candidate had it, a second round begins.
        let choice = choice.or_else(|_| self.choose(&call, &[current], cx.now));
        let Choice { location, target } = choice.unwrap_or(Choice { location: current, target });
        let resolved = self.resolved_call(&call, target).ok_or(Rejection::no_host(Reason::NoLiveInstance))?;
        self.flows.repin(slot, location, resolved, attempt, cx.now);
        Ok(target)
    }

    /// Handles a segment that doesn't open a connection and may pass in `direction`, and returns where it goes.
    pub(super) fn follow<S: Sink>(
        &mut self,
        segment: &Classified<'_>,
        direction: Direction,
        cx: &mut Cx<'_, S>,
    ) -> Result<Target, Rejection> {
        let Some((slot, role)) = self.flows.find(segment.packet, segment.tcp) else {
            return self.adopt(segment, direction, cx.now);
        };
        let tcp = segment.tcp;
        let Some(flow) = self.flows.get(slot) else { return Err(Rejection::silent(Reason::NoConnection)) };
        if flow.location(role) != segment.from {
            // A callee that the attempt has left gets a RST, else it would wait for the rest of the handshake.
            let is_answer = tcp.flags.has(Flags::SYN);
            let reject = if is_answer { Rejection::prohibited } else { Rejection::silent };
            return Err(reject(Reason::Moved));
        }
        if flow.phase() == Phase::Reset {
            return Err(Rejection::prohibited(Reason::NoConnection));
        }
        let target = flow.target(role.other()).ok_or(Rejection::no_host(Reason::NoLiveInstance))?;
        let refuses = flow.phase() == Phase::Opening
            && role == Role::Callee
            && tcp.flags.has(Flags::RST)
            && (!tcp.flags.has(Flags::ACK) || tcp.acknowledgment == flow.isn().wrapping_add(1));
        let listens = flow.phase() == Phase::Opening && role == Role::Callee && tcp.flags.has(Flags::SYN);
        if listens {
            let (callee, location) = (flow.end(role), flow.location(role));
            self.skips.remove(callee, location);
        }
        if refuses && self.try_another(slot, cx) {
            return Err(Rejection::silent(Reason::TriedAnother));
        }
        self.flows.pass(slot, role, segment.packet, tcp, cx.now);
        Ok(target)
    }

    /// Adopts a connection that stood before: the engine that followed it ended without leaving its memory. The
    /// presumed caller must have the right to open it, and it counts for the sender until the other end has
    /// acknowledged it.
    fn adopt(&mut self, segment: &Classified<'_>, direction: Direction, now: Instant) -> Result<Target, Rejection> {
        let Classified { tcp, from, source, destination, packet } = *segment;
        // A RST adopts nothing, but passes: its receiver may not know yet.
        let is_reset = tcp.flags.has(Flags::RST) && direction == Direction::Call;
        if !is_reset && !self.flows.is_cold(now) {
            return Err(Rejection::prohibited(Reason::NoConnection));
        }
        // A connection can't be opened from a service address.
        let is_call = match (source, destination) {
            (Owner::Service(_), _) => false,
            (_, Owner::Service(_)) => true,
            _ => direction == Direction::Call,
        };
        let (sender, receiver) = (segment.sender(), segment.receiver());
        let (caller_owner, callee_owner) = if is_call { (source, destination) } else { (destination, source) };
        let (caller_end, callee_end) = if is_call { (sender, receiver) } else { (receiver, sender) };
        let Owner::Instance(caller) = caller_owner else { return Err(Rejection::prohibited(Reason::NoConnection)) };
        if !self.may_call(caller_owner, callee_owner, caller_end, callee_end) {
            return Err(Rejection::prohibited(Reason::NoConnection));
        }
        let choice = self.guess(destination, sender, receiver, from)?;
        if tcp.flags.has(Flags::RST) {
            return Ok(choice.target);
        }
        let to_sender = self.target_at(from).ok_or(Rejection::silent(Reason::UnknownSource))?;
        let (payer, locations, targets) = if is_call {
            (Role::Caller, [from, choice.location], [to_sender, choice.target])
        } else {
            (Role::Callee, [choice.location, from], [choice.target, to_sender])
        };
        let [caller_location, callee_location] = locations;
        let pin = Pin {
            phase: Phase::Claimed,
            caller: caller_end,
            callee: callee_end,
            caller_is: self.map.route.instances[caller].id,
            caller_location,
            callee_location,
            isn: 0,
            progress: Progress::default(),
        };
        let resolved = self.resolved(caller_owner, callee_owner, targets);
        let slot = self.flows.begin(pin, resolved, payer, now).map_err(Rejection::prohibited)?;
        self.flows.pass(slot, payer, packet, tcp, now);
        Ok(choice.target)
    }

    fn may_call(&self, caller: Owner, callee: Owner, caller_end: End, callee_end: End) -> bool {
        let (from, to) = (self.map.route.service_of(caller), self.map.route.service_of(callee));
        let segment = rules::Segment { source_port: caller_end.port, destination_port: callee_end.port, opens: true };
        self.map.filter.verdict(from, to, segment) == Ok(Direction::Call)
    }

    /// A connection between these owners in the current map.
    pub(super) fn resolved(&self, caller: Owner, callee: Owner, targets: [Target; 2]) -> Resolved {
        let services = [caller, callee].map(|owner| self.map.route.service_of(owner));
        Resolved {
            services,
            preferred: self.map.route.preferred(caller, services[1]),
            targets,
            deployments: services.map(|service| self.map.filter.deployment(service)),
        }
    }

    /// A call to `target` in the current map, if the map holds the caller.
    pub(super) fn resolved_call(&self, call: &Call, target: Target) -> Option<Resolved> {
        let owner = self.map.route.owner(call.caller.address)?;
        Some(self.resolved(owner, call.owner, [self.target_at(call.from)?, target]))
    }

    /// A location in the current map.
    fn target_at(&self, location: Location) -> Option<Target> {
        match location {
            Location::Here(instance) => self.map.route.local(instance).map(Target::Instance),
            Location::There(runner) => self.map.route.runner(runner).map(Target::Runner),
        }
    }
}
