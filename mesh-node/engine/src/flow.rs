//! Connections: between whom, on which instance, and whether they stand.
//!
//! A flow is pinned: towards a service address the caller's engine keeps the runner, the callee's the instance, since
//! packets carry the service address only. A flow that is followed here has one end here at least.

mod attempt;
mod count;
mod due;
mod entry;
mod hash;
mod kept;
mod pins;
mod right;
mod share;
mod skip;
mod track;

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use mesh_proto::RunnerId;

pub use self::pins::{PIN_MEMORY, PinMemory};
use self::{
    attempt::Attempt,
    count::Counts,
    due::Due,
    hash::{Pair, Seeded},
    kept::{KEPT_OCTETS, Kept},
    pins::{Found, Pin, Pins},
    right::{resolve, right},
    share::Level,
};
pub(crate) use self::{
    entry::{End, Flow, New, Phase, Resolved, Role, Seat, Way},
    skip::Skips,
};
use crate::{
    Reason,
    filter::Filter,
    packet::{Packet, Tcp},
    route::Route,
};

/// When nearly everything that stands has shown itself to an engine that has just started without its memory.
const WARM: Duration = Duration::from_secs(60);

/// Standing flows of one caller at most: every local port to one destination.
const PER_CALLER: u32 = 1 << 16;

/// How many slots are looked at for a flow that gives way to another, and how many give way at most.
const PROBES: usize = 256;
const GIVE_WAY: usize = 8;

/// All flows that have an end here.
pub(crate) struct Flows {
    slots: Vec<Option<Flow>>,
    free: Vec<u32>,
    index: HashMap<Pair, u32, Seeded>,
    pins: Pins,
    counts: Counts,
    /// Flows that have ended, those that were reset, and those that have only begun, in the order in which they are
    /// forgotten.
    ended: VecDeque<Due>,
    reset: VecDeque<Due>,
    opening: VecDeque<Due>,
    kept: Kept,
    generation: u64,
    /// Of which flow a segment has passed last, and which of its ends has sent it.
    latest: (u32, Role),
    /// Until when connections may stand that are not known here; `None`: all are known.
    cold: Option<Instant>,
    look: Instant,
    /// Where the search for a flow that gives way goes on.
    hand: usize,
}

impl Flows {
    /// Takes up the flows that `memory` holds. `seed` keeps the instances from choosing ports that fall together.
    pub(crate) fn new(memory: Box<dyn PinMemory>, seed: u64, now: Instant) -> Self {
        let (pins, Found { pins: found, whole }) = Pins::open(memory);
        let mut flows = Self {
            slots: vec![],
            free: vec![],
            index: HashMap::with_hasher(Seeded(seed)),
            pins,
            counts: Counts::default(),
            ended: VecDeque::new(),
            reset: VecDeque::new(),
            opening: VecDeque::new(),
            kept: Kept::new(seed),
            generation: 0,
            latest: (0, Role::Caller),
            cold: (!whole).then(|| now + WARM),
            look: now + due::LOOK,
            hand: 0,
        };
        flows.take_up(found, now);
        flows
    }

    fn take_up(&mut self, found: Vec<(u32, Pin)>, now: Instant) {
        for (slot, mut pin) in found {
            let pair = Pair::of(pin.caller, pin.callee);
            if self.index.contains_key(&pair) {
                self.pins.clear(slot);
                continue;
            }
            // Earlier versions took up what only the callee had spoken for, and left it as if it stood.
            let is_claim = pin.isn == 0 && pin.acks[Role::Caller as usize].is_none();
            let payer = if pin.phase == Phase::Open && is_claim {
                pin.phase = Phase::Claimed;
                self.pins.clear(slot);
                Role::Callee
            } else {
                Role::Caller
            };
            self.generation += 1;
            let generation = self.generation;
            while self.slots.len() < slot as usize {
                self.free.push(self.slots.len() as u32);
                self.slots.push(None);
            }
            let flow = Flow::new(pin, payer, generation, now);
            self.counts.enter(&flow);
            self.slots.push(Some(flow));
            self.index.insert(pair, slot);
            self.schedule(slot, pin.phase, generation, now);
        }
    }

    /// The flow that a packet belongs to, and which of the two has sent it.
    #[inline]
    pub(crate) fn find(&self, packet: &Packet, tcp: &Tcp) -> Option<(u32, Role)> {
        let source = End { address: packet.source, port: tcp.source_port };
        let destination = End { address: packet.destination, port: tcp.destination_port };
        let slot = *self.index.get(&Pair::of(source, destination))?;
        let flow = self.slots.get(slot as usize)?.as_ref()?;
        Some((slot, if flow.pin.caller == source { Role::Caller } else { Role::Callee }))
    }

    /// One of them.
    #[inline]
    pub(crate) fn get(&self, slot: u32) -> Option<&Flow> {
        self.slots.get(slot as usize)?.as_ref()
    }

    /// Of which flow a segment has passed last, and which of its ends has sent it.
    #[inline]
    pub(crate) const fn latest(&self) -> (u32, Role) {
        self.latest
    }

    /// All of them, by slot.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u32, &Flow)> {
        (0..).zip(&self.slots).filter_map(|(slot, flow)| Some((slot, flow.as_ref()?)))
    }

    /// Whether connections may stand that are not known here.
    pub(crate) fn is_cold(&self, now: Instant) -> bool {
        self.cold.is_some_and(|until| now < until)
    }

    /// Follows a new flow, which takes the place of what its ends had before.
    ///
    /// # Errors
    /// If the tenant that it counts for has as many as it may.
    pub(crate) fn begin(&mut self, new: New, now: Instant) -> Result<u32, Reason> {
        let New { phase, caller, callee, caller_is, caller_seat, callee_seat, isn, resolved, payer } = new;
        let (fins, fin_acks, acks) = (0, [None; 2], [None; 2]);
        let pin = Pin { phase, caller, callee, caller_is, caller_seat, callee_seat, fins, fin_acks, isn, acks };
        self.generation += 1;
        let generation = self.generation;
        let mut flow = Flow::new(pin, payer, generation, now);
        flow.resolved = Some(resolved);
        let pair = Pair::of(caller, callee);
        if let Some(slot) = self.index.get(&pair) {
            self.forget(*slot);
        }
        self.make_room(&flow)?;
        let slot = self.vacant().ok_or(Reason::TooManyConnections)?;
        self.counts.enter(&flow);
        self.slots[slot as usize] = Some(flow);
        self.index.insert(pair, slot);
        if phase != Phase::Claimed {
            self.pins.write(slot, &pin);
        }
        self.schedule(slot, phase, generation, now);
        Ok(slot)
    }

    /// Sees to it that one more may stand: what has only begun of who has most gives way to who has less.
    ///
    /// # Errors
    /// If the tenant that it counts for has as many as it may.
    fn make_room(&mut self, flow: &Flow) -> Result<(), Reason> {
        for _ in 0..GIVE_WAY {
            if self.limit(flow).is_none() {
                return Ok(());
            }
            let greedy = self.greedier(flow).ok_or(Reason::TooManyConnections)?;
            self.forget(greedy);
        }
        if self.limit(flow).is_none() { Ok(()) } else { Err(Reason::TooManyConnections) }
    }

    fn limit(&self, flow: &Flow) -> Option<Level> {
        self.counts.limit(flow, self.pins.capacity(), PER_CALLER)
    }

    /// A flow that has only begun, of a tenant that has more such than the one of `flow` has in all.
    fn greedier(&mut self, flow: &Flow) -> Option<u32> {
        let tenant = self.counts.tenant(flow)?;
        for _ in 0..PROBES.min(self.slots.len()) {
            self.hand = if self.hand + 1 < self.slots.len() { self.hand + 1 } else { 0 };
            let gives_way = self.slots[self.hand].as_ref().filter(|other| other.pin.phase == Phase::Opening);
            let greedy = gives_way.and_then(|other| self.counts.tenant(other));
            if greedy.is_some_and(|greedy| self.counts.is_greedier(greedy, tenant)) {
                return Some(self.hand as u32);
            }
        }
        None
    }

    /// A free slot. What has ended makes room for what begins.
    fn vacant(&mut self) -> Option<u32> {
        loop {
            if let Some(slot) = self.free.pop() {
                return Some(slot);
            }
            if (self.slots.len() as u32) < self.pins.capacity() {
                self.slots.push(None);
                return Some(self.slots.len() as u32 - 1);
            }
            // Of what was reset an end may not know yet.
            let Due { slot, generation, .. } = self.ended.pop_front().or_else(|| self.reset.pop_front())?;
            if self.holds(slot, generation) {
                self.forget(slot);
            }
        }
    }

    /// Keeps the SYN of an attempt, so that it can be moved when it is refused.
    pub(crate) fn keep(&mut self, slot: u32, syn: Vec<u8>) {
        let Some(Some(flow)) = self.slots.get_mut(slot as usize) else { return };
        let Some(tenant) = self.counts.tenant(flow).filter(|_| syn.len() <= KEPT_OCTETS) else { return };
        flow.attempt = Some(Box::new(Attempt::new(syn)));
        if let Some((slot, generation)) = self.kept.push(tenant, slot, flow.generation)
            && self.holds(slot, generation)
            && let Some(flow) = &mut self.slots[slot as usize]
        {
            flow.attempt = None;
        }
    }

    /// The SYN that is kept of an attempt.
    pub(crate) fn kept(&self, slot: u32) -> Option<Vec<u8>> {
        Some(self.get(slot)?.attempt.as_ref()?.syn.clone())
    }

    /// Takes what is kept of an attempt, to be given back by [`Self::repin`] if it goes on.
    pub(crate) fn take_attempt(&mut self, slot: u32) -> Option<Box<Attempt>> {
        self.slots.get_mut(slot as usize)?.as_mut()?.attempt.take()
    }

    /// Moves an attempt to `seat`, where `resolved` is its place in the current map then.
    pub(crate) fn repin(
        &mut self,
        slot: u32,
        seat: Seat,
        resolved: Resolved,
        attempt: Option<Box<Attempt>>,
        now: Instant,
    ) {
        let Some(Some(flow)) = self.slots.get_mut(slot as usize) else { return };
        self.counts.leave(flow);
        flow.resolved = Some(resolved);
        flow.pin.callee_seat = seat;
        flow.pin.acks[Role::Callee as usize] = None;
        flow.sent[Role::Callee as usize] = None;
        (flow.attempt, flow.since) = (attempt, now);
        self.counts.enter(flow);
        self.pins.write(slot, &flow.pin);
    }

    /// Whether the caller of a flow is where it was and may still call, whatever is called.
    pub(crate) fn may_be_opened(&self, slot: u32, route: &Route, filter: &Filter) -> bool {
        self.get(slot).is_some_and(|flow| right(&flow.pin, route, filter).is_some())
    }

    /// What decides between seats that are equally good: rendezvous hashing, so that each connection has its own order
    /// of all seats, and keeps it when others come and go (Thaler and Ravishankar, 1998).
    pub(crate) fn tie(&self, caller: End, callee: End, seat: Seat) -> u64 {
        use std::hash::{BuildHasher as _, Hash as _, Hasher as _};
        let mut hasher = self.index.hasher().build_hasher();
        Pair::of(caller, callee).hash(&mut hasher);
        hasher.write_u64(seat.number() << 1 | u64::from(matches!(seat, Seat::Here(_))));
        hasher.finish()
    }

    /// Finds everything's place in a new map, and gives the flows whose right or whose other end is gone.
    pub(crate) fn resolve(&mut self, route: &Route, filter: &Filter) -> Vec<u32> {
        let Self { slots, counts, kept, .. } = self;
        counts.clear(route, filter);
        let mut broken = vec![];
        for (slot, flow) in (0..).zip(slots.iter_mut()) {
            let Some(flow) = flow else { continue };
            flow.resolved = resolve(&flow.pin, route, filter);
            counts.enter(flow);
            if flow.resolved.is_none() && flow.may_stand() {
                broken.push(slot);
            }
        }
        let whose = |slot: u32, generation| {
            let flow = slots.get(slot as usize)?.as_ref()?;
            if flow.generation == generation && flow.attempt.is_some() { counts.tenant(flow) } else { None }
        };
        kept.rekey(whose);
        broken
    }

    /// How many standing flows are pinned to an instance here, by its index of the route.
    #[inline]
    pub(crate) fn open_here(&self, instance: u32) -> u32 {
        self.counts.here(instance)
    }

    /// How many standing flows to a service are pinned to another runner.
    #[inline]
    pub(crate) fn open_there(&self, service: u32, runner: u32) -> u32 {
        self.counts.there(service, runner)
    }

    /// The other runners with which flows stand.
    pub(crate) fn linked(&self) -> impl Iterator<Item = RunnerId> {
        self.counts.linked()
    }

    /// How many flows stand that are no mere claim.
    pub(crate) const fn standing(&self) -> usize {
        self.counts.acknowledged()
    }

    fn holds(&self, slot: u32, generation: u64) -> bool {
        self.get(slot).is_some_and(|flow| flow.generation == generation)
    }

    fn forget(&mut self, slot: u32) {
        let Some(flow) = self.slots.get_mut(slot as usize).and_then(Option::take) else { return };
        self.counts.leave(&flow);
        self.index.remove(&Pair::of(flow.pin.caller, flow.pin.callee));
        self.pins.clear(slot);
        self.free.push(slot);
    }
}

#[cfg(test)]
mod tests;
