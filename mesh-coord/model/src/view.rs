//! A runner's view, with the least knowledge that it needs.

mod sliced;
mod slices;

use std::{collections::BTreeSet, sync::Arc};

use mesh_proto::{
    DeploymentId, Epoch, Label, RunnerId, ServiceId, ServicePath,
    view::{Grant, View},
};

pub use sliced::{Part, Slice, Sliced};
pub use slices::Slices;

use crate::{Refusal, State};

impl State {
    /// The view of a runner; `None` if it is unknown or removed.
    ///
    /// It holds the runner itself; all services of the deployments that it hosts; the services that these may call;
    /// the services of deployments that may call one of its own; and the instances of all these services, with their
    /// runners.
    #[must_use]
    pub fn view(&self, runner: RunnerId, epoch: Epoch) -> Option<View> {
        Slices::default().view(self, runner, epoch).map(|view| view.to_view())
    }

    /// The answer to [`mesh_proto::message::Ask::Lookup`]: the view that the runner would have with one instance of
    /// the service and nothing else.
    ///
    /// # Errors
    /// If there is no such service that the runner may host.
    pub fn lookup_view(&self, asker: RunnerId, service: &ServicePath, epoch: Epoch) -> Result<View, Refusal> {
        let runner = self.active_runner(asker)?;
        let service = self.hostable(runner, service)?;
        let view = Slices::default().view_with(self, runner, BTreeSet::from([service.id]), epoch);
        Ok(view.map_or_else(|| View::empty(epoch, self.revision, asker, self.meta.network), |view| view.to_view()))
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
        let deployment = self.index.deployment_names.get(deployment);
        self.seers(&deployment.into_iter().copied().collect()).into_iter().collect()
    }
}

#[cfg(test)]
mod tests;
