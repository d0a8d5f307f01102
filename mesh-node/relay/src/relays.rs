//! All relays of a runner: which of them it is at, and what passes by them.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use mesh_proto::{RelayId, relay::Relayed};

use crate::{Allocation, Distance, Dropped, Homes, Look, Run, Seen, Standing, Transport, Wrapped};

mod config;
mod entry;
mod holding;
mod streams;

use self::entry::{Entry, Work};
pub use self::{
    config::{Config, RelayReport, To},
    holding::Wish,
};

/// How long a look may take at the longest. The next one is due after what [`Homes::judge`] says.
const LOOK: Duration = Duration::from_secs(30);

/// All relays of a runner.
#[derive(Debug)]
pub struct Relays {
    entries: Vec<Entry>,
    homes: Homes,
    seed: u64,
    /// When the relays without an allocation are looked at next, and whether they are now.
    look: Instant,
    looking: bool,
    changed: bool,
    /// What was dropped by relays that are gone.
    dropped: Dropped,
    /// Last words to relays that are gone.
    farewells: Vec<(To, Vec<u8>)>,
    /// Connections of relays that are gone.
    closings: Vec<RelayId>,
}

impl Relays {
    /// No relays. `seed` keeps many runners out of step.
    #[must_use]
    pub fn new(seed: u64, now: Instant) -> Self {
        Self {
            entries: Vec::new(),
            homes: Homes::default(),
            seed,
            look: now,
            looking: false,
            changed: false,
            dropped: Dropped::default(),
            farewells: Vec::new(),
            closings: Vec::new(),
        }
    }

    /// Takes over which relays there are. What is known of those that stay, stays.
    pub fn set(&mut self, configs: Vec<Config>, now: Instant) {
        let mut before = std::mem::take(&mut self.entries);
        for config in configs {
            let known = before.iter().position(|entry| entry.config.id == config.id).map(|at| before.swap_remove(at));
            let kept = known.and_then(|mut entry| {
                let at = config.addresses.iter().position(|address| Some(*address) == entry.address());
                let at = at.or_else(|| entry.is_by_stream().then_some(0).filter(|_| config.streams));
                match at {
                    Some(at) => {
                        entry.at = at;
                        if let Work::Holding(holding) = &mut entry.work {
                            holding.set(&config, now);
                        }
                        entry.config = config.clone();
                        Some(entry)
                    }
                    None => {
                        self.leave(&entry.config, entry.address(), entry.work, now);
                        None
                    }
                }
            });
            self.entries.push(kept.unwrap_or_else(|| Entry::new(config)));
        }
        before.into_iter().for_each(|entry| self.leave(&entry.config, entry.address(), entry.work, now));
        let ids: Vec<RelayId> = self.entries.iter().map(|entry| entry.config.id).collect();
        self.homes.set(&ids);
        self.changed = true;
        self.look = now;
        self.follow(now);
        self.look_around(now);
    }

    /// Gives an allocation up, with a last word to the relay.
    fn leave(&mut self, config: &Config, address: Option<SocketAddr>, work: Work, now: Instant) {
        if let Work::Holding(mut holding) = work {
            // The end of a connection is the end of its allocation.
            if holding.has_connection() {
                self.closings.push(config.id);
            }
            let allocation = holding.used_mut();
            allocation.release(now);
            self.dropped.add(allocation.take_dropped());
            if allocation.transport() == Transport::Datagram {
                self.farewells.extend(address.map(To::Address).zip(allocation.poll_transmit()));
            }
            self.changed = true;
        }
    }

    /// Whether there are none, so that nothing has to be compared with their addresses.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Which relay has this address.
    #[inline]
    #[must_use]
    pub fn at(&self, address: SocketAddr) -> Option<RelayId> {
        self.entries.iter().find(|entry| entry.address() == Some(address)).map(|entry| entry.config.id)
    }

    /// Makes datagrams to a peer at a relay ready to be sent to the address that is returned (see [`Allocation::wrap`]).
    #[inline]
    pub fn wrap(
        &mut self,
        relay: RelayId,
        peer: SocketAddr,
        batch: &mut [u8],
        stride: usize,
        now: Instant,
    ) -> Option<(To, Wrapped)> {
        let found = self.entries.iter_mut().find(|entry| entry.config.id == relay);
        let held = found.and_then(|entry| Some((entry.to(entry.transport())?, entry)));
        let Some((to, Entry { work: Work::Holding(holding), .. })) = held else {
            self.dropped.unsent += batch.len().div_ceil(stride.max(1)) as u64;
            return None;
        };
        self.homes.used(relay, now);
        Some((to, holding.used_mut().wrap(peer, batch, stride, now)))
    }

    /// A message that carries one datagram to a peer without a channel (see [`Allocation::indication`]).
    #[must_use]
    pub fn indication(&self, peer: SocketAddr, datagram: &[u8]) -> Vec<u8> {
        crate::message::send(peer, datagram)
    }

    /// Handles what was received from a relay (see [`Allocation::unwrap`]).
    pub fn unwrap(
        &mut self,
        relay: RelayId,
        received: &[u8],
        stride: usize,
        at: &mut usize,
        now: Instant,
    ) -> Option<Run> {
        let entry = self.entries.iter_mut().find(|entry| entry.config.id == relay)?;
        let run = match &mut entry.work {
            Work::Holding(holding) => holding.unwrap(&entry.config, received, stride, at, now),
            Work::Looking(look) => {
                *at = received.len();
                let seen = look.handle(received.get(..stride).unwrap_or(received), now);
                match seen {
                    Some(seen) => self.saw(relay, seen, now),
                    None => self.dropped.foreign += 1,
                }
                return None;
            }
            Work::Nothing => {
                *at = received.len();
                self.dropped.foreign += received.len().div_ceil(stride.max(1)) as u64;
                return None;
            }
        };
        match run {
            Some(_) => self.homes.used(relay, now),
            None => self.take_events(now),
        }
        run
    }

    /// A peer can be reached at this relay, and at none of ours: an allocation there is wanted while it is used.
    pub fn need(&mut self, relay: RelayId, now: Instant) {
        let Self { entries, homes, .. } = self;
        let is_known = entries.iter().any(|entry| entry.config.id == relay);
        let is_vain = |visited| entries.iter().any(|entry| entry.config.id == visited && entry.is_vain());
        if is_known && homes.need(relay, is_vain, now) {
            self.follow(now);
        }
    }

    /// Nothing can be sent to this address: there is no route. Another one of the relay's is tried.
    pub fn handle_unreachable(&mut self, address: SocketAddr, now: Instant) {
        let seed = self.next_seed();
        for entry in self.entries.iter_mut().filter(|entry| entry.address() == Some(address)) {
            let standing = entry.allocation().map(Allocation::standing);
            if entry.config.addresses.len() > 1 && matches!(standing, Some(Standing::Asking)) {
                entry.ask_elsewhere(seed, now);
            }
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let mut seen = Vec::new();
        for entry in &mut self.entries {
            match &mut entry.work {
                Work::Nothing => {}
                Work::Looking(look) => seen.extend(look.handle_timeout(now).map(|seen| (entry.config.id, seen))),
                Work::Holding(holding) => holding.handle_timeout(now),
            }
        }
        seen.into_iter().for_each(|(relay, seen)| self.saw(relay, seen, now));
        self.take_events(now);
        if self.homes.handle_timeout(now) {
            self.follow(now);
        }
        if self.look <= now {
            self.look_around(now);
        }
    }

    /// When [`Relays::handle_timeout`] has to be called next, at the latest.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let each = self.entries.iter().filter_map(|entry| match &entry.work {
            Work::Nothing => None,
            Work::Looking(look) => look.next_timeout(),
            Work::Holding(holding) => holding.next_timeout(),
        });
        let look = self.has_choice().then_some(self.look);
        each.chain(self.homes.next_timeout()).chain(look).min()
    }

    /// A message to be sent, and where.
    pub fn poll_transmit(&mut self) -> Option<(To, Vec<u8>)> {
        if let Some(farewell) = self.farewells.pop() {
            return Some(farewell);
        }
        self.entries.iter_mut().find_map(|entry| {
            let (transport, bytes) = match &mut entry.work {
                Work::Nothing => None,
                Work::Looking(look) => look.poll_transmit().map(|bytes| (Transport::Datagram, bytes)),
                Work::Holding(holding) => holding.poll_transmit(),
            }?;
            Some((entry.to(transport)?, bytes))
        })
    }

    /// Whether what [`Relays::relayed`] or [`Relays::reports`] say has changed since the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// The addresses at which peers reach this runner.
    pub fn relayed(&self) -> impl Iterator<Item = Relayed> {
        self.entries
            .iter()
            .filter_map(|entry| Some(Relayed { relay: entry.config.id, address: entry.allocation()?.relayed()? }))
    }

    /// What there is to say of all relays.
    pub fn reports(&self) -> impl Iterator<Item = RelayReport> {
        self.entries.iter().map(Entry::report)
    }

    /// The datagrams that were dropped since the last call.
    pub fn take_dropped(&mut self) -> Dropped {
        let mut all = std::mem::take(&mut self.dropped);
        for entry in &mut self.entries {
            if let Work::Holding(holding) = &mut entry.work {
                all.add(holding.used_mut().take_dropped());
            }
        }
        all
    }

    /// Notes what has become of the allocations.
    fn take_events(&mut self, now: Instant) {
        let seed = self.next_seed();
        for entry in &mut self.entries {
            let Work::Holding(holding) = &mut entry.work else { continue };
            let change = holding.settle(&entry.config, now);
            self.changed |= change.any;
            if change.worse {
                self.look = self.look.min(now + LOOK);
            }
            if change.unanswered && entry.config.addresses.len() > 1 {
                entry.ask_elsewhere(seed, now);
            }
        }
    }

    /// Begins and ends allocations, by what is wanted.
    fn follow(&mut self, now: Instant) {
        let wanted: Vec<RelayId> = self.homes.wanted().collect();
        for at in 0..self.entries.len() {
            let seed = self.next_seed();
            let Some(entry) = self.entries.get_mut(at) else { continue };
            match (&entry.work, wanted.contains(&entry.config.id)) {
                (Work::Nothing | Work::Looking(_), true) => entry.hold(seed, now),
                (Work::Holding(_), false) => {
                    let (address, work) = (entry.address(), std::mem::replace(&mut entry.work, Work::Nothing));
                    let config = entry.config.clone();
                    self.leave(&config, address, work, now);
                }
                _ => {}
            }
        }
    }

    /// Whether there are relays to choose from.
    fn has_choice(&self) -> bool {
        self.entries.iter().any(|entry| entry.allocation().is_none())
    }

    /// Begins a look at the relays without an allocation, if the last one is over.
    fn look_around(&mut self, now: Instant) {
        self.look = now + LOOK;
        for entry in self.entries.iter_mut().filter(|entry| matches!(entry.work, Work::Nothing)) {
            entry.work = Work::Looking(Look::new(now));
            self.looking = true;
        }
        if !self.looking {
            self.judge(now);
        }
    }

    /// A look at a relay is over.
    fn saw(&mut self, relay: RelayId, seen: Seen, now: Instant) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.config.id == relay) {
            entry.work = Work::Nothing;
            if seen == Seen::Nothing && !entry.config.addresses.is_empty() {
                entry.at = (entry.at + 1) % entry.config.addresses.len();
            }
            entry.seen = Some(seen);
            self.changed = true;
        }
        if matches!(seen, Seen::There { .. }) {
            self.homes.answered(relay);
            self.follow(now);
        }
        if self.looking && !self.entries.iter().any(|entry| matches!(entry.work, Work::Looking(_))) {
            self.looking = false;
            self.judge(now);
        }
    }

    /// Chooses, after all relays were looked at.
    fn judge(&mut self, now: Instant) {
        let distances: Vec<Distance> = self.entries.iter().map(|entry| (entry.config.id, entry.rtt())).collect();
        self.look = now + self.homes.judge(&distances);
        // Where no datagram gets through, nothing says which are the nearest.
        if self.homes.wanted().next().is_none() {
            let by_stream = self.entries.iter().filter(|entry| entry.config.streams).map(|entry| entry.config.id);
            by_stream.collect::<Vec<_>>().into_iter().for_each(|relay| self.homes.answered(relay));
        }
        self.follow(now);
    }

    fn next_seed(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.seed
    }
}
