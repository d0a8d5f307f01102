//! The flow table.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use mesh_proto::RunnerId;

use super::{
    attempt::Attempt,
    count::Counts,
    due::{Due, SILENCE_CHECK},
    end::{End, Location, Phase, Role},
    entry::{Flow, Resolved},
    hash::{FlowKey, Seeded},
    kept_syns::{KEPT_BYTES, KeptSyns},
    loads::Loads,
    pins::{Found, Pin, PinMemory, Pins},
    resolve::{caller_side, resolve},
    usage::Level,
};
use crate::{
    PairReport, Reason,
    filter::Filter,
    index::{InstanceIx, Ix as _, IxVec, PairIx, PoolIx, RunnerIx, ServiceIx, Slot},
    packet::{Packet, Tcp},
    route::Route,
};

/// After this time an engine that started without its memory has seen nearly every standing connection.
const WARM: Duration = Duration::from_secs(60);

/// Standing flows of one caller at most: every local port to one destination.
const PER_CALLER: u32 = 1 << 16;

/// How many slots are searched for a flow that makes room for another, and how many are removed at most.
const PROBES: usize = 256;
const EVICTIONS: usize = 8;

/// All flows with a local end.
pub(crate) struct Flows {
    pub(super) slots: IxVec<Slot, Option<Flow>>,
    free: Vec<Slot>,
    index: HashMap<FlowKey, Slot, Seeded>,
    pub(super) pins: Pins,
    pub(super) counts: Counts,
    /// Ended, reset and unanswered flows, in the order in which they are forgotten.
    pub(super) ended: VecDeque<Due>,
    pub(super) reset: VecDeque<Due>,
    pub(super) opening: VecDeque<Due>,
    pub(super) kept: KeptSyns,
    pub(super) generation: u64,
    /// The flow of the latest segment, and the end that sent it.
    pub(super) latest: (Slot, Role),
    /// Whether that segment carried data that its end had sent before.
    pub(super) repeated: bool,
    /// Until then connections may stand that are not in the table; `None`: it is complete.
    cold: Option<Instant>,
    pub(super) next_silence_check: Instant,
    pub(super) loads: Loads,
    /// Where the search for a flow that makes room goes on.
    hand: usize,
}

impl Flows {
    /// Adopts the flows that `memory` holds. `seed` keeps instances from choosing ports that collide.
    pub(crate) fn new(memory: Box<dyn PinMemory>, seed: u64, now: Instant) -> Self {
        let (pins, Found { pins: found, whole }) = Pins::open(memory);
        let mut flows = Self {
            slots: IxVec::new(),
            free: vec![],
            index: HashMap::with_hasher(Seeded(seed)),
            pins,
            counts: Counts::default(),
            ended: VecDeque::new(),
            reset: VecDeque::new(),
            opening: VecDeque::new(),
            kept: KeptSyns::new(seed),
            generation: 0,
            latest: (Slot(0), Role::Caller),
            repeated: false,
            cold: (!whole).then(|| now + WARM),
            next_silence_check: now + SILENCE_CHECK,
            loads: Loads::default(),
            hand: 0,
        };
        flows.adopt(found, now);
        flows
    }

    fn adopt(&mut self, found: Vec<(Slot, Pin)>, now: Instant) {
        for (slot, mut pin) in found {
            let key = FlowKey::of(pin.caller, pin.callee);
            if self.index.contains_key(&key) {
                self.pins.clear(slot);
                continue;
            }
            // Earlier versions stored claims of the callee as open flows.
            let is_claim = pin.isn == 0 && pin.progress.acks[Role::Caller as usize].is_none();
            let payer = if pin.phase == Phase::Open && is_claim {
                pin.phase = Phase::Claimed;
                self.pins.clear(slot);
                Role::Callee
            } else {
                Role::Caller
            };
            self.generation += 1;
            let generation = self.generation;
            while self.slots.len() < slot.position() {
                let free = self.slots.push(None);
                self.free.push(free);
            }
            let flow = Flow::new(pin, payer, generation, now);
            self.counts.enter(&flow);
            self.slots.push(Some(flow));
            self.index.insert(key, slot);
            self.schedule(slot, pin.phase, generation, now);
        }
    }

    /// The flow of a packet, and the end that sent it.
    #[inline]
    pub(crate) fn find(&self, packet: &Packet, tcp: &Tcp) -> Option<(Slot, Role)> {
        let source = End { address: packet.source, port: tcp.source_port };
        let destination = End { address: packet.destination, port: tcp.destination_port };
        let slot = *self.index.get(&FlowKey::of(source, destination))?;
        let flow = self.get(slot)?;
        Some((slot, if flow.pin.caller == source { Role::Caller } else { Role::Callee }))
    }

    #[inline]
    pub(crate) fn get(&self, slot: Slot) -> Option<&Flow> {
        self.slots.get(slot)?.as_ref()
    }

    /// Whether the segment that has just passed carried data that its end had sent before.
    #[inline]
    pub(crate) const fn is_repeated(&self) -> bool {
        self.repeated
    }

    /// The flow of the latest segment, and the end that sent it.
    pub(crate) const fn latest(&self) -> (Slot, Role) {
        self.latest
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (Slot, &Flow)> {
        self.slots.iter().filter_map(|(slot, flow)| Some((slot, flow.as_ref()?)))
    }

    /// Whether connections may stand that are not in the table.
    pub(crate) fn is_cold(&self, now: Instant) -> bool {
        self.cold.is_some_and(|until| now < until)
    }

    /// Follows a new flow, which replaces an earlier one between the same ends. It counts for the end `payer`.
    ///
    /// # Errors
    /// If the tenant that it counts for has as many as it may.
    pub(crate) fn begin(&mut self, pin: Pin, resolved: Resolved, payer: Role, now: Instant) -> Result<Slot, Reason> {
        self.generation += 1;
        let generation = self.generation;
        let mut flow = Flow::new(pin, payer, generation, now);
        flow.resolved = Some(resolved);
        flow.pair = self.counts.pairs.find(&resolved, &pin);
        let key = FlowKey::of(pin.caller, pin.callee);
        if let Some(slot) = self.index.get(&key) {
            self.forget(*slot);
        }
        self.make_room(&flow)?;
        let slot = self.vacant().ok_or(Reason::TooManyConnections)?;
        self.counts.enter(&flow);
        self.slots[slot] = Some(flow);
        self.index.insert(key, slot);
        if pin.phase != Phase::Claimed {
            self.pins.write(slot, &pin);
        }
        self.schedule(slot, pin.phase, generation, now);
        Ok(slot)
    }

    /// Makes room for a flow: unanswered attempts of greedier tenants are removed.
    ///
    /// # Errors
    /// If the tenant that it counts for has as many as it may.
    fn make_room(&mut self, flow: &Flow) -> Result<(), Reason> {
        for _ in 0..EVICTIONS {
            if self.limit(flow).is_none() {
                return Ok(());
            }
            let greedy = self.greedier(flow).ok_or(Reason::TooManyConnections)?;
            self.forget(greedy);
        }
        if self.limit(flow).is_none() { Ok(()) } else { Err(Reason::TooManyConnections) }
    }

    pub(super) fn limit(&self, flow: &Flow) -> Option<Level> {
        self.counts.limit(flow, self.pins.capacity(), PER_CALLER)
    }

    /// An unanswered attempt of a tenant that has more of them than the tenant of `flow` has flows.
    fn greedier(&mut self, flow: &Flow) -> Option<Slot> {
        let tenant = self.counts.tenant(flow)?;
        for _ in 0..PROBES.min(self.slots.len()) {
            self.hand = if self.hand + 1 < self.slots.len() { self.hand + 1 } else { 0 };
            let slot = Slot::new(self.hand);
            let unanswered = self.slots[slot].as_ref().filter(|other| other.pin.phase == Phase::Opening);
            let greedy = unanswered.and_then(|other| self.counts.tenant(other));
            if greedy.is_some_and(|greedy| self.counts.is_greedier(greedy, tenant)) {
                return Some(slot);
            }
        }
        None
    }

    /// A free slot. Ended flows are forgotten early if none is free.
    fn vacant(&mut self) -> Option<Slot> {
        loop {
            if let Some(slot) = self.free.pop() {
                return Some(slot);
            }
            if (self.slots.len() as u32) < self.pins.capacity() {
                return Some(self.slots.push(None));
            }
            // Reset flows come second: an end may not have got its RST yet.
            let Due { slot, generation, .. } = self.ended.pop_front().or_else(|| self.reset.pop_front())?;
            if self.holds(slot, generation) {
                self.forget(slot);
            }
        }
    }

    /// Keeps the SYN of an attempt, so that the attempt can be moved when it is refused.
    pub(crate) fn keep(&mut self, slot: Slot, syn: Vec<u8>) {
        let Some(Some(flow)) = self.slots.get_mut(slot) else { return };
        let Some(tenant) = self.counts.tenant(flow).filter(|_| syn.len() <= KEPT_BYTES) else { return };
        flow.attempt = Some(Box::new(Attempt::new(syn)));
        if let Some((slot, generation)) = self.kept.push(tenant, slot, flow.generation)
            && self.holds(slot, generation)
            && let Some(flow) = &mut self.slots[slot]
        {
            flow.attempt = None;
        }
    }

    /// The kept SYN of an attempt.
    pub(crate) fn kept(&self, slot: Slot) -> Option<Vec<u8>> {
        Some(self.get(slot)?.attempt.as_ref()?.syn.clone())
    }

    /// Takes the state of an attempt out of the table. [`Self::repin`] returns it if the attempt goes on.
    pub(crate) fn take_attempt(&mut self, slot: Slot) -> Option<Box<Attempt>> {
        self.slots.get_mut(slot)?.as_mut()?.attempt.take()
    }

    /// Moves an attempt to `location`, which is `resolved` in the current map.
    pub(crate) fn repin(
        &mut self,
        slot: Slot,
        location: Location,
        resolved: Resolved,
        attempt: Option<Box<Attempt>>,
        now: Instant,
    ) {
        let Some(Some(flow)) = self.slots.get_mut(slot) else { return };
        self.counts.leave(flow);
        flow.resolved = Some(resolved);
        flow.pin.callee_location = location;
        flow.pair = self.counts.pairs.find(&resolved, &flow.pin);
        flow.pin.progress.acks[Role::Callee as usize] = None;
        flow.sent[Role::Callee as usize] = None;
        (flow.attempt, flow.since) = (attempt, now);
        self.counts.enter(flow);
        self.pins.write(slot, &flow.pin);
    }

    /// Whether the caller of a flow is still there and may still call, wherever the callee is.
    pub(crate) fn may_be_opened(&self, slot: Slot, route: &Route, filter: &Filter) -> bool {
        self.get(slot).is_some_and(|flow| caller_side(&flow.pin, route, filter).is_some())
    }

    /// Decides between locations that are equally good: rendezvous hashing, so that each connection has its own order of
    /// all locations and keeps it when others come and go (Thaler and Ravishankar, 1998).
    pub(crate) fn tie(&self, caller: End, callee: End, location: Location) -> u64 {
        use std::hash::{BuildHasher as _, Hash as _, Hasher as _};
        let mut hasher = self.index.hasher().build_hasher();
        FlowKey::of(caller, callee).hash(&mut hasher);
        hasher.write_u64(location.number() << 1 | u64::from(matches!(location, Location::Here(_))));
        hasher.finish()
    }

    /// Looks up every flow in a new map. Returns the flows that it doesn't allow any more.
    pub(crate) fn resolve(&mut self, route: &Route, filter: &Filter) -> Vec<Slot> {
        let Self { slots, counts, kept, .. } = self;
        let moved = counts.clear(route, filter);
        let mut broken = vec![];
        for (slot, flow) in slots.iter_mut() {
            let Some(flow) = flow else { continue };
            flow.resolved = resolve(&flow.pin, route, filter);
            match &flow.resolved {
                Some(resolved) => flow.pair = counts.pairs.find(resolved, &flow.pin),
                None if moved => flow.pair = PairIx::OTHER,
                None => {}
            }
            counts.enter(flow);
            if flow.resolved.is_none() && flow.may_stand() {
                broken.push(slot);
            }
        }
        kept.rekey(|slot, generation| {
            let flow = slots.get(slot)?.as_ref()?;
            if flow.generation == generation && flow.attempt.is_some() { counts.tenant(flow) } else { None }
        });
        broken
    }

    /// How many standing flows are pinned to a local instance.
    #[inline]
    pub(crate) fn open_here(&self, instance: InstanceIx) -> u32 {
        self.counts.here(instance)
    }

    /// How many standing flows to a service are pinned to another runner; or only those whose callers prefer some of its
    /// instances.
    #[inline]
    pub(crate) fn open_there(&self, service: ServiceIx, preferring: Option<PoolIx>, runner: RunnerIx) -> u32 {
        self.counts.there(service, preferring, runner)
    }

    /// The other runners with which flows stand.
    pub(crate) fn linked(&self) -> impl Iterator<Item = RunnerId> {
        self.counts.linked()
    }

    /// What passed between each pair of services.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = PairReport> {
        self.counts.pairs.reports()
    }

    /// How many flows stand, without claims.
    pub(crate) const fn standing(&self) -> usize {
        self.counts.acknowledged()
    }

    fn holds(&self, slot: Slot, generation: u64) -> bool {
        self.get(slot).is_some_and(|flow| flow.generation == generation)
    }

    pub(super) fn forget(&mut self, slot: Slot) {
        let Some(flow) = self.slots.get_mut(slot).and_then(Option::take) else { return };
        self.counts.leave(&flow);
        flow.lanes.into_iter().for_each(|assigned| self.loads.remove(assigned));
        self.index.remove(&FlowKey::of(flow.pin.caller, flow.pin.callee));
        self.pins.clear(slot);
        self.free.push(slot);
    }
}
