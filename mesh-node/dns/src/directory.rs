//! What a view says of names and addresses, in a form that is asked quickly.

use std::{
    collections::{BTreeSet, HashMap},
    net::Ipv4Addr,
    sync::Arc,
};

use mesh_proto::{
    DeploymentId, InstanceId, ServiceId, View,
    names::may_name,
    view::{Deployment, Instance, InstanceState, Service},
};

use crate::zone::Zone;

/// What a view says, for all instances of the runner.
#[derive(Debug)]
pub struct Directory {
    view: Arc<View>,
    /// The names for each service of which an instance is on this runner.
    zones: HashMap<ServiceId, Arc<Zone>>,
    holders: HashMap<Ipv4Addr, Holder>,
    /// The instances that take connections, this runner's own first, those on silent runners last.
    live: HashMap<ServiceId, Vec<InstanceId>>,
}

/// What has an address.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Holder {
    Service(ServiceId),
    Instance(InstanceId),
}

impl Directory {
    /// Of a view. `before`: the one of an earlier view, so that only what has changed is made anew.
    #[must_use]
    pub fn of(view: &Arc<View>, before: Option<&Self>) -> Self {
        let before = before.filter(|before| same_names(&before.view, view));
        let mut directory =
            Self { view: Arc::clone(view), zones: HashMap::new(), holders: HashMap::new(), live: HashMap::new() };
        let mut hosted = BTreeSet::new();
        for instance in view.instances() {
            directory.holders.insert(instance.address, Holder::Instance(instance.id));
            if instance.runner == view.runner {
                hosted.insert(instance.service);
            }
            if instance.state == InstanceState::Live {
                directory.live.entry(instance.service).or_default().push(instance.id);
            }
        }
        for service in view.services() {
            directory.holders.insert(service.address, Holder::Service(service.id));
        }
        for instances in directory.live.values_mut() {
            instances.sort_by_cached_key(|id| (view.instance(*id).map(|at| distance(view, at)), *id));
        }
        let mut alike: HashMap<DeploymentId, Arc<Zone>> = HashMap::new();
        for id in hosted {
            let old = before.and_then(|before| before.zones.get(&id).cloned());
            // All services of a deployment see the same, unless there is an `ist` section.
            let plain = view.naming(id).is_none_or(|naming| naming.ist.is_empty());
            let Some(service) = view.service(id) else { continue };
            let shared = alike.get(&service.deployment).filter(|_| plain).cloned();
            let Some(zone) = old.or(shared).or_else(|| Zone::of(view, id).map(Arc::new)) else { continue };
            if plain {
                alike.insert(service.deployment, Arc::clone(&zone));
            }
            directory.zones.insert(id, zone);
        }
        directory
    }

    /// The resolver's address. `None` if something else has it, which an older coordinator has allowed.
    #[must_use]
    pub fn address(&self) -> Option<Ipv4Addr> {
        let address = self.view.network.range.resolver();
        (!self.holders.contains_key(&address)).then_some(address)
    }

    /// What an instance of this runner may know; `None` if the view doesn't hold it.
    pub(crate) fn seat(&self, instance: InstanceId) -> Option<Seat<'_>> {
        let instance = self.view.instance(instance).filter(|instance| instance.runner == self.view.runner)?;
        let service = self.view.service(instance.service)?;
        let deployment = self.view.deployment(service.deployment)?;
        let zone = self.zones.get(&instance.service)?;
        Some(Seat { directory: self, instance, service, deployment, zone })
    }
}

/// The directory as one instance may see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seat<'a> {
    directory: &'a Directory,
    instance: &'a Instance,
    service: &'a Service,
    deployment: &'a Deployment,
    pub(crate) zone: &'a Zone,
}

impl<'a> Seat<'a> {
    pub(crate) fn view(self) -> &'a View {
        &self.directory.view
    }

    /// Whether the instance may send from this address.
    pub(crate) fn has(self, address: Ipv4Addr) -> bool {
        address == self.instance.address || address == self.service.address
    }

    /// The service at an address.
    pub(crate) fn service_at(self, address: Ipv4Addr) -> Option<ServiceId> {
        match self.directory.holders.get(&address) {
            Some(Holder::Service(service)) => Some(*service),
            _ => None,
        }
    }

    /// What has an address, if the instance may know it.
    pub(crate) fn holder(self, address: Ipv4Addr) -> Option<Holder> {
        let holder = *self.directory.holders.get(&address)?;
        let known = match holder {
            Holder::Service(service) => self.may_call(service),
            Holder::Instance(instance) => self.instance(instance).is_some(),
        };
        known.then_some(holder)
    }

    /// An instance that this one may call.
    pub(crate) fn instance(self, instance: InstanceId) -> Option<&'a Instance> {
        let instance = self.directory.view.instance(instance)?;
        self.may_call(instance.service).then_some(&**instance)
    }

    /// The instances that take connections for a service.
    pub(crate) fn live(self, service: ServiceId) -> impl Iterator<Item = &'a Instance> {
        let ids = self.directory.live.get(&service).into_iter().flatten();
        ids.filter_map(move |id| self.view().instance(*id).map(|instance| &**instance))
    }

    /// The declared port of a service.
    pub(crate) fn port(self, service: ServiceId) -> Option<u16> {
        self.view().naming(service).and_then(|naming| naming.port)
    }

    fn may_call(self, service: ServiceId) -> bool {
        self.view().service(service).is_some_and(|service| may_name(self.view(), self.deployment, service))
    }
}

/// How far an instance is away: on this runner, on another one, on one that is silent.
fn distance(view: &View, instance: &Instance) -> u8 {
    match view.runner(instance.runner) {
        _ if instance.runner == view.runner => 0,
        Some(runner) if !runner.silent => 1,
        _ => 2,
    }
}

/// Whether two views have the same names. Most records are shared by them.
fn same_names(a: &View, b: &View) -> bool {
    fn same<'a, T: PartialEq + 'a>(
        mut a: impl Iterator<Item = &'a Arc<T>>,
        mut b: impl Iterator<Item = &'a Arc<T>>,
    ) -> bool {
        loop {
            match (a.next(), b.next()) {
                (None, None) => return true,
                (Some(a), Some(b)) if Arc::ptr_eq(a, b) || a == b => {}
                _ => return false,
            }
        }
    }
    a.network.range == b.network.range
        && same(a.services(), b.services())
        && same(a.deployments(), b.deployments())
        && same(a.namings(), b.namings())
        && same(a.grants(), b.grants())
}

#[cfg(test)]
mod tests;
