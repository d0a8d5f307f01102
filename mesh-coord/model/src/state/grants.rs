//! Resolved trust: from a callee's list of patterns to who may call which service on which ports. It holds only
//! grants in effect: both deployments exist and belong to one team.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mesh_proto::{DeploymentId, Ports, ServiceId, view::Grant};

use super::State;
use crate::{
    declare::{Pattern, Trust},
    record::Deployment,
};

/// The grants of a deployment, by caller and service.
type ByCaller = BTreeMap<DeploymentId, BTreeMap<ServiceId, Arc<Grant>>>;

/// All grants in effect. No map holds an empty collection.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Grants {
    by_callee: BTreeMap<DeploymentId, ByCaller>,
    callees: BTreeMap<DeploymentId, BTreeSet<DeploymentId>>,
    /// The work of resolving each trust list: [`Matches::work`].
    work: BTreeMap<DeploymentId, usize>,
    /// How many entries, patterns and ports each trust list has, and all together.
    sizes: BTreeMap<DeploymentId, usize>,
    entries: usize,
}

impl Grants {
    /// The deployments with a service that `caller` may call.
    pub(crate) fn callees(&self, caller: DeploymentId) -> impl Iterator<Item = DeploymentId> {
        self.callees.get(&caller).into_iter().flatten().copied()
    }

    /// The deployments that may call a service of `callee`.
    pub(crate) fn callers(&self, callee: DeploymentId) -> impl Iterator<Item = DeploymentId> {
        self.by_callee.get(&callee).into_iter().flat_map(BTreeMap::keys).copied()
    }

    /// The grants of `callee` to `caller`, by service.
    pub(crate) fn between(&self, caller: DeploymentId, callee: DeploymentId) -> impl Iterator<Item = &Arc<Grant>> {
        self.by_callee.get(&callee).and_then(|callers| callers.get(&caller)).into_iter().flat_map(BTreeMap::values)
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Grant>> {
        self.by_callee.values().flat_map(BTreeMap::values).flat_map(BTreeMap::values)
    }

    /// How many services of `callee` the deployment `caller` may call.
    pub(crate) fn number(&self, caller: DeploymentId, callee: DeploymentId) -> usize {
        self.by_callee.get(&callee).and_then(|callers| callers.get(&caller)).map_or(0, BTreeMap::len)
    }

    /// How many entries, patterns and ports all trust lists have.
    pub(crate) const fn entries(&self) -> usize {
        self.entries
    }

    fn set_size(&mut self, callee: DeploymentId, size: usize) {
        self.entries -= self.sizes.remove(&callee).unwrap_or_default();
        self.entries += size;
        if size > 0 {
            self.sizes.insert(callee, size);
        }
    }

    /// The work of resolving these trust lists.
    pub(crate) fn work<'a>(&self, callees: impl IntoIterator<Item = &'a DeploymentId>) -> usize {
        callees.into_iter().filter_map(|callee| self.work.get(callee)).sum()
    }

    /// The grant to call `callee`, a service of `to`.
    pub(crate) fn get(&self, caller: DeploymentId, to: DeploymentId, callee: ServiceId) -> Option<&Arc<Grant>> {
        self.by_callee.get(&to)?.get(&caller)?.get(&callee)
    }
}

impl State {
    /// Resolves the trust list of `callee` anew. Returns the callers whose grants are others now.
    pub(crate) fn resolve_grants(&mut self, callee: DeploymentId) -> Vec<DeploymentId> {
        let before = self.grants.by_callee.remove(&callee).unwrap_or_default();
        for caller in before.keys() {
            if let Some(callees) = self.grants.callees.get_mut(caller) {
                callees.remove(&callee);
                if callees.is_empty() {
                    self.grants.callees.remove(caller);
                }
            }
        }
        self.grants.work.remove(&callee);
        let to = self.deployments.get(&callee).map(|e| Arc::clone(&e.record));
        self.grants.set_size(callee, to.as_ref().map_or(0, |to| to.trust.len() + names_in(&to.trust)));
        let Some(to) = to else { return before.into_keys().collect() };
        let (resolved, work) = self.resolved(&to);
        if work > 0 {
            self.grants.work.insert(callee, work);
        }
        for caller in resolved.keys() {
            self.grants.callees.entry(*caller).or_default().insert(callee);
        }
        let gone = before.keys().filter(|caller| !resolved.contains_key(caller));
        let others = resolved.iter().filter(|(caller, grants)| before.get(caller) != Some(grants));
        let changed = gone.chain(others.map(|(caller, _)| caller)).copied().collect();
        if !resolved.is_empty() {
            self.grants.by_callee.insert(callee, resolved);
        }
        changed
    }

    fn resolved(&self, to: &Deployment) -> (ByCaller, usize) {
        let mut resolved = ByCaller::new();
        let services = self.index.services_of.get(&to.id);
        let ids: Vec<ServiceId> = services.into_iter().flatten().map(|(_, id)| *id).collect();
        let mut matches = Matches::new(services.into_iter().flatten().map(|(name, _)| &**name).collect());
        for entry in &to.trust {
            let opened = matches.opened(entry, to.expose.as_deref());
            let Some(from) = self.deployment_named(&entry.caller) else { continue };
            if from.id == to.id || from.team != to.team || opened.is_empty() {
                continue;
            }
            let grants = resolved.entry(from.id).or_default();
            for callee in opened.into_iter().map(|place| ids[place]) {
                let ports = match grants.get(&callee) {
                    Some(grant) => union(&grant.ports, &entry.ports),
                    None => entry.ports.clone(),
                };
                grants.insert(callee, Arc::new(Grant { caller: from.id, callee, ports }));
            }
        }
        (resolved, matches.work)
    }
}

/// Matches a deployment's services with the entries of its trust list. Each pattern is compared with the services
/// once.
pub(crate) struct Matches<'a> {
    /// Sorted by name.
    services: Vec<&'a str>,
    seen: BTreeMap<&'a Pattern, Vec<usize>>,
    /// How many names were compared with patterns, and how many services and ports were opened.
    pub(crate) work: usize,
}

impl<'a> Matches<'a> {
    /// `services` must be sorted.
    pub(crate) const fn new(services: Vec<&'a str>) -> Self {
        Self { services, seen: BTreeMap::new(), work: 0 }
    }

    /// The indices of the services that an entry opens, if the deployment exposes `expose`.
    pub(crate) fn opened(&mut self, entry: &'a Trust, expose: Option<&'a [Pattern]>) -> Vec<usize> {
        let ports = match &entry.ports {
            Ports::All => 0,
            Ports::Only(ports) if ports.is_empty() => return Vec::new(),
            Ports::Only(ports) => ports.len(),
        };
        let opened: Vec<usize> = match entry.services.as_deref().or(expose) {
            None => (0..self.services.len()).collect(),
            Some([pattern]) => self.of(pattern).to_vec(),
            Some(patterns) => {
                let mut opened: Vec<usize> = Vec::new();
                for pattern in patterns {
                    opened.extend(self.of(pattern));
                }
                self.work += opened.len();
                opened.sort_unstable();
                opened.dedup();
                opened
            }
        };
        self.work += opened.len() * (1 + ports);
        opened
    }

    /// The indices of the services that a pattern matches.
    pub(crate) fn of(&mut self, pattern: &'a Pattern) -> &[usize] {
        self.seen.entry(pattern).or_insert_with(|| {
            if !pattern.is_wild() {
                return self.services.binary_search(&pattern.as_str()).into_iter().collect();
            }
            self.work += self.services.len();
            (0..self.services.len()).filter(|place| pattern.matches(self.services[*place])).collect()
        })
    }
}

/// How many patterns and ports a trust list has.
pub(crate) fn names_in(trust: &[Trust]) -> usize {
    let ports = |entry: &Trust| if let Ports::Only(ports) = &entry.ports { ports.len() } else { 0 };
    trust.iter().map(|entry| entry.services.as_ref().map_or(0, Vec::len) + ports(entry)).sum()
}

fn union(a: &Ports, b: &Ports) -> Ports {
    match (a, b) {
        (Ports::Only(a), Ports::Only(b)) => Ports::Only(a | b),
        _ => Ports::All,
    }
}
