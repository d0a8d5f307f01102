//! Allocation of addresses.
//!
//! Services take fresh addresses from the low end of the range, and freed ones only when no fresh ones are left.
//! Instances come and go far more often: they take fresh addresses from the high end until enough freed ones have
//! gathered, so that the number of freed records stays bounded. Freed addresses are reused in the order of freeing,
//! and never before their quarantine is over.
//!
//! The resolver's address is never taken. In a database of version 0.2 or older the first instance may have it: it keeps
//! the address until it ends, and then none gets it again.

use std::net::Ipv4Addr;

use crate::{Key, Refusal, RunningSeconds, draft::Draft, limits, record::Holder};

impl Draft<'_> {
    /// An address for a new service.
    pub(crate) fn service_address(&mut self) -> Result<Ipv4Addr, Refusal> {
        self.fresh(Holder::Service)
            .or_else(|| self.rested(Holder::Service))
            .or_else(|| self.rested(Holder::Instance))
            .ok_or_else(|| self.exhausted())
    }

    /// An address for a new instance.
    pub(crate) fn instance_address(&mut self) -> Result<Ipv4Addr, Refusal> {
        let resting = self.state.index.resting.get(&Holder::Instance).map_or(0, |order| order.len());
        let early = if resting >= limits::INSTANCE_ADDRESSES_RESTING { self.rested(Holder::Instance) } else { None };
        early
            .or_else(|| self.fresh(Holder::Instance))
            .or_else(|| self.rested(Holder::Instance))
            .or_else(|| self.rested(Holder::Service))
            .ok_or_else(|| self.exhausted())
    }

    /// Takes exactly this address for an instance that a runner brought back, if it is free and not in quarantine.
    pub(crate) fn adopt_address(&mut self, address: Ipv4Addr) -> bool {
        let range = self.state.meta.network.range;
        let usable = range.contains(address)
            && address != range.first()
            && address != range.last()
            && address != range.resolver()
            && !self.state.index.addresses.contains_key(&address)
            && !self.taken.contains(&address)
            && self.state.freed.get(&address).is_none_or(|freed| self.has_rested(freed.at));
        if usable {
            self.give(address);
        }
        usable
    }

    /// The next address that was never used.
    fn fresh(&mut self, holder: Holder) -> Option<Ipv4Addr> {
        while self.next.service_address <= self.next.instance_address {
            let address = match holder {
                Holder::Service => {
                    let address = self.next.service_address;
                    self.next.service_address = Ipv4Addr::from_bits(address.to_bits() + 1);
                    address
                }
                Holder::Instance => {
                    let address = self.next.instance_address;
                    self.next.instance_address = Ipv4Addr::from_bits(address.to_bits() - 1);
                    address
                }
            };
            // An instance that a runner brought back after a restore may hold it.
            let had = address == self.state.meta.network.range.resolver()
                || self.state.index.addresses.contains_key(&address)
                || self.state.freed.contains_key(&address)
                || self.taken.contains(&address);
            if !had {
                self.give(address);
                return Some(address);
            }
        }
        None
    }

    /// The address that this kind of holder freed longest ago, if its quarantine is over.
    fn rested(&mut self, kind: Holder) -> Option<Ipv4Addr> {
        let order = self.state.index.resting.get(&kind)?;
        let from = self.rested_from.get(&kind).copied().unwrap_or_default();
        let resolver = self.state.meta.network.range.resolver();
        let free = |address: &Ipv4Addr| *address != resolver && !self.taken.contains(address);
        let (place, address) = order.range(from..).find(|(_, address)| free(address))?;
        let (place, address) = (*place, *address);
        self.rested_from.insert(kind, place);
        if !self.state.freed.get(&address).is_some_and(|freed| self.has_rested(freed.at)) {
            return None;
        }
        self.give(address);
        Some(address)
    }

    fn has_rested(&self, freed: RunningSeconds) -> bool {
        // Several coordinators have a clock each.
        let skew = if self.state.sessions.is_empty() { 0 } else { limits::SKEW };
        self.now.running.since(freed) >= self.state.meta.quarantine + skew
    }

    fn give(&mut self, address: Ipv4Addr) {
        self.taken.insert(address);
        if self.state.freed.contains_key(&address) {
            self.delete(Key::Freed(address));
        }
    }

    fn exhausted(&self) -> Refusal {
        Refusal::RangeExhausted {
            range: self.state.meta.network.range,
            used: self.state.index.addresses.len() + self.taken.len(),
            resting: self.state.freed.len(),
            quarantine: self.state.meta.quarantine,
        }
    }
}

#[cfg(test)]
mod tests;
