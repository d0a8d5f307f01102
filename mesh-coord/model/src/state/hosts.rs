//! Which runners host a deployment, and which see it.

use std::collections::BTreeSet;

use mesh_proto::{DeploymentId, RunnerId};

use super::State;
use crate::{Change, Key};

impl State {
    /// The deployments that the changed records belong to, in the current state.
    pub(super) fn touched(&self, changes: &[Change]) -> BTreeSet<DeploymentId> {
        let of_service = |id| self.services.get(&id).map(|e| e.record.deployment);
        let mut touched = BTreeSet::new();
        for change in changes {
            match change.key() {
                Key::Deployment(id) => touched.extend([id]),
                Key::Service(id) => touched.extend(of_service(id)),
                Key::Instance(id) => touched.extend(self.instances.get(&id).and_then(|i| of_service(i.service))),
                Key::Runner(id) => touched.extend(self.instances_on(id).filter_map(|i| of_service(i.service))),
                Key::Meta | Key::Token(_) | Key::Freed(_) | Key::Audit(_) => {}
                Key::Relay(_) | Key::Session(_) | Key::Owed(_) | Key::Calls(_) => {}
            }
        }
        touched
    }

    /// The runners that host these deployments, or deployments connected with them by a grant, in order.
    pub(crate) fn seers(&self, touched: &BTreeSet<DeploymentId>) -> Vec<RunnerId> {
        let mut related: Vec<DeploymentId> = touched.iter().copied().collect();
        for deployment in touched {
            related.extend(self.grants.callees(*deployment));
            related.extend(self.grants.callers(*deployment));
        }
        related.sort_unstable();
        related.dedup();
        let hosts = related.iter().filter_map(|deployment| self.index.hosts.get(deployment));
        let mut seers: Vec<RunnerId> = hosts.flatten().copied().collect();
        seers.sort_unstable();
        seers.dedup();
        seers
    }

    /// Lists a deployment's hosts anew. Returns whether they are others than before.
    pub(crate) fn list_hosts(&mut self, deployment: DeploymentId) -> bool {
        let mut hosts: Vec<RunnerId> = self.hosts_of(deployment).collect();
        hosts.sort_unstable();
        hosts.dedup();
        let changed = self.index.hosts.get(&deployment).map_or(&[][..], |before| before) != hosts;
        if hosts.is_empty() {
            self.index.hosts.remove(&deployment);
        } else if changed {
            self.index.hosts.insert(deployment, hosts);
        }
        changed
    }
}
