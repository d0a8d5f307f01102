//! A runner's view, with the least knowledge that it needs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mesh_proto::{
    DeploymentId, Epoch, Label, RunnerId, ServiceId, ServicePath,
    view::{Grant, Record, View},
};

use crate::{
    Refusal, State,
    record::Runner,
    state::{DeploymentEntry, ServiceEntry},
};

impl State {
    /// The view of a runner; `None` if it is unknown or removed.
    ///
    /// It holds the runner itself; all services of the deployments that it hosts; the services that these may call;
    /// the services of deployments that may call one of its own; and the instances of all these services, with their
    /// runners.
    #[must_use]
    pub fn view(&self, runner: RunnerId, epoch: Epoch) -> Option<View> {
        let runner = self.runner(runner).filter(|r| r.removed.is_none())?;
        Some(self.view_with(runner, self.instances_on(runner.id).map(|i| i.service).collect(), epoch))
    }

    /// The answer to [`mesh_proto::message::Ask::Lookup`]: the view that the runner would have with one instance of
    /// the service and nothing else.
    ///
    /// # Errors
    /// If there is no such service that the runner may host.
    pub fn lookup_view(&self, asker: RunnerId, service: &ServicePath, epoch: Epoch) -> Result<View, Refusal> {
        let runner = self.active_runner(asker)?;
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
                let grants = self.grants_to_hosted(caller, *deployment, hosted);
                if !grants.is_empty() {
                    visible.extend(self.services_of(caller).map(|service| (service.record.id, service)));
                }
                grants.into_iter().for_each(|grant| view.put(Record::Grant(Arc::clone(grant))));
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

    /// The grants of `callee` to `caller` that are about the hosted services.
    fn grants_to_hosted(
        &self,
        caller: DeploymentId,
        callee: DeploymentId,
        hosted: &BTreeSet<ServiceId>,
    ) -> Vec<&Arc<Grant>> {
        // Whichever is smaller is searched: the hosted services or the grants.
        if hosted.len() < self.grants.number(caller, callee) {
            hosted.iter().filter_map(|service| self.grants.get(caller, callee, *service)).collect()
        } else {
            self.grants.between(caller, callee).filter(|grant| hosted.contains(&grant.callee)).collect()
        }
    }

    /// The runners whose views may hold something of the deployment: they have to apply its changes.
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
