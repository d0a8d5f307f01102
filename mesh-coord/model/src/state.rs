//! All records of the mesh, as of one revision, and the decision on a command.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use mesh_proto::{
    DeploymentId, InstanceId, PublicKey, Revision, RunnerId, ServiceId, ServicePath, TokenId,
    view::{self, Network},
};

use crate::{
    Command, Decision, Now, Record, Refusal, RunningSeconds, audit, deploy,
    drain::{self, Way},
    enrol,
    grants::Grants,
    host,
    index::Index,
    record::{Audit, Deployment, Freed, Instance, Meta, Runner, Service, Token},
    switch, token, trust, work,
};

/// The state of the mesh, as of one revision: all records, with indexes that are functions of them.
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
    pub(crate) index: Index,
    pub(crate) grants: Grants,
}

/// A runner, and what its peers are shown of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunnerEntry {
    pub(crate) record: Arc<Runner>,
    pub(crate) shown: Arc<view::Runner>,
}

/// A deployment, and what is shown of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeploymentEntry {
    pub(crate) record: Arc<Deployment>,
    pub(crate) shown: Arc<view::Deployment>,
}

/// A service, and what is shown of it: to all who see it, and to its own deployment's runners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceEntry {
    pub(crate) record: Arc<Service>,
    pub(crate) shown: Arc<view::Service>,
    pub(crate) naming: Arc<view::Naming>,
}

/// Records that can't be a coordinator's state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// There is no [`Meta`].
    #[error("the database holds no `meta` record: mesh-coord did not write it, or it is damaged")]
    NoMeta,
}

impl State {
    /// The state that these records make, as of the revision of the last commit.
    ///
    /// # Errors
    /// If there is no [`Meta`] among them: on an empty store, commit [`Meta::new`] first.
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
            index: Index::default(),
            grants: Grants::default(),
        };
        for record in rest {
            state.insert(record);
        }
        for deployment in state.deployments.keys().copied().collect::<Vec<_>>() {
            state.resolve_grants(deployment);
            state.count_held(deployment);
        }
        Ok(state)
    }

    /// Every record, in no particular order.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        std::iter::once(Record::Meta(Arc::clone(&self.meta)))
            .chain(self.runners.values().map(|e| Record::Runner(Arc::clone(&e.record))))
            .chain(self.tokens.values().map(|t| Record::Token(Arc::clone(t))))
            .chain(self.deployments.values().map(|e| Record::Deployment(Arc::clone(&e.record))))
            .chain(self.services.values().map(|e| Record::Service(Arc::clone(&e.record))))
            .chain(self.instances.values().map(|i| Record::Instance(Arc::clone(i))))
            .chain(self.freed.values().map(|f| Record::Freed(Arc::clone(f))))
            .chain(self.audit.values().map(|a| Record::Audit(Arc::clone(a))))
    }

    /// Decides on a command, and changes nothing. The changes hold for this state only: commit them on its revision.
    ///
    /// # Errors
    /// Why the command is refused.
    pub fn decide(&self, command: &Command, now: impl Into<Now>) -> Result<Decision, Refusal> {
        use crate::{AdminCommand as A, RunnerCommand as R};
        let now = now.into();
        match command {
            Command::Admin { by, what } => match what {
                A::Apply { files, dry_run, force, prune } => {
                    let consent = deploy::Consent { force: *force, prune: prune.unwrap_or(true) };
                    deploy::apply(self, by, files, *dry_run, consent, now)
                }
                A::Delete { deployment, force } => deploy::delete(self, by, deployment, *force, now),
                A::Trust { deployment, change } => trust::change(self, by, deployment, change, now),
                A::RevokeToken { token, with_nodes } => token::revoke(self, by, *token, *with_nodes, now),
                A::RemoveNode { name, force } => enrol::remove(self, by, name, *force, now),
                A::Drain { instance } => drain::instance(self, by, *instance, Way::Drain, now),
                A::Undrain { instance } => drain::instance(self, by, *instance, Way::Undrain, now),
                A::DrainNode { name } => drain::node(self, by, name, Way::Drain, now),
                A::UndrainNode { name } => drain::node(self, by, name, Way::Undrain, now),
                A::Switch { offload, on, node } => switch::switch(self, by, *offload, *on, node.as_ref(), now),
            },
            Command::CreateToken { by, token, secret } => token::create(self, by, token, secret, now),
            Command::Refused { by, action, detail } => Ok(audit::refused(self, by, action, detail, now)),
            Command::Enrol(enrolment) => enrol::enrol(self, enrolment, now),
            Command::Silent(runner) => Ok(host::silent(self, self.standing(*runner)?, now)),
            Command::Expire(runner) => Ok(enrol::expire(self, self.standing(*runner)?, now)),
            Command::Runner { by, what } => {
                let runner = self.standing(*by)?;
                match what {
                    R::Hello { version, endpoints, seen, instances } => {
                        host::hello(self, runner, version, endpoints, *seen, instances, now)
                    }
                    R::Endpoints { endpoints } => host::endpoints(self, runner, endpoints, now),
                    R::Attach { service, client } => host::attach(self, runner, service, *client, now),
                    R::Detach { instance } => Ok(host::detach(self, runner, *instance, now)),
                    R::Drain { instance } => drain::own(self, runner, *instance, Way::Drain, now),
                    R::Undrain { instance } => drain::own(self, runner, *instance, Way::Undrain, now),
                    R::Leave => Ok(enrol::leave(self, runner, now)),
                    R::TakenOver { from } => Ok(host::taken_over(self, runner, *from, now)),
                    R::CopyRefused { first, from } => Ok(host::copy_refused(self, runner, first, *from, now)),
                }
            }
        }
    }

    /// The revision of the last commit.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// A running time that is not before anything that rests: where a coordinator that has just started goes on.
    #[must_use]
    pub fn running(&self) -> RunningSeconds {
        self.freed.values().map(|freed| freed.at).max().unwrap_or_default()
    }

    /// What all runners share.
    #[must_use]
    pub fn network(&self) -> Network {
        self.meta.network
    }

    /// A runner, removed or not.
    #[must_use]
    pub fn runner(&self, id: RunnerId) -> Option<&Arc<Runner>> {
        self.runners.get(&id).map(|e| &e.record)
    }

    /// Whether there is such a runner, and it isn't removed.
    #[must_use]
    pub fn stands(&self, id: RunnerId) -> bool {
        self.runner(id).is_some_and(|runner| runner.removed.is_none())
    }

    /// The runner with that key that is not removed.
    #[must_use]
    pub fn runner_with(&self, key: &PublicKey) -> Option<RunnerId> {
        self.index.runner_keys.get(key).copied().filter(|id| self.stands(*id))
    }

    /// The runner of that name that is not removed.
    #[must_use]
    pub fn runner_named(&self, name: &str) -> Option<&Arc<Runner>> {
        self.runner(*self.index.runner_names.get(name)?)
    }

    /// The runners that are not removed, by identifier.
    pub fn standing_runners(&self) -> impl Iterator<Item = &Arc<Runner>> {
        self.runners.values().map(|e| &e.record).filter(|runner| runner.removed.is_none())
    }

    /// The deployment of that name.
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

    /// The service at that path.
    #[must_use]
    pub fn service_at(&self, path: &ServicePath) -> Option<&Arc<Service>> {
        let deployment = self.index.deployment_names.get(&path.deployment)?;
        self.service_in(*deployment, &path.service)
    }

    /// The instances on a runner, by identifier.
    pub fn instances_on(&self, runner: RunnerId) -> impl Iterator<Item = &Arc<Instance>> {
        self.index.instances_on.get(&runner).into_iter().flatten().filter_map(|id| self.instances.get(id))
    }

    /// The runner, if it is one still.
    pub(crate) fn standing(&self, id: RunnerId) -> Result<&Arc<Runner>, Refusal> {
        match self.runner(id) {
            Some(runner) if runner.removed.is_none() => Ok(runner),
            Some(runner) => Err(enrol::EnrolRefusal::Removed { runner: runner.name.clone() }.into()),
            None => Err(enrol::EnrolRefusal::UnknownCredential.into()),
        }
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

    /// The runners that have instances of a deployment's services; one may come several times.
    pub(crate) fn hosts_of(&self, deployment: DeploymentId) -> impl Iterator<Item = RunnerId> {
        self.services_of(deployment).flat_map(|s| self.instances_of(s.record.id)).map(|i| i.runner)
    }
}

#[cfg(test)]
mod tests;
