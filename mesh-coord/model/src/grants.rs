//! Trust, resolved: from the callee's list with its patterns to who may call which service on which ports. Only grants
//! that have effect are in here: both deployments exist and are of one team.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mesh_proto::{DeploymentId, Ports, ServiceId, view::Grant};

use crate::{
    State,
    declare::{Pattern, Trust},
};

/// All grants in effect. No empty collection stands in a map.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Grants {
    by_callee: BTreeMap<DeploymentId, BTreeMap<DeploymentId, BTreeMap<ServiceId, Arc<Grant>>>>,
    callees: BTreeMap<DeploymentId, BTreeSet<DeploymentId>>,
}

impl Grants {
    /// The deployments that have a service which `caller` may call.
    pub(crate) fn callees(&self, caller: DeploymentId) -> impl Iterator<Item = DeploymentId> {
        self.callees.get(&caller).into_iter().flatten().copied()
    }

    /// The deployments that may call a service of `callee`.
    pub(crate) fn callers(&self, callee: DeploymentId) -> impl Iterator<Item = DeploymentId> {
        self.by_callee.get(&callee).into_iter().flat_map(BTreeMap::keys).copied()
    }

    /// What `caller` may call in `callee`, by service.
    pub(crate) fn between(&self, caller: DeploymentId, callee: DeploymentId) -> impl Iterator<Item = &Arc<Grant>> {
        self.by_callee.get(&callee).and_then(|callers| callers.get(&caller)).into_iter().flat_map(BTreeMap::values)
    }

    /// The permission of `callee`, a service of `to`, to `caller`.
    pub(crate) fn get(&self, caller: DeploymentId, to: DeploymentId, callee: ServiceId) -> Option<&Arc<Grant>> {
        self.by_callee.get(&to)?.get(&caller)?.get(&callee)
    }
}

impl State {
    /// Works out anew who may call the services of `callee`.
    pub(crate) fn resolve_grants(&mut self, callee: DeploymentId) {
        for caller in self.grants.by_callee.remove(&callee).into_iter().flat_map(BTreeMap::into_keys) {
            if let Some(callees) = self.grants.callees.get_mut(&caller) {
                callees.remove(&callee);
                if callees.is_empty() {
                    self.grants.callees.remove(&caller);
                }
            }
        }
        let resolved = self.resolved(callee);
        for caller in resolved.keys() {
            self.grants.callees.entry(*caller).or_default().insert(callee);
        }
        if !resolved.is_empty() {
            self.grants.by_callee.insert(callee, resolved);
        }
    }

    fn resolved(&self, callee: DeploymentId) -> BTreeMap<DeploymentId, BTreeMap<ServiceId, Arc<Grant>>> {
        let mut resolved: BTreeMap<DeploymentId, BTreeMap<ServiceId, Arc<Grant>>> = BTreeMap::new();
        let Some(to) = self.deployments.get(&callee).map(|e| &e.record) else { return resolved };
        for entry in &to.trust {
            let Some(from) = self.deployment_named(&entry.caller) else { continue };
            if from.id == callee || from.team != to.team {
                continue;
            }
            for service in self.services_of(callee).map(|e| &e.record) {
                if !opens(entry, to.expose.as_deref(), &service.name) {
                    continue;
                }
                let grants = resolved.entry(from.id).or_default();
                let ports = match grants.get(&service.id) {
                    Some(grant) => union(&grant.ports, &entry.ports),
                    None => entry.ports.clone(),
                };
                grants.insert(service.id, Arc::new(Grant { caller: from.id, callee: service.id, ports }));
            }
        }
        resolved
    }
}

/// Whether an entry of a trust list opens the service of that name, where its deployment exposes `expose`.
pub(crate) fn opens(entry: &Trust, expose: Option<&[Pattern]>, service: &str) -> bool {
    if entry.ports == Ports::Only(BTreeSet::new()) {
        return false;
    }
    entry.services.as_deref().or(expose).is_none_or(|patterns| patterns.iter().any(|p| p.matches(service)))
}

fn union(a: &Ports, b: &Ports) -> Ports {
    match (a, b) {
        (Ports::Only(a), Ports::Only(b)) => Ports::Only(a | b),
        _ => Ports::All,
    }
}
