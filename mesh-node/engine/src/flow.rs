//! Connections: between whom, on which instance, and whether they stand.
//!
//! A flow is pinned: towards a service address the caller's engine keeps the runner, the callee's the instance, since
//! packets carry the service address only. A flow that is followed here has one end here at least.

mod attempt;
mod count;
mod entry;
mod hash;
mod pins;
mod right;
mod skip;

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use mesh_proto::RunnerId;

pub use self::pins::{PIN_MEMORY, PinMemory};
use self::{
    attempt::Attempt,
    count::Counts,
    hash::{Pair, Seeded},
    pins::{Pin, Pins},
    right::{resolve, right},
};
pub(crate) use self::{
    entry::{End, Flow, New, Phase, Resolved, Role, Seat, Way},
    skip::Skips,
};
use crate::{
    Reason,
    filter::Filter,
    packet::{Flags, Packet, Tcp},
    route::Route,
};

/// How long the end of a flow is remembered: TIME-WAIT, as Linux has it (include/net/tcp.h, `TCP_TIMEWAIT_LEN`).
const LINGER: Duration = Duration::from_secs(60);

/// How long an attempt is remembered after its last SYN: longer than the wait between any two SYNs that are not the very
/// last (RFC 6298 §2; 1, 2, 4 … 32 s).
const ATTEMPT: Duration = Duration::from_secs(70);

/// How many more entries the lists of what is due may have than there are flows, four times over.
const SLACK: usize = 1024;

/// How long an established flow may be silent (net/netfilter/nf_conntrack_proto_tcp.c, five days), and how often we look.
const SILENCE: Duration = Duration::from_secs(5 * 24 * 3600);
const LOOK: Duration = Duration::from_secs(3600);

/// When nearly everything that stands has shown itself to an engine that has just started. From then on what only
/// answers must have been asked.
const WARM: Duration = Duration::from_secs(60);

/// Standing flows of one caller at most: every local port to one destination. And with one other runner: a quarter of
/// all that there is room for.
const PER_CALLER: u32 = 1 << 16;
const PER_RUNNER: u32 = 1 << 16;

/// SYNs that are kept at most, to be sent to another instance should one refuse, and how long one may be: it may carry
/// data (RFC 7413), which nobody has to keep.
const KEPT: usize = 4096;
const KEPT_OCTETS: usize = 2048;

/// When something is due for a slot, if it still holds the same flow.
struct Due {
    at: Instant,
    slot: u32,
    generation: u64,
}

/// All flows that have an end here.
pub(crate) struct Flows {
    slots: Vec<Option<Flow>>,
    free: Vec<u32>,
    index: HashMap<Pair, u32, Seeded>,
    pins: Pins,
    counts: Counts,
    /// Flows that have ended, and attempts, in the order in which they are forgotten.
    ended: VecDeque<Due>,
    opening: VecDeque<Due>,
    /// Attempts that can be moved, oldest first.
    kept: VecDeque<(u32, u64)>,
    generation: u64,
    warm: Instant,
    look: Instant,
}

impl Flows {
    /// Takes up the flows that `memory` holds. `seed` keeps the instances from choosing ports that fall together.
    pub(crate) fn new(memory: Box<dyn PinMemory>, seed: u64, now: Instant) -> Self {
        let (pins, found) = Pins::open(memory);
        let mut flows = Self {
            slots: vec![],
            free: vec![],
            index: HashMap::with_hasher(Seeded(seed)),
            pins,
            counts: Counts::default(),
            ended: VecDeque::new(),
            opening: VecDeque::new(),
            kept: VecDeque::new(),
            generation: 0,
            warm: now + WARM,
            look: now + LOOK,
        };
        flows.take_up(found, now);
        flows
    }

    fn take_up(&mut self, found: Vec<(u32, Pin)>, now: Instant) {
        for (slot, pin) in found {
            let pair = Pair::of(pin.caller, pin.callee);
            if self.index.contains_key(&pair) {
                self.pins.clear(slot);
                continue;
            }
            self.generation += 1;
            let generation = self.generation;
            while self.slots.len() < slot as usize {
                self.free.push(self.slots.len() as u32);
                self.slots.push(None);
            }
            self.slots.push(Some(Flow {
                pin,
                since: now,
                generation,
                resolved: None,
                attempt: None,
                goes_on: false,
                held: false,
            }));
            self.index.insert(pair, slot);
            self.counts.enter(&pin);
            self.schedule(slot, pin.phase, generation, now);
        }
    }

    /// The flow that a packet belongs to, and who of the two has sent it.
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

    /// All of them, by slot.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u32, &Flow)> {
        (0..).zip(&self.slots).filter_map(|(slot, flow)| Some((slot, flow.as_ref()?)))
    }

    /// Whether an engine that lives since this table was made has seen nearly all that stands.
    pub(crate) fn is_warm(&self, now: Instant) -> bool {
        now >= self.warm
    }

    /// Follows a new flow, which takes the place of what its ends had before.
    ///
    /// Nobody has more than there is left for all others: however many fill the table, there is room for who has little.
    /// (Choudhury and Hahne, Dynamic queue length thresholds, 1998.)
    ///
    /// # Errors
    /// If there is no room for it.
    pub(crate) fn begin(&mut self, new: New, now: Instant) -> Result<u32, Reason> {
        let New { phase, caller, callee, caller_is, caller_seat, callee_seat, isn, resolved } = new;
        let pin = Pin { phase, caller, callee, caller_is, caller_seat, callee_seat, fins: 0, isn, acks: [None, None] };
        let left = self.pins.capacity().saturating_sub(self.counts.standing() as u32);
        let too_many = |count: u32, most: u32| count >= most || count > left;
        if too_many(self.counts.of_caller(caller_is), PER_CALLER)
            || self.counts.with_runners(&pin).any(|count| too_many(count, PER_RUNNER))
        {
            return Err(Reason::TooManyConnections);
        }
        let pair = Pair::of(caller, callee);
        if let Some(slot) = self.index.get(&pair) {
            self.forget(*slot);
        }
        let slot = self.vacant().ok_or(Reason::TooManyConnections)?;
        self.generation += 1;
        let generation = self.generation;
        let flow =
            Flow { pin, since: now, generation, resolved: Some(resolved), attempt: None, goes_on: false, held: false };
        self.slots[slot as usize] = Some(flow);
        self.index.insert(pair, slot);
        self.counts.enter(&pin);
        self.counts.place(&pin, &resolved);
        self.pins.write(slot, &pin);
        self.schedule(slot, phase, generation, now);
        Ok(slot)
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
            let Due { slot, generation, .. } = self.ended.pop_front()?;
            if self.holds(slot, generation) {
                self.forget(slot);
            }
        }
    }

    /// Keeps the SYN of an attempt, so that it can be moved when it is refused.
    pub(crate) fn keep(&mut self, slot: u32, syn: Vec<u8>) {
        if syn.len() > KEPT_OCTETS {
            return;
        }
        while self.kept.len() >= KEPT
            && let Some((slot, generation)) = self.kept.pop_front()
        {
            if self.holds(slot, generation)
                && let Some(flow) = &mut self.slots[slot as usize]
            {
                flow.attempt = None;
            }
        }
        if let Some(Some(flow)) = self.slots.get_mut(slot as usize) {
            flow.attempt = Some(Box::new(Attempt::new(syn)));
            self.kept.push_back((slot, flow.generation));
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
        if let Some(before) = flow.resolved.replace(resolved) {
            self.counts.displace(&before);
        }
        self.counts.leave(&flow.pin);
        flow.pin.callee_seat = seat;
        flow.pin.acks[Role::Callee as usize] = None;
        (flow.attempt, flow.since) = (attempt, now);
        self.counts.enter(&flow.pin);
        self.counts.place(&flow.pin, &resolved);
        self.pins.write(slot, &flow.pin);
    }

    /// Whether the caller of a flow is where it was and may still call, whoever is called.
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

    /// Takes account of a segment that passes.
    #[inline]
    pub(crate) fn pass(&mut self, slot: u32, role: Role, tcp: &Tcp, now: Instant) {
        let Some(Some(flow)) = self.slots.get_mut(slot as usize) else { return };
        flow.since = now;
        if tcp.flags.has(Flags::ACK) {
            let known = flow.pin.acks[role as usize].replace(tcp.acknowledgment);
            if known.is_none() {
                self.pins.write(slot, &flow.pin);
            } else if known != Some(tcp.acknowledgment) {
                self.pins.write_ack(slot, role, tcp.acknowledgment);
            }
        }
        const PLAIN: u8 = Flags::ACK | Flags::PSH | Flags::URG | Flags::ECE;
        if flow.pin.phase != Phase::Open || tcp.flags.0 & !PLAIN != 0 {
            self.follow(slot, role, tcp, now);
        }
    }

    /// The same for a segment that may change the flow's phase.
    fn follow(&mut self, slot: u32, role: Role, tcp: &Tcp, now: Instant) {
        let Some(Some(flow)) = self.slots.get_mut(slot as usize) else { return };
        if !flow.pin.phase.stands() {
            flow.goes_on |= flow.pin.phase == Phase::Ended && flow.pin.fins != 3 && !tcp.flags.has(Flags::RST);
            return;
        }
        let answered = match role {
            Role::Callee => tcp.flags.has(Flags::SYN) && tcp.flags.has(Flags::ACK),
            // We may have missed the SYN-ACK.
            Role::Caller => tcp.flags.has(Flags::ACK),
        };
        if tcp.flags.has(Flags::FIN) {
            flow.pin.fins |= 1 << role as u8;
        }
        let ended = tcp.flags.has(Flags::RST) || flow.pin.fins == 3;
        if ended {
            let ignored = tcp.flags.has(Flags::RST) && flow.pin.acks[role.other() as usize] != Some(tcp.sequence);
            self.end(slot, Phase::Ended, now);
            if let Some(Some(flow)) = self.slots.get_mut(slot as usize) {
                flow.goes_on = ignored;
            }
        } else if answered && flow.pin.phase == Phase::Opening {
            flow.pin.phase = Phase::Open;
            flow.attempt = None;
            self.pins.write(slot, &flow.pin);
        } else if tcp.flags.has(Flags::FIN) {
            self.pins.write(slot, &flow.pin);
        }
    }

    /// Ends a flow, and remembers it for a while.
    pub(crate) fn end(&mut self, slot: u32, phase: Phase, now: Instant) {
        let Some(Some(flow)) = self.slots.get_mut(slot as usize) else { return };
        if flow.pin.phase.stands() {
            self.counts.leave(&flow.pin);
            if let Some(resolved) = &flow.resolved {
                self.counts.displace(resolved);
            }
        }
        flow.pin.phase = phase;
        (flow.attempt, flow.goes_on) = (None, false);
        let generation = flow.generation;
        self.pins.write(slot, &flow.pin);
        self.schedule(slot, phase, generation, now);
    }

    /// Sees to it that a flow that has ended is remembered for as long as it is held, if there is room for it.
    pub(crate) fn hold(&mut self, slot: u32, held: bool) {
        if let Some(Some(flow)) = self.slots.get_mut(slot as usize) {
            flow.held = held;
        }
    }

    /// Finds everybody's place in a new map, and gives the flows whose right or whose other end is gone.
    pub(crate) fn resolve(&mut self, route: &Route, filter: &Filter) -> Vec<u32> {
        self.counts.forget_places(route);
        let mut broken = vec![];
        for (slot, flow) in (0..).zip(&mut self.slots) {
            let Some(flow) = flow else { continue };
            flow.resolved = resolve(&flow.pin, route, filter);
            match &flow.resolved {
                Some(resolved) if flow.pin.phase.stands() => self.counts.place(&flow.pin, resolved),
                None if flow.may_stand() => broken.push(slot),
                _ => {}
            }
        }
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

    /// How many flows stand.
    pub(crate) const fn standing(&self) -> usize {
        self.counts.standing()
    }

    /// Forgets what has come due by `now`.
    pub(crate) fn tick(&mut self, now: Instant) {
        while self.ended.front().is_some_and(|due| due.at <= now)
            && let Some(Due { slot, generation, .. }) = self.ended.pop_front()
        {
            let Some(flow) = self.get(slot).filter(|flow| flow.generation == generation) else { continue };
            if flow.held {
                self.ended.push_back(Due { at: now + LINGER, slot, generation });
            } else {
                self.forget(slot);
            }
        }
        while self.opening.front().is_some_and(|due| due.at <= now)
            && let Some(Due { slot, generation, .. }) = self.opening.pop_front()
        {
            let Some(flow) = self.get(slot).filter(|flow| flow.generation == generation) else { continue };
            let (phase, again) = (flow.pin.phase, flow.since + ATTEMPT);
            match phase {
                Phase::Opening if again <= now => self.forget(slot),
                Phase::Opening => self.opening.push_back(Due { at: again, slot, generation }),
                _ => {}
            }
        }
        if self.look <= now {
            self.look = now + LOOK;
            let silent = |flow: &Flow| now.saturating_duration_since(flow.since) >= SILENCE;
            let gone: Vec<u32> = self.all().filter(|(_, flow)| silent(flow)).map(|(slot, _)| slot).collect();
            gone.into_iter().for_each(|slot| self.forget(slot));
        }
    }

    /// When [`Self::tick`] wants to be called. (Nobody is woken to look for silent ones: where nothing happens at all, they
    /// are in nobody's way.)
    pub(crate) fn next_tick(&self) -> Option<Instant> {
        [self.ended.front(), self.opening.front()].into_iter().flatten().map(|due| due.at).min()
    }

    fn schedule(&mut self, slot: u32, phase: Phase, generation: u64, now: Instant) {
        let (all, after) = match phase {
            Phase::Opening => (&mut self.opening, ATTEMPT),
            Phase::Open => return,
            Phase::Ended | Phase::Reset => (&mut self.ended, LINGER),
        };
        // Those whose slot has another flow by now are in the way if somebody opens the same again and again.
        if all.len() > 4 * self.slots.len() + SLACK {
            let slots = &self.slots;
            let holds =
                |due: &Due| slots.get(due.slot as usize)?.as_ref().map(|flow| flow.generation == due.generation);
            all.retain(|due| holds(due) == Some(true));
        }
        all.push_back(Due { at: now + after, slot, generation });
    }

    fn holds(&self, slot: u32, generation: u64) -> bool {
        self.get(slot).is_some_and(|flow| flow.generation == generation)
    }

    fn forget(&mut self, slot: u32) {
        let Some(flow) = self.slots.get_mut(slot as usize).and_then(Option::take) else { return };
        if flow.pin.phase.stands() {
            self.counts.leave(&flow.pin);
            if let Some(resolved) = &flow.resolved {
                self.counts.displace(resolved);
            }
        }
        self.index.remove(&Pair::of(flow.pin.caller, flow.pin.callee));
        self.pins.clear(slot);
        self.free.push(slot);
    }
}

#[cfg(test)]
mod tests;
