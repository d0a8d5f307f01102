//! The addresses of a map: their owners, and where packets for them go.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::Ipv4Addr,
    sync::Arc,
};

use mesh_proto::{
    DeploymentId, InstanceId, PublicKey, Range, RunnerId, ServiceId, View,
    view::{self, InstanceState, Runner},
};

use crate::{
    hop::canonical,
    index::{InstanceIx, Ix as _, IxVec, PoolIx, RunnerIx, ServiceIx},
    number::NumberMap,
    packet::Packet,
};

/// The owner of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    Service(ServiceIx),
    Instance(InstanceIx),
}

/// Where an instance runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunsOn {
    ThisRunner,
    Runner(RunnerIx),
}

/// The team and the deployment of a service, across maps: numbers that only tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Affiliation {
    pub(crate) team: u64,
    pub(crate) deployment: u64,
}

impl Affiliation {
    fn of(view: &View, deployment: DeploymentId) -> Self {
        let mut hasher = DefaultHasher::new();
        view.deployment(deployment).map(|deployment| &deployment.team).hash(&mut hasher);
        Self { team: hasher.finish(), deployment: deployment.0 }
    }
}

/// One end of a rejected packet, as the map had it then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Party {
    pub(crate) address: Ipv4Addr,
    pub(crate) service: Option<ServiceId>,
    pub(crate) affiliation: Affiliation,
}

#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) id: ServiceId,
    pub(crate) address: Ipv4Addr,
    affiliation: Affiliation,
    /// By identifier.
    instances: Vec<InstanceIx>,
    /// The releases that its instances run: empty for most services, and few for the others.
    pools: Box<[Pool]>,
}

/// The instances of a service that run one release.
#[derive(Debug, Clone, Copy)]
struct Pool {
    release: Release,
    ix: PoolIx,
}

/// A release in the current map, as a number that only tells it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Release(u32);

#[derive(Debug, Clone)]
pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    pub(crate) service: ServiceIx,
    pub(crate) runs_on: RunsOn,
    pub(crate) address: Ipv4Addr,
    state: InstanceState,
    release: Option<Release>,
    /// `None` without a release.
    pub(crate) pool: Option<PoolIx>,
}

/// The addresses of a view.
#[derive(Debug, Clone, Default)]
pub(crate) struct Route {
    pub(crate) services: IxVec<ServiceIx, Service>,
    pub(crate) instances: IxVec<InstanceIx, Instance>,
    /// The other runners, by identifier. These are the view's own records, since thousands of them may be idle.
    pub(crate) runners: IxVec<RunnerIx, Arc<Runner>>,
    owners: NumberMap<u32, Owner>,
    /// Whether the coordinator has seen this runner at a loopback address, as when the whole mesh is one machine.
    /// Otherwise other runners can't be at loopback addresses.
    pub(crate) has_loopback: bool,
    /// This runner, and the range of overlay addresses; `None` without a view.
    pub(crate) runner: Option<RunnerId>,
    pub(crate) range: Option<Range>,
    /// The runners in the order of their keys, for handshakes.
    by_key: Box<[RunnerIx]>,
}

impl Route {
    /// Compiles the addresses. References to records that the view doesn't hold are left out, and so are addresses
    /// with two owners or outside of the range.
    pub(crate) fn compile(view: &View) -> Self {
        let runners: IxVec<RunnerIx, Arc<Runner>> =
            view.runners().filter(|runner| runner.id != view.runner).map(Arc::clone).collect();
        let service = |s: &Arc<view::Service>| Service {
            id: s.id,
            address: s.address,
            affiliation: Affiliation::of(view, s.deployment),
            instances: vec![],
            pools: Box::default(),
        };
        let mut services: IxVec<ServiceIx, Service> = view.services().map(service).collect();
        let mut releases: HashMap<&str, Release> = HashMap::new();
        let mut instances: IxVec<InstanceIx, Instance> = view
            .instances()
            .filter_map(|instance| {
                let runs_on = if instance.runner == view.runner {
                    RunsOn::ThisRunner
                } else {
                    RunsOn::Runner(runners.find_by(&instance.runner, |r| r.id)?)
                };
                let service = services.find_by(&instance.service, |s| s.id)?;
                let next = Release(releases.len() as u32);
                let release = instance.release.as_ref().map(|release| *releases.entry(release).or_insert(next));
                let (address, state) = (instance.address, instance.state);
                Some(Instance { id: instance.id, service, runs_on, address, state, release, pool: None })
            })
            .collect();
        for (index, instance) in instances.iter() {
            services[instance.service].instances.push(index);
        }
        if !releases.is_empty() {
            put_into_pools(&mut services, &mut instances);
        }

        let all = (services.iter().map(|(i, s)| (s.address, Owner::Service(i))))
            .chain(instances.iter().map(|(i, x)| (x.address, Owner::Instance(i))))
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
        let mut by_key: Box<[RunnerIx]> = (0..runners.len()).map(RunnerIx::new).collect();
        by_key.sort_unstable_by_key(|runner| runners[*runner].public_key.0);
        let own = view.runner(view.runner).map(|own| &own.endpoints[..]).unwrap_or_default();
        let has_loopback = own.iter().any(|endpoint| canonical(*endpoint).ip().is_loopback());
        let (runner, range) = (Some(view.runner), Some(view.network.range));
        Self { services, instances, runners, owners, has_loopback, runner, range, by_key }
    }

    /// The owner of `address`.
    #[inline]
    pub(crate) fn owner(&self, address: Ipv4Addr) -> Option<Owner> {
        self.owners.get(&address.to_bits()).copied()
    }

    fn party(&self, address: Ipv4Addr) -> Party {
        let service = self.owner(address).map(|owner| &self.services[self.service_of(owner)]);
        let affiliation = service.map(|service| service.affiliation).unwrap_or_default();
        Party { address, service: service.map(|service| service.id), affiliation }
    }

    /// The sender and the receiver of a packet.
    pub(crate) fn parties(&self, packet: &Packet) -> (Party, Party) {
        (self.party(packet.source), self.party(packet.destination))
    }

    /// The service that an owner is or belongs to.
    #[inline]
    pub(crate) fn service_of(&self, owner: Owner) -> ServiceIx {
        match owner {
            Owner::Service(service) => service,
            Owner::Instance(instance) => self.instances[instance].service,
        }
    }

    /// The instances of a service that a caller prefers: those of its own release, if both are of one deployment.
    #[inline]
    pub(crate) fn preferred(&self, caller: Owner, service: ServiceIx) -> Option<PoolIx> {
        let Owner::Instance(caller) = caller else { return None };
        let (caller, callee) = (&self.instances[caller], &self.services[service]);
        let pool = callee.pools.iter().find(|pool| Some(pool.release) == caller.release)?;
        let is_within = self.services[caller.service].affiliation.deployment == callee.affiliation.deployment;
        is_within.then_some(pool.ix)
    }

    /// The runner with this key.
    pub(crate) fn runner_by_key(&self, key: &PublicKey) -> Option<RunnerIx> {
        let found = self.by_key.binary_search_by_key(&key.0, |runner| self.runners[*runner].public_key.0);
        found.ok().map(|at| self.by_key[at])
    }

    /// An instance, if it runs on this runner.
    pub(crate) fn local(&self, id: InstanceId) -> Option<InstanceIx> {
        let index = self.instances.find_by(&id, |instance| instance.id)?;
        (self.instances[index].runs_on == RunsOn::ThisRunner).then_some(index)
    }

    /// Whether packets from `owner`'s address may come by the tunnel to `runner`.
    #[inline]
    pub(crate) fn is_on(&self, owner: Owner, runner: RunnerIx) -> bool {
        let on = |instance: InstanceIx| self.instances[instance].runs_on == RunsOn::Runner(runner);
        match owner {
            Owner::Instance(instance) => on(instance),
            Owner::Service(service) => self.services[service].instances.iter().any(|i| on(*i)),
        }
    }

    pub(crate) fn runner(&self, id: RunnerId) -> Option<RunnerIx> {
        self.runners.find_by(&id, |runner| runner.id)
    }

    /// The instances that segments for a service's address may go to, by identifier: all but clients.
    #[inline]
    pub(crate) fn takers(&self, service: ServiceIx) -> impl Iterator<Item = InstanceIx> {
        let takes = |instance: &InstanceIx| self.instances[*instance].state != InstanceState::Client;
        self.services[service].instances.iter().copied().filter(takes)
    }

    /// The instances of an owner that accept new connections, by identifier. (A client only calls, from its own
    /// address.)
    #[inline]
    pub(crate) fn open_to(&self, owner: Owner) -> impl Iterator<Item = InstanceIx> {
        let one = match &owner {
            Owner::Instance(instance) => Some(*instance),
            Owner::Service(_) => None,
        };
        let all = match owner {
            Owner::Service(service) => &self.services[service].instances[..],
            Owner::Instance(_) => &[],
        };
        let is_live = |instance: &InstanceIx| self.instances[*instance].state == InstanceState::Live;
        one.into_iter().chain(all.iter().copied()).filter(is_live)
    }

    /// The instances of an owner that segments of standing connections may go to, by identifier.
    #[inline]
    pub(crate) fn standing_at(&self, owner: Owner) -> impl Iterator<Item = InstanceIx> {
        let (one, all) = match owner {
            Owner::Instance(instance) => (Some(instance), None),
            Owner::Service(service) => (None, Some(self.takers(service))),
        };
        one.into_iter().chain(all.into_iter().flatten())
    }
}

/// Numbers the pools of all services.
fn put_into_pools(services: &mut IxVec<ServiceIx, Service>, instances: &mut IxVec<InstanceIx, Instance>) {
    let mut next = 0;
    for service in services.values_mut() {
        let mut pools: Vec<Pool> = vec![];
        for index in &service.instances {
            let instance = &mut instances[*index];
            let Some(release) = instance.release else { continue };
            let known = pools.iter().find(|pool| pool.release == release).copied();
            let pool = known.unwrap_or_else(|| {
                let pool = Pool { release, ix: PoolIx::new(next) };
                next += 1;
                pools.push(pool);
                pool
            });
            instance.pool = Some(pool.ix);
        }
        service.pools = pools.into();
    }
}

#[cfg(test)]
mod tests;
