//! The TUNs of this runner, and the instances behind them.

use std::{collections::BTreeSet, net::Ipv4Addr};

use mesh_proto::InstanceId;

use crate::{
    Port,
    index::{InstanceIx, IxVec, ServiceIx},
    limit::{self, Limit},
    number::NumberMap,
    route::{Route, RunsOn},
};

/// An attached TUN.
pub(crate) struct PortEntry {
    instance: InstanceId,
    /// `None` while the map doesn't hold the instance.
    pub(crate) sender: Option<Sender>,
    /// For rejects that are sent to the instance.
    pub(crate) reject_limit: Limit,
}

/// The sender of the packets that are read from a TUN.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sender {
    pub(crate) instance: InstanceId,
    pub(crate) service: ServiceIx,
    pub(crate) address: Ipv4Addr,
    pub(crate) service_address: Ipv4Addr,
}

/// The TUN of an instance in the current map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PortState {
    /// The instance is on another runner.
    Remote,
    /// The instance is local, but its TUN isn't back yet: the agent has just started.
    Missing,
    /// The instance was local and has ended.
    Ended,
    Attached(Port),
}

/// All attached TUNs.
#[derive(Default)]
pub(crate) struct Ports {
    entries: NumberMap<u32, PortEntry>,
    states: IxVec<InstanceIx, PortState>,
    /// Instances that have ended while the map still holds them.
    ended: BTreeSet<InstanceId>,
}

impl Ports {
    /// `port` is the TUN of `instance` from now on. Returns the ports whose former instance is no longer behind them.
    pub(crate) fn attach(&mut self, port: Port, instance: InstanceId, route: &Route) -> Vec<Port> {
        let is_vacated = |(at, entry): (&u32, &PortEntry)| *at == port.0 || entry.instance == instance;
        let vacated = self.entries.iter().filter(|entry| is_vacated(*entry)).map(|(at, _)| Port(*at)).collect();
        self.entries.retain(|_, entry| entry.instance != instance);
        self.ended.remove(&instance);
        let entry = PortEntry { instance, sender: None, reject_limit: Limit::new(limit::INSTANCE) };
        if let Some(before) = self.entries.insert(port.0, entry) {
            self.ended.insert(before.instance);
        }
        self.resolve(route);
        vacated
    }

    /// `port` is no longer used, and its instance has ended.
    pub(crate) fn detach(&mut self, port: Port, route: &Route) {
        if let Some(entry) = self.entries.remove(&port.0) {
            self.ended.insert(entry.instance);
        }
        self.resolve(route);
    }

    /// An instance that was never attached in this run has ended.
    pub(crate) fn mark_ended(&mut self, instance: InstanceId, route: &Route) {
        self.ended.insert(instance);
        if route.local(instance).is_some() {
            self.resolve(route);
        }
    }

    /// Looks up every instance in a new map.
    pub(crate) fn resolve(&mut self, route: &Route) {
        let Self { entries, states, ended } = self;
        ended.retain(|instance| route.local(*instance).is_some());
        states.clear();
        states.extend(route.instances.values().map(|instance| match instance.runs_on {
            RunsOn::Runner(_) => PortState::Remote,
            RunsOn::ThisRunner if ended.contains(&instance.id) => PortState::Ended,
            RunsOn::ThisRunner => PortState::Missing,
        }));
        for (port, entry) in entries {
            let index = route.local(entry.instance);
            entry.sender = index.map(|index| {
                states[index] = PortState::Attached(Port(*port));
                let instance = &route.instances[index];
                let service_address = route.services[instance.service].address;
                Sender { instance: instance.id, service: instance.service, address: instance.address, service_address }
            });
        }
    }

    #[inline]
    pub(crate) fn get(&self, port: Port) -> Option<&PortEntry> {
        self.entries.get(&port.0)
    }

    pub(crate) fn get_mut(&mut self, port: Port) -> Option<&mut PortEntry> {
        self.entries.get_mut(&port.0)
    }

    /// The TUN of an instance.
    #[inline]
    pub(crate) fn port(&self, instance: InstanceIx) -> Option<Port> {
        match self.states.get(instance) {
            Some(PortState::Attached(port)) => Some(*port),
            _ => None,
        }
    }

    /// The TUN of an instance that the map need not hold.
    pub(crate) fn port_of(&self, instance: InstanceId) -> Option<Port> {
        self.entries.iter().find(|(_, entry)| entry.instance == instance).map(|(port, _)| Port(*port))
    }

    /// The instance behind a TUN. The map need not hold it.
    pub(crate) fn instance(&self, port: Port) -> Option<InstanceId> {
        self.entries.get(&port.0).map(|entry| entry.instance)
    }

    /// Whether an instance was local and has ended.
    #[inline]
    pub(crate) fn has_ended(&self, instance: InstanceIx) -> bool {
        self.states.get(instance) == Some(&PortState::Ended)
    }

    /// Whether the map has an instance on this runner.
    #[inline]
    pub(crate) fn is_local(&self, instance: InstanceIx) -> bool {
        self.states.get(instance).is_some_and(|state| *state != PortState::Remote)
    }
}
