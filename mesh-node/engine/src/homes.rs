//! Which instances are on this runner, and behind which TUN.

use std::{collections::BTreeSet, net::Ipv4Addr};

use mesh_proto::InstanceId;

use crate::{
    Port,
    limit::{self, Limit},
    number::NumberMap,
    route::{Place, Route},
};

/// What lies behind a TUN.
pub(crate) struct Attached {
    instance: InstanceId,
    /// `None` as long as the map doesn't hold the instance.
    pub(crate) local: Option<Local>,
    /// For refusals.
    pub(crate) limit: Limit,
}

/// Whom a packet from a TUN comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Local {
    pub(crate) instance: InstanceId,
    /// An index of the route.
    pub(crate) service: u32,
    pub(crate) address: Ipv4Addr,
    pub(crate) service_address: Ipv4Addr,
}

/// Where an instance is, by its index of the route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Home {
    /// On another runner.
    Elsewhere,
    /// Here, but its TUN isn't back yet: the agent has just started.
    Missing,
    /// Here, until its TUN was detached.
    Gone,
    Behind(Port),
}

/// The instances of this runner.
#[derive(Default)]
pub(crate) struct Homes {
    ports: NumberMap<u32, Attached>,
    homes: Vec<Home>,
    /// Those that were detached while the map still holds them.
    gone: BTreeSet<InstanceId>,
}

impl Homes {
    /// From now on `port` is the TUN of `instance`. Gives the ports behind which whoever was there is no longer.
    pub(crate) fn attach(&mut self, port: Port, instance: InstanceId, route: &Route) -> Vec<Port> {
        let is_left = |(at, attached): (&u32, &Attached)| *at == port.0 || attached.instance == instance;
        let left = self.ports.iter().filter(|entry| is_left(*entry)).map(|(at, _)| Port(*at)).collect();
        self.ports.retain(|_, attached| attached.instance != instance);
        self.gone.remove(&instance);
        if let Some(before) =
            self.ports.insert(port.0, Attached { instance, local: None, limit: Limit::new(limit::INSTANCE) })
        {
            self.gone.insert(before.instance);
        }
        self.resolve(route);
        left
    }

    /// From now on there is nobody behind `port`.
    pub(crate) fn detach(&mut self, port: Port, route: &Route) {
        if let Some(attached) = self.ports.remove(&port.0) {
            self.gone.insert(attached.instance);
        }
        self.resolve(route);
    }

    /// An instance that the map may still hold has ended, and was never attached in this run.
    pub(crate) fn bury(&mut self, instance: InstanceId, route: &Route) {
        self.gone.insert(instance);
        if route.here(instance).is_some() {
            self.resolve(route);
        }
    }

    /// Finds everybody's place in a new map.
    pub(crate) fn resolve(&mut self, route: &Route) {
        let Self { ports, homes, gone } = self;
        gone.retain(|instance| route.here(*instance).is_some());
        homes.clear();
        homes.extend(route.instances.iter().map(|instance| match instance.place {
            Place::There(_) => Home::Elsewhere,
            Place::Here if gone.contains(&instance.id) => Home::Gone,
            Place::Here => Home::Missing,
        }));
        for (port, attached) in ports {
            let index = route.here(attached.instance);
            attached.local = index.map(|index| {
                homes[index as usize] = Home::Behind(Port(*port));
                let instance = &route.instances[index as usize];
                let service_address = route.services[instance.service as usize].address;
                Local { instance: instance.id, service: instance.service, address: instance.address, service_address }
            });
        }
    }

    /// What lies behind a TUN.
    #[inline]
    pub(crate) fn behind(&self, port: Port) -> Option<&Attached> {
        self.ports.get(&port.0)
    }

    /// The same, to count refusals.
    pub(crate) fn behind_mut(&mut self, port: Port) -> Option<&mut Attached> {
        self.ports.get_mut(&port.0)
    }

    /// The TUN of an instance, by its index of the route.
    #[inline]
    pub(crate) fn port(&self, instance: u32) -> Option<Port> {
        match self.homes.get(instance as usize) {
            Some(Home::Behind(port)) => Some(*port),
            _ => None,
        }
    }

    /// The TUN of an instance, whether the map holds that or not.
    pub(crate) fn port_of(&self, instance: InstanceId) -> Option<Port> {
        self.ports.iter().find(|(_, attached)| attached.instance == instance).map(|(port, _)| Port(*port))
    }

    /// Which instance is behind a TUN, whether the map holds it or not.
    pub(crate) fn instance(&self, port: Port) -> Option<InstanceId> {
        self.ports.get(&port.0).map(|attached| attached.instance)
    }

    /// Whether an instance was here and has ended.
    #[inline]
    pub(crate) fn is_gone(&self, instance: u32) -> bool {
        self.homes.get(instance as usize) == Some(&Home::Gone)
    }

    /// Whether an instance is on this runner, by the map.
    #[inline]
    pub(crate) fn is_here(&self, instance: u32) -> bool {
        self.homes.get(instance as usize).is_some_and(|home| *home != Home::Elsewhere)
    }
}
