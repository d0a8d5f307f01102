//! The state of the mesh: all records, as of one revision.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use mesh_proto::{
    DeploymentId, InstanceId, PublicKey, RelayId, Revision, RunnerId, ServiceId, ServicePath, TokenId,
    view::{self, Network},
};

use crate::{
    Admin, Record, RunningSeconds,
    record::{Audit, Calls, Deployment, Freed, Instance, Meta, Owed, Relay, Runner, Service, Session, Token},
    work,
};

mod grants;
mod held;
mod hosts;
mod index;
mod lost;
mod rings;
mod undo;

use grants::Grants;
pub(crate) use grants::{Matches, names_in};
pub use index::Affected;
use index::Index;
pub use lost::Lost;
pub(crate) use rings::{ENROL, HOST, Ring, Whose, holder};

/// All records as of one revision, and indexes that are functions of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    pub(crate) revision: Revision,
    pub(crate) meta: Arc<Meta>,
    pub(crate) runners: BTreeMap<RunnerId, RunnerEntry>,
    pub(crate) tokens: BTreeMap<TokenId, Arc<Token>>,
    pub(crate) deployments: BTreeMap<DeploymentId, DeploymentEntry>,
    pub(crate) services: BTreeMap<ServiceId, ServiceEntry>,
    pub(crate) instances: BTreeMap<InstanceId, Arc<Instance>>,
    pub(crate) freed: BTreeMap<Ipv4Addr, Arc<Freed>>,
    pub(crate) audit: BTreeMap<u64, Arc<Audit>>,
    pub(crate) relays: BTreeMap<RelayId, Arc<Relay>>,
    pub(crate) sessions: BTreeMap<RunnerId, Arc<Session>>,
    pub(crate) owed: BTreeMap<Option<DeploymentId>, Arc<Owed>>,
    pub(crate) calls: BTreeMap<ServiceId, Arc<Calls>>,
    pub(crate) index: Index,
    pub(crate) grants: Grants,
}

/// A runner, and what its peers see of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunnerEntry {
    pub(crate) record: Arc<Runner>,
    pub(crate) shown: Arc<view::Runner>,
}

/// A deployment, and what runners see of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeploymentEntry {
    pub(crate) record: Arc<Deployment>,
    pub(crate) shown: Arc<view::Deployment>,
}

/// A service, what all who may know it see, and what its own deployment's runners see in addition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceEntry {
    pub(crate) record: Arc<Service>,
    pub(crate) shown: Arc<view::Service>,
    pub(crate) naming: Arc<view::Naming>,
}

/// Records that are not the state of a coordinator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// There is no [`Meta`].
    #[error("the database holds no `meta` record: mesh-coord did not write it, or it is damaged")]
    NoMeta,
}

impl State {
    /// The state with these records, as of the last commit's revision.
    ///
    /// # Errors
    /// If there is no [`Meta`] among them. On an empty store, commit [`Meta::new`] first.
    pub fn load(revision: Revision, records: impl IntoIterator<Item = Record>) -> Result<Self, LoadError> {
        let (meta, rest): (Vec<_>, Vec<_>) = records.into_iter().partition(|r| matches!(r, Record::Meta(_)));
        let Some(Record::Meta(meta)) = meta.into_iter().next() else { return Err(LoadError::NoMeta) };
        let mut state = Self {
            revision,
            meta,
            runners: BTreeMap::new(),
            tokens: BTreeMap::new(),
            deployments: BTreeMap::new(),
            services: BTreeMap::new(),
            instances: BTreeMap::new(),
            freed: BTreeMap::new(),
            audit: BTreeMap::new(),
            relays: BTreeMap::new(),
            sessions: BTreeMap::new(),
            owed: BTreeMap::new(),
            calls: BTreeMap::new(),
            index: Index::default(),
            grants: Grants::default(),
        };
        for record in rest {
            state.insert(record);
        }
        for deployment in state.deployments.keys().copied().collect::<Vec<_>>() {
            state.resolve_grants(deployment);
            state.count_held(deployment);
            state.list_hosts(deployment);
        }
        Ok(state)
    }

    /// All records, in no particular order.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        std::iter::once(Record::Meta(Arc::clone(&self.meta)))
            .chain(self.runners.values().map(|e| Record::Runner(Arc::clone(&e.record))))
            .chain(self.tokens.values().map(|t| Record::Token(Arc::clone(t))))
            .chain(self.deployments.values().map(|e| Record::Deployment(Arc::clone(&e.record))))
            .chain(self.services.values().map(|e| Record::Service(Arc::clone(&e.record))))
            .chain(self.instances.values().map(|i| Record::Instance(Arc::clone(i))))
            .chain(self.freed.values().map(|f| Record::Freed(Arc::clone(f))))
            .chain(self.audit.values().map(|a| Record::Audit(Arc::clone(a))))
            .chain(self.relays.values().map(|r| Record::Relay(Arc::clone(r))))
            .chain(self.sessions.values().map(|s| Record::Session(Arc::clone(s))))
            .chain(self.owed.values().map(|o| Record::Owed(Arc::clone(o))))
            .chain(self.calls.values().map(|c| Record::Calls(Arc::clone(c))))
    }

    /// The revision of the last commit.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// The latest running time of the records: where a restarted coordinator goes on.
    #[must_use]
    pub fn running(&self) -> RunningSeconds {
        self.freed.values().map(|freed| freed.at).max().unwrap_or_default()
    }

    /// The mesh's range and MTU.
    #[must_use]
    pub fn network(&self) -> Network {
        self.meta.network
    }

    /// A runner, removed or not.
    #[must_use]
    pub fn runner(&self, id: RunnerId) -> Option<&Arc<Runner>> {
        self.runners.get(&id).map(|e| &e.record)
    }

    /// Whether the runner exists and is not removed.
    #[must_use]
    pub fn is_active(&self, id: RunnerId) -> bool {
        self.runner(id).is_some_and(|runner| runner.removed.is_none())
    }

    /// The runner with this key, unless it is removed.
    #[must_use]
    pub fn runner_with(&self, key: &PublicKey) -> Option<RunnerId> {
        self.index.runner_keys.get(key).copied().filter(|id| self.is_active(*id))
    }

    /// The runner with this name that is not removed.
    #[must_use]
    pub fn runner_named(&self, name: &str) -> Option<&Arc<Runner>> {
        self.runner(*self.index.runner_names.get(name)?)
    }

    /// The runners that are not removed, by identifier.
    pub fn active_runners(&self) -> impl Iterator<Item = &Arc<Runner>> {
        self.runners.values().map(|e| &e.record).filter(|runner| runner.removed.is_none())
    }

    /// A runner's newest stream, where several coordinators serve.
    #[must_use]
    pub fn session(&self, runner: RunnerId) -> Option<&Arc<Session>> {
        self.sessions.get(&runner)
    }

    /// The newest stream of each runner, where several coordinators serve.
    pub fn sessions(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.sessions.values()
    }

    /// The deployment with this name.
    #[must_use]
    pub fn deployment_named(&self, name: &str) -> Option<&Arc<Deployment>> {
        work::step();
        self.deployments.get(self.index.deployment_names.get(name)?).map(|e| &e.record)
    }

    /// The team of a deployment.
    #[must_use]
    pub fn team_of(&self, id: DeploymentId) -> Option<&str> {
        self.deployments.get(&id).map(|e| &*e.record.team)
    }

    /// The service at this path.
    #[must_use]
    pub fn service_at(&self, path: &ServicePath) -> Option<&Arc<Service>> {
        let deployment = self.index.deployment_names.get(&path.deployment)?;
        self.service_in(*deployment, &path.service)
    }

    /// The path of a service.
    #[must_use]
    pub fn path_of(&self, service: ServiceId) -> Option<ServicePath> {
        let service = &self.services.get(&service)?.record;
        let deployment = self.deployments.get(&service.deployment)?.record.name.clone();
        Some(ServicePath { deployment, service: service.name.clone() })
    }

    /// The path of a service that the reader may see.
    #[must_use]
    pub fn path_for(&self, reader: &Admin, service: ServiceId) -> Option<ServicePath> {
        let deployment = self.services.get(&service)?.record.deployment;
        let may_see = reader.rules(&self.deployments.get(&deployment)?.record.team);
        may_see.then(|| self.path_of(service)).flatten()
    }

    /// The instances on a runner, by identifier.
    pub fn instances_on(&self, runner: RunnerId) -> impl Iterator<Item = &Arc<Instance>> {
        self.index.instances_on.get(&runner).into_iter().flatten().filter_map(|id| self.instances.get(id))
    }

    /// The runners with an instance of a service that the reader may see, each once.
    #[must_use]
    pub fn callers_at(&self, reader: &Admin, path: &ServicePath) -> BTreeSet<RunnerId> {
        let service = self.service_at(path).filter(|service| self.path_for(reader, service.id).is_some());
        let instances = service.into_iter().flat_map(|service| self.instances_of(service.id));
        instances.map(|instance| instance.runner).collect()
    }

    pub(crate) fn service_in(&self, deployment: DeploymentId, name: &str) -> Option<&Arc<Service>> {
        work::step();
        let id = self.index.services_of.get(&deployment)?.get(name)?;
        self.services.get(id).map(|e| &e.record)
    }

    /// The services of a deployment, by name.
    pub(crate) fn services_of(&self, deployment: DeploymentId) -> impl Iterator<Item = &ServiceEntry> {
        self.index.services_of.get(&deployment).into_iter().flatten().filter_map(|(_, id)| {
            work::step();
            self.services.get(id)
        })
    }

    /// The instances of a service, by identifier.
    pub(crate) fn instances_of(&self, service: ServiceId) -> impl Iterator<Item = &Arc<Instance>> {
        self.index.instances_of.get(&service).into_iter().flatten().filter_map(|id| {
            work::step();
            self.instances.get(id)
        })
    }

    /// How many instances a service has.
    pub(crate) fn number_of(&self, service: ServiceId) -> usize {
        self.index.instances_of.get(&service).map_or(0, BTreeSet::len)
    }

    /// How many instances a runner has.
    pub(crate) fn number_on(&self, runner: RunnerId) -> usize {
        self.index.instances_on.get(&runner).map_or(0, BTreeSet::len)
    }

    /// The runners that host a deployment's services, possibly with repetitions.
    pub(crate) fn hosts_of(&self, deployment: DeploymentId) -> impl Iterator<Item = RunnerId> {
        self.services_of(deployment).flat_map(|s| self.instances_of(s.record.id)).map(|i| i.runner)
    }
}

#[cfg(test)]
mod tests;
