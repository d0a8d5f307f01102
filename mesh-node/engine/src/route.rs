//! Who has which address, and where a packet for it goes.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use mesh_proto::{
    DeploymentId, InstanceId, PublicKey, RunnerId, ServiceId, View,
    view::{self, InstanceState, Runner},
};

use crate::{denied::Party, number::NumberMap, packet::Packet};

/// Whose an address is: indexes into the lists of [`Route`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    Service(u32),
    Instance(u32),
}

/// Where an instance runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// On this runner.
    Here,
    /// On another one: an index into [`Route::runners`].
    There(u32),
}

/// Whose something is, for shares of what is bounded: numbers that tell apart and mean nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tenant {
    pub(crate) team: u64,
    pub(crate) deployment: u64,
}

impl Tenant {
    fn of(view: &View, deployment: DeploymentId) -> Self {
        let mut hasher = DefaultHasher::new();
        view.deployment(deployment).map(|deployment| &deployment.team).hash(&mut hasher);
        Self { team: hasher.finish(), deployment: deployment.0 }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) id: ServiceId,
    pub(crate) address: Ipv4Addr,
    tenant: Tenant,
    /// By identifier.
    instances: Vec<u32>,
}

#[derive(Debug, Clone)]
pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    pub(crate) service: u32,
    pub(crate) place: Place,
    pub(crate) address: Ipv4Addr,
    state: InstanceState,
}

/// The addresses of a view.
#[derive(Debug, Clone, Default)]
pub(crate) struct Route {
    pub(crate) services: Box<[Service]>,
    pub(crate) instances: Box<[Instance]>,
    /// The other runners, by identifier: the view's own records, since there may be thousands that are idle.
    pub(crate) runners: Box<[Arc<Runner>]>,
    owners: NumberMap<u32, Owner>,
    /// Whether the coordinator has seen this runner at loopback, as when all of the mesh is one machine: else others can't
    /// be there.
    pub(crate) has_loopback: bool,
    /// The runners in the order of their keys: they are looked for in handshakes only.
    by_key: Box<[u32]>,
}

impl Route {
    /// Compiles the addresses. What refers to something that the view doesn't hold is left out; so is an address that
    /// two have, or that lies outside of the range.
    pub(crate) fn compile(view: &View) -> Self {
        let runners: Box<[Arc<Runner>]> =
            view.runners().filter(|runner| runner.id != view.runner).map(Arc::clone).collect();
        let service = |s: &Arc<view::Service>| Service {
            id: s.id,
            address: s.address,
            tenant: Tenant::of(view, s.deployment),
            instances: vec![],
        };
        let mut services: Box<[Service]> = view.services().map(service).collect();
        let instances: Box<[Instance]> = view
            .instances()
            .filter_map(|instance| {
                let place = if instance.runner == view.runner {
                    Place::Here
                } else {
                    Place::There(runners.binary_search_by_key(&instance.runner, |r| r.id).ok()? as u32)
                };
                let service = services.binary_search_by_key(&instance.service, |s| s.id).ok()? as u32;
                Some(Instance { id: instance.id, service, place, address: instance.address, state: instance.state })
            })
            .collect();
        for (index, instance) in instances.iter().enumerate() {
            services[instance.service as usize].instances.push(index as u32);
        }

        let all = (services.iter().zip(0..).map(|(s, i)| (s.address, Owner::Service(i))))
            .chain(instances.iter().zip(0..).map(|(x, i)| (x.address, Owner::Instance(i))))
            .filter(|(address, _)| view.network.range.contains(*address));
        let mut owners = NumberMap::default();
        let mut clashes = vec![];
        for (address, owner) in all {
            if owners.insert(address.to_bits(), owner).is_some() {
                clashes.push(address.to_bits());
            }
        }
        for address in clashes {
            owners.remove(&address);
        }
        let mut by_key: Box<[u32]> = (0..runners.len() as u32).collect();
        by_key.sort_unstable_by_key(|runner| runners[*runner as usize].public_key.0);
        let own = view.runner(view.runner).map(|own| &own.endpoints[..]).unwrap_or_default();
        let has_loopback = own.iter().any(|endpoint| canonical(*endpoint).ip().is_loopback());
        Self { services, instances, runners, owners, has_loopback, by_key }
    }

    /// Whose `address` is.
    #[inline]
    pub(crate) fn owner(&self, address: Ipv4Addr) -> Option<Owner> {
        self.owners.get(&address.to_bits()).copied()
    }

    /// Whose an address is, for people to read.
    pub(crate) fn party(&self, address: Ipv4Addr) -> Party {
        let service = self.owner(address).map(|owner| &self.services[self.service_of(owner) as usize]);
        let tenant = service.map(|service| service.tenant).unwrap_or_default();
        Party { address, service: service.map(|service| service.id), tenant }
    }

    /// The ends of a packet.
    pub(crate) fn parties(&self, packet: &Packet) -> (Party, Party) {
        (self.party(packet.source), self.party(packet.destination))
    }

    /// The service that an owner is, or belongs to.
    #[inline]
    pub(crate) fn service_of(&self, owner: Owner) -> u32 {
        match owner {
            Owner::Service(service) => service,
            Owner::Instance(instance) => self.instances[instance as usize].service,
        }
    }

    /// Whose key this is.
    pub(crate) fn runner_by_key(&self, key: &PublicKey) -> Option<u32> {
        let found = self.by_key.binary_search_by_key(&key.0, |runner| self.runners[*runner as usize].public_key.0);
        found.ok().map(|at| self.by_key[at])
    }

    /// An instance of this runner.
    pub(crate) fn here(&self, id: InstanceId) -> Option<u32> {
        let index = self.instances.binary_search_by_key(&id, |instance| instance.id).ok()?;
        (self.instances[index].place == Place::Here).then_some(index as u32)
    }

    /// Whether packets may come from `owner`'s address by the tunnel to `runner`.
    #[inline]
    pub(crate) fn is_on(&self, owner: Owner, runner: u32) -> bool {
        let on = |instance: u32| self.instances[instance as usize].place == Place::There(runner);
        match owner {
            Owner::Instance(instance) => on(instance),
            Owner::Service(service) => self.services[service as usize].instances.iter().any(|i| on(*i)),
        }
    }

    /// A runner by its identifier.
    pub(crate) fn runner(&self, id: RunnerId) -> Option<u32> {
        self.runners.binary_search_by_key(&id, |runner| runner.id).ok().map(|index| index as u32)
    }

    /// The instances at which segments for a service's address may arrive, by identifier: all but clients.
    #[inline]
    pub(crate) fn takers(&self, service: u32) -> impl Iterator<Item = u32> {
        let takes = |instance: &u32| self.instances[*instance as usize].state != InstanceState::Client;
        self.services[service as usize].instances.iter().copied().filter(takes)
    }

    /// Those of an owner at which connections may be opened, by identifier. (A client is answered at its own address,
    /// and calls from there only.)
    #[inline]
    pub(crate) fn open_to(&self, owner: Owner) -> impl Iterator<Item = u32> {
        let one = match &owner {
            Owner::Instance(instance) => Some(*instance),
            Owner::Service(_) => None,
        };
        let all = match owner {
            Owner::Service(service) => &self.services[service as usize].instances[..],
            Owner::Instance(_) => &[],
        };
        let is_live = |instance: &u32| self.instances[*instance as usize].state == InstanceState::Live;
        one.into_iter().chain(all.iter().copied()).filter(is_live)
    }

    /// Those of an owner at which segments of standing connections may arrive, by identifier.
    #[inline]
    pub(crate) fn standing_at(&self, owner: Owner) -> impl Iterator<Item = u32> {
        let (one, all) = match owner {
            Owner::Instance(instance) => (Some(instance), None),
            Owner::Service(service) => (None, Some(self.takers(service))),
        };
        one.into_iter().chain(all.into_iter().flatten())
    }
}

/// The address without IPv4 mapping (RFC 4291 §2.5.5.2) and without a flow label, so that equal places compare equal.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => address,
        SocketAddr::V6(mut v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(v4.into(), v6.port()),
            None => {
                v6.set_flowinfo(0);
                SocketAddr::V6(v6)
            }
        },
    }
}

#[cfg(test)]
mod tests;
