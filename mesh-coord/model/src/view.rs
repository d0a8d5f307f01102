//! The view of a runner, by least knowledge.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mesh_proto::{
    DeploymentId, Epoch, Label, RunnerId, ServiceId, ServicePath,
    view::{Record, View},
};

use crate::{
    Refusal, State,
    record::Runner,
    state::{DeploymentEntry, ServiceEntry},
};

impl State {
    /// The view of a runner by least knowledge; `None` for one that is unknown or removed.
    ///
    /// It holds the runner itself; all services of the deployments that it hosts; the services of other deployments that
    /// these may call; the services of the deployments that may call one that it hosts; and of all these the instances
    /// and their runners.
    #[must_use]
    pub fn view(&self, runner: RunnerId, epoch: Epoch) -> Option<View> {
        let runner = self.runner(runner).filter(|r| r.removed.is_none())?;
        Some(self.view_with(runner, self.instances_on(runner.id).map(|i| i.service).collect(), epoch))
    }

    /// The answer to [`mesh_proto::message::Ask::Lookup`]: the view that the asking runner would have with one instance
    /// of the service and nothing else.
    ///
    /// # Errors
    /// If there is no such service that it may host.
    pub fn lookup_view(&self, asker: RunnerId, service: &ServicePath, epoch: Epoch) -> Result<View, Refusal> {
        let runner = self.standing(asker)?;
        let service = self.hostable(runner, service)?;
        Ok(self.view_with(runner, BTreeSet::from([service.id]), epoch))
    }

    /// The view of a runner that hosts just these services.
    fn view_with(&self, runner: &Arc<Runner>, hosted: BTreeSet<ServiceId>, epoch: Epoch) -> View {
        let mut view = View::empty(epoch, self.revision, runner.id, self.meta.network);
        let mut visible: BTreeMap<ServiceId, &ServiceEntry> = BTreeMap::new();
        let mut own: BTreeMap<DeploymentId, BTreeSet<ServiceId>> = BTreeMap::new();
        for id in hosted {
            if let Some(service) = self.services.get(&id) {
                own.entry(service.record.deployment).or_default().insert(id);
            }
        }

        for (deployment, hosted) in &own {
            for service in self.services_of(*deployment) {
                visible.insert(service.record.id, service);
                view.put(Record::Naming(Arc::clone(&service.naming)));
            }
            for callee in self.grants.callees(*deployment) {
                for grant in self.grants.between(*deployment, callee) {
                    view.put(Record::Grant(Arc::clone(grant)));
                    visible.extend(self.services.get(&grant.callee).map(|service| (grant.callee, service)));
                }
            }
            for caller in self.grants.callers(*deployment) {
                let mut called = false;
                // Few of the services may be hosted, or few be opened: neither is looked through for each of the other.
                let mut note = |grant: &Arc<mesh_proto::view::Grant>| {
                    view.put(Record::Grant(Arc::clone(grant)));
                    called = true;
                };
                if hosted.len() < self.grants.number(caller, *deployment) {
                    hosted
                        .iter()
                        .filter_map(|callee| self.grants.get(caller, *deployment, *callee))
                        .for_each(&mut note);
                } else {
                    let opened = self.grants.between(caller, *deployment);
                    opened.filter(|grant| hosted.contains(&grant.callee)).for_each(&mut note);
                }
                if called {
                    visible.extend(self.services_of(caller).map(|service| (service.record.id, service)));
                }
            }
        }

        let mut deployments: BTreeMap<DeploymentId, &DeploymentEntry> = BTreeMap::new();
        let mut runners = BTreeSet::from([runner.id]);
        for (id, service) in visible {
            view.put(Record::Service(Arc::clone(&service.shown)));
            let deployment = service.record.deployment;
            deployments.extend(self.deployments.get(&deployment).map(|entry| (deployment, entry)));
            for instance in self.instances_of(id) {
                view.put(Record::Instance(Arc::clone(instance)));
                runners.insert(instance.runner);
            }
        }
        for deployment in deployments.into_values() {
            view.put(Record::Deployment(Arc::clone(&deployment.shown)));
        }
        for runner in runners.into_iter().filter_map(|id| self.runners.get(&id)) {
            view.put(Record::Runner(Arc::clone(&runner.shown)));
        }
        view
    }

    /// The runners whose views may hold something of the deployment of that name: they must apply what changes about it.
    #[must_use]
    pub fn affected_by(&self, deployment: &Label) -> BTreeSet<RunnerId> {
        let mut affected = BTreeSet::new();
        let deployment = self.index.deployment_names.get(deployment);
        self.add_seers(&deployment.into_iter().copied().collect(), &mut affected);
        affected
    }
}

#[cfg(test)]
mod tests;
