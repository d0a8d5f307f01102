//! How connections are opened, moved while nobody has answered, and followed.

use std::time::Instant;

use mesh_proto::{Direction, InstanceId, rules};

use super::{Engine, choose::Pick, refused::No};
use crate::{
    Reason, Sink,
    flow::{End, New, Phase, Resolved, Role, Seat, Way},
    packet::{Content, Flags, Packet, Tcp},
    peers::Turn,
    refuse::Refusal,
    route::Owner,
    segment::Unit,
    vnet::Vnet,
};

/// A segment, and what is known of it.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) packet: &'a Packet,
    pub(super) tcp: &'a Tcp,
    /// Where it came from.
    pub(super) from: Seat,
    /// Whose its addresses are.
    pub(super) source: Owner,
    pub(super) destination: Owner,
}

impl Seen<'_> {
    const fn sender(&self) -> End {
        End { address: self.packet.source, port: self.tcp.source_port }
    }

    const fn receiver(&self) -> End {
        End { address: self.packet.destination, port: self.tcp.destination_port }
    }
}

impl Engine {
    /// Takes a SYN that may pass, and gives where it goes. `kept` makes a copy of it, as a TUN's read gives it. One that
    /// has waited for a session with `waited` goes there or nowhere.
    pub(super) fn open(
        &mut self,
        seen: &Seen<'_>,
        waited: Option<u32>,
        kept: impl FnOnce() -> Vec<u8>,
        now: Instant,
        sink: &mut impl Sink,
    ) -> Result<Way, No> {
        let Seen { packet, tcp, from, source, destination } = *seen;
        let Owner::Instance(caller) = source else { return Err(No::prohibited(Reason::OpensFromService)) };
        if let Some((slot, role)) = self.flows.find(packet, tcp)
            && let Some(flow) = self.flows.get(slot)
        {
            let same = role == Role::Caller && flow.isn() == tcp.sequence && flow.seat(role) == from;
            match flow.phase() {
                Phase::Opening | Phase::Open if same => return self.open_again(slot, destination, waited, now, sink),
                // It has a past that one of its ends has forgotten: the other one is told.
                Phase::Open => self.reset_end(slot, role.other(), now, sink),
                _ => {}
            }
        }
        if waited.is_some() {
            return Err(No::silent(Reason::Moved));
        }
        let (caller_end, callee_end) = (seen.sender(), seen.receiver());
        let to_caller = self.way_of(from).ok_or(No::silent(Reason::UnknownSource))?;
        let Pick { seat, way } = self.pick(destination, caller_end, callee_end, from, &[], now)?;
        let new = New {
            phase: Phase::Opening,
            caller: caller_end,
            callee: callee_end,
            caller_is: self.map.route.instances[caller as usize].id,
            caller_seat: from,
            callee_seat: seat,
            isn: tcp.sequence,
            resolved: self.resolved(source, destination, [to_caller, way]),
            payer: Role::Caller,
        };
        let slot = self.flows.begin(new, now).map_err(No::prohibited)?;
        if matches!(destination, Owner::Service(_)) {
            self.flows.keep(slot, kept());
        }
        Ok(way)
    }

    /// Takes a SYN for the second time: whoever had it has not answered.
    fn open_again(
        &mut self,
        slot: u32,
        owner: Owner,
        waited: Option<u32>,
        now: Instant,
        sink: &mut impl Sink,
    ) -> Result<Way, No> {
        let Some((flow, way)) = self.flows.get(slot).and_then(|flow| Some((flow, flow.way(Role::Callee)?))) else {
            return Err(No::nobody(Reason::NoLiveInstance));
        };
        let (caller, callee, from) = (flow.end(Role::Caller), flow.end(Role::Callee), flow.seat(Role::Caller));
        let current = flow.seat(Role::Callee);
        match (flow.phase(), waited) {
            (_, Some(runner)) if way != Way::Runner(runner) => return Err(No::silent(Reason::Moved)),
            (Phase::Open, _) | (_, Some(_)) => return Ok(way),
            _ => {}
        }
        if let Way::Runner(runner) = way {
            self.peers.doubt(runner, &mut Turn { now, sink, drops: &mut self.drops });
        }
        let mut attempt = self.flows.take_attempt(slot);
        let mut tried = vec![current];
        if let Some(attempt) = &mut attempt {
            attempt.leave(current);
            tried = attempt.tried();
        }
        let pick = self.pick(owner, caller, callee, from, &tried, now);
        // Everybody had it: once more from the beginning.
        let pick = pick.or_else(|_| self.pick(owner, caller, callee, from, &[current], now));
        let Pick { seat, way } = pick.unwrap_or(Pick { seat: current, way });
        let resolved = self.resolved_from(caller, from, owner, way).ok_or(No::nobody(Reason::NoLiveInstance))?;
        self.flows.repin(slot, seat, resolved, attempt, now);
        Ok(way)
    }

    /// Takes a segment that doesn't open a connection, and whose verdict is `direction`; gives where it goes.
    pub(super) fn follow(
        &mut self,
        seen: &Seen<'_>,
        direction: Direction,
        now: Instant,
        sink: &mut impl Sink,
    ) -> Result<Way, No> {
        let Some((slot, role)) = self.flows.find(seen.packet, seen.tcp) else {
            return self.adopt(seen, direction, now);
        };
        let tcp = seen.tcp;
        let Some(flow) = self.flows.get(slot) else { return Err(No::silent(Reason::NoConnection)) };
        if flow.seat(role) != seen.from {
            // Who was left must not go on waiting for the rest of the handshake.
            let is_answer = tcp.flags.has(Flags::SYN);
            return Err(if is_answer { No::prohibited(Reason::Moved) } else { No::silent(Reason::Moved) });
        }
        if flow.phase() == Phase::Reset {
            return Err(No::prohibited(Reason::NoConnection));
        }
        let way = flow.way(role.other()).ok_or(No::nobody(Reason::NoLiveInstance))?;
        let refuses = flow.phase() == Phase::Opening
            && role == Role::Callee
            && tcp.flags.has(Flags::RST)
            && (!tcp.flags.has(Flags::ACK) || tcp.acknowledgment == flow.isn().wrapping_add(1));
        let listens = flow.phase() == Phase::Opening && role == Role::Callee && tcp.flags.has(Flags::SYN);
        if listens {
            let (callee, seat) = (flow.end(role), flow.seat(role));
            self.skips.remove(callee, seat);
        }
        if refuses && self.try_another(slot, now, sink) {
            return Err(No::silent(Reason::TriedAnother));
        }
        self.flows.pass(slot, role, seen.packet, tcp, now);
        Ok(way)
    }

    /// Takes up a connection that stood before: an engine that knew it has ended without leaving its memory. Only one that
    /// the end that is taken for the caller may open; and it is the sender's until the other end has acknowledged it.
    fn adopt(&mut self, seen: &Seen<'_>, direction: Direction, now: Instant) -> Result<Way, No> {
        let Seen { tcp, from, source, destination, packet } = *seen;
        // A RST takes up nothing, and its receiver may not know yet.
        let is_reset = tcp.flags.has(Flags::RST) && direction == Direction::Call;
        if !is_reset && !self.flows.is_cold(now) {
            return Err(No::prohibited(Reason::NoConnection));
        }
        // A connection can't be opened from a service address.
        let is_call = match (source, destination) {
            (Owner::Service(_), _) => false,
            (_, Owner::Service(_)) => true,
            _ => direction == Direction::Call,
        };
        let (sender, receiver) = (seen.sender(), seen.receiver());
        let (caller_owner, callee_owner) = if is_call { (source, destination) } else { (destination, source) };
        let (caller_end, callee_end) = if is_call { (sender, receiver) } else { (receiver, sender) };
        let Owner::Instance(caller) = caller_owner else { return Err(No::prohibited(Reason::NoConnection)) };
        if !self.may_call(caller_owner, callee_owner, caller_end, callee_end) {
            return Err(No::prohibited(Reason::NoConnection));
        }
        let pick = self.guess(destination, sender, receiver, from)?;
        if tcp.flags.has(Flags::RST) {
            return Ok(pick.way);
        }
        let from_way = self.way_of(from).ok_or(No::silent(Reason::UnknownSource))?;
        let (payer, seats, ways) = if is_call {
            (Role::Caller, [from, pick.seat], [from_way, pick.way])
        } else {
            (Role::Callee, [pick.seat, from], [pick.way, from_way])
        };
        let [caller_seat, callee_seat] = seats;
        let new = New {
            phase: Phase::Claimed,
            caller: caller_end,
            callee: callee_end,
            caller_is: self.map.route.instances[caller as usize].id,
            caller_seat,
            callee_seat,
            isn: 0,
            resolved: self.resolved(caller_owner, callee_owner, ways),
            payer,
        };
        let slot = self.flows.begin(new, now).map_err(No::prohibited)?;
        self.flows.pass(slot, payer, packet, tcp, now);
        Ok(pick.way)
    }

    fn may_call(&self, caller: Owner, callee: Owner, caller_end: End, callee_end: End) -> bool {
        let (from, to) = (self.map.route.service_of(caller), self.map.route.service_of(callee));
        let segment = rules::Segment { source_port: caller_end.port, destination_port: callee_end.port, opens: true };
        self.map.filter.verdict(from, to, segment) == Ok(Direction::Call)
    }

    /// Whoever had an attempt has refused it: gives it to another one. False: there is none, and the refusal has to
    /// reach the caller.
    pub(super) fn try_another(&mut self, slot: u32, now: Instant, sink: &mut impl Sink) -> bool {
        let Some(flow) = self.flows.get(slot) else { return false };
        let (caller, callee, from) = (flow.end(Role::Caller), flow.end(Role::Callee), flow.seat(Role::Caller));
        let refuser = flow.seat(Role::Callee);
        let Some(owner) = self.map.route.owner(callee.address) else { return false };
        self.skips.add(callee, refuser, now);
        let Some(mut attempt) = self.flows.take_attempt(slot) else { return false };
        attempt.refuse(refuser);
        let fresh = self.pick(owner, caller, callee, from, &attempt.tried(), now);
        // Who has not answered once may have missed it: the refusal is the caller's when there is no hope left.
        let pick = fresh.or_else(|_| self.pick(owner, caller, callee, from, &attempt.hopeless(), now));
        let Ok(Pick { seat, way }) = pick else { return false };
        let Some(resolved) = self.resolved_from(caller, from, owner, way) else { return false };
        let mut syn = attempt.syn.clone();
        self.flows.repin(slot, seat, resolved, Some(attempt), now);
        match way {
            Way::Instance(instance) => {
                if let Some(port) = self.homes.port(instance) {
                    sink.deliver(port, &syn);
                }
            }
            Way::Runner(runner) => {
                let sent = self.send_kept(runner, from, &mut syn, now, sink);
                if let Err(reason) = sent {
                    self.drops.count(reason);
                }
            }
        }
        true
    }

    /// Sends a kept SYN of an instance of ours to another runner.
    fn send_kept(
        &mut self,
        runner: u32,
        from: Seat,
        syn: &mut [u8],
        now: Instant,
        sink: &mut impl Sink,
    ) -> Result<(), Reason> {
        let Seat::Here(caller) = from else { return Err(Reason::NoConnection) };
        let port = self.homes.port_of(caller).ok_or(Reason::NotAttached)?;
        let (vnet, ip) = Vnet::parse(syn)?;
        let packet = Packet::parse(ip)?;
        let Content::Tcp(tcp) = packet.content else { return Err(Reason::NotTcp) };
        let mut unit = Unit { octets: syn, packet, tcp, size: vnet.size, partial: vnet.partial };
        self.peers.send(runner, port, &mut unit, &mut Turn { now, sink, drops: &mut self.drops })
    }

    /// Takes an ICMP error of the instance `from`, in `ip`, if it refuses a connection: by a packet filter of its own,
    /// say. ICMP doesn't cross, so the caller gets a RST if there is nobody else.
    pub(super) fn refused_by_icmp(&mut self, from: InstanceId, ip: &[u8], now: Instant, sink: &mut impl Sink) -> bool {
        let Some((packet, tcp)) = Packet::quoted(ip) else { return false };
        let Some((slot, Role::Caller)) = self.flows.find(&packet, &tcp) else { return false };
        let Some(flow) = self.flows.get(slot) else { return false };
        let refuses = flow.phase() == Phase::Opening
            && flow.seat(Role::Callee) == Seat::Here(from)
            && flow.isn() == tcp.sequence
            && tcp.flags.opens();
        if !refuses {
            return false;
        }
        if !self.try_another(slot, now, sink) {
            self.reset_end(slot, Role::Caller, now, sink);
            self.flows.end(slot, Phase::Ended, now);
        }
        true
    }

    /// A connection between these in the current map.
    fn resolved(&self, caller: Owner, callee: Owner, ways: [Way; 2]) -> Resolved {
        let services = [caller, callee].map(|owner| self.map.route.service_of(owner));
        Resolved {
            service: services[1],
            ways,
            deployments: services.map(|service| self.map.filter.deployment(service)),
        }
    }

    /// The same, by the caller's address and where it is.
    fn resolved_from(&self, caller: End, from: Seat, callee: Owner, to_callee: Way) -> Option<Resolved> {
        let owner = self.map.route.owner(caller.address)?;
        Some(self.resolved(owner, callee, [self.way_of(from)?, to_callee]))
    }

    /// A seat in the current map.
    fn way_of(&self, seat: Seat) -> Option<Way> {
        match seat {
            Seat::Here(instance) => self.map.route.here(instance).map(Way::Instance),
            Seat::There(runner) => self.map.route.runner(runner).map(Way::Runner),
        }
    }

    /// The last refusal of an attempt, by RST, as its callee would send it.
    pub(super) fn abort(&self, slot: u32, role: Role) -> Option<Refusal> {
        let flow = self.flows.get(slot)?;
        let (from, to) = (flow.end(role.other()), flow.end(role));
        match (flow.ack(role), role, flow.phase()) {
            (Some(ack), ..) => Some(Refusal::abort(from, to, ack, None)),
            // It has sent nothing but its SYN (RFC 9293 §3.10.7.3).
            (None, Role::Caller, Phase::Opening) => Some(Refusal::abort(from, to, 0, Some(flow.isn().wrapping_add(1)))),
            // What it says next is answered.
            _ => None,
        }
    }
}
