//! Puts records into the state and removes them, together with the indexes. The indexes are functions of the records:
//! a loaded state equals one that grew.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use mesh_proto::{
    DeploymentId, InstanceId, Label, PublicKey, Revision, RunnerId, ServiceId, ServiceName, TokenId, view,
};

use super::{
    DeploymentEntry, RunnerEntry, ServiceEntry, State,
    held::{Held, Names},
    lost::Lost,
    rings::Rings,
};
use crate::{
    Change, Key, Record, UnixSeconds, declare,
    record::{Deployment, Holder, Runner, Service, TrustSource},
};

/// Ways to find records other than by key. No map holds an empty collection.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Index {
    /// Without removed runners.
    pub(crate) runner_names: BTreeMap<Label, RunnerId>,
    /// With removed runners, whose keys can't come back.
    pub(crate) runner_keys: BTreeMap<PublicKey, RunnerId>,
    pub(crate) deployment_names: BTreeMap<Label, DeploymentId>,
    pub(crate) services_of: BTreeMap<DeploymentId, BTreeMap<ServiceName, ServiceId>>,
    pub(crate) instances_of: BTreeMap<ServiceId, BTreeSet<InstanceId>>,
    pub(crate) instances_on: BTreeMap<RunnerId, BTreeSet<InstanceId>>,
    /// The addresses in use.
    pub(crate) addresses: BTreeMap<Ipv4Addr, Holder>,
    /// Freed addresses in the order of reuse.
    pub(crate) resting: BTreeMap<Holder, BTreeMap<u64, Ipv4Addr>>,
    /// The runners that a token enrolled, without removed ones.
    pub(crate) enrolled_by: BTreeMap<TokenId, BTreeSet<RunnerId>>,
    /// The removed runners, in the order in which they are deleted.
    pub(crate) removed: BTreeSet<(UnixSeconds, RunnerId)>,
    pub(crate) deployments_of: BTreeMap<Label, BTreeSet<DeploymentId>>,
    /// The runners that count for a team's share, without removed ones.
    pub(crate) runners_of: BTreeMap<Label, BTreeSet<RunnerId>>,
    /// Freed addresses by the team that had them, in the order of reuse.
    pub(crate) freed_of: BTreeMap<Label, BTreeSet<u64>>,
    /// How many addresses each deployment and team holds.
    pub(crate) held: Held,
    /// How many bytes of names each deployment declares.
    pub(crate) names: Names,
    pub(crate) rings: Rings,
    /// The runners that host a deployment's services, in order.
    pub(crate) hosts: BTreeMap<DeploymentId, Vec<RunnerId>>,
    /// The deployments whose trust lists contain a name.
    pub(crate) trusting: BTreeMap<Label, BTreeSet<DeploymentId>>,
}

/// What a commit may have changed.
#[derive(Debug, Default)]
pub struct Affected {
    /// The runners whose views may be others, and those that no longer have a view.
    pub runners: BTreeSet<RunnerId>,
    /// The deployments of which something may be seen that is new.
    pub deployments: BTreeSet<DeploymentId>,
}

impl Index {
    fn add_runner(&mut self, runner: &Runner) {
        self.runner_keys.insert(runner.public_key, runner.id);
        match runner.removed {
            None => {
                self.runner_names.insert(runner.name.clone(), runner.id);
                self.enrolled_by.entry(runner.token).or_default().insert(runner.id);
                if let Some(team) = runner.owner() {
                    self.runners_of.entry(team.clone()).or_default().insert(runner.id);
                }
            }
            Some(at) => {
                self.removed.insert((at, runner.id));
            }
        }
    }

    fn take_runner(&mut self, runner: &Runner) {
        remove_if(&mut self.runner_keys, &runner.public_key, &runner.id);
        remove_if(&mut self.runner_names, &runner.name, &runner.id);
        remove_member(&mut self.enrolled_by, &runner.token, &runner.id);
        if let Some(team) = runner.owner() {
            remove_member(&mut self.runners_of, team, &runner.id);
        }
        if let Some(at) = runner.removed {
            self.removed.remove(&(at, runner.id));
        }
    }
}

impl State {
    /// Absorbs what the store has committed. Returns what it may have changed: rather too much than too little.
    pub fn absorb(&mut self, changes: &[Change], revision: Revision) -> Affected {
        self.revision = revision;
        if self.are_trust(changes) {
            return self.absorb_trust(changes);
        }
        let mut affected: BTreeSet<RunnerId> = changes
            .iter()
            .filter_map(|change| if let Key::Runner(id) = change.key() { Some(id) } else { None })
            .collect();
        // A deployment can have more viewers before the change or after it.
        let mut touched = self.touched(changes);
        let before = self.seers(&touched);
        let dirty = self.callees_to_resolve(changes);

        self.put_in(changes);

        let same_grants = dirty.is_empty();
        for callee in dirty {
            self.resolve_grants(callee);
        }
        let known = touched.len();
        touched.extend(self.touched(changes));
        let mut same_hosts = known == touched.len();
        for deployment in &touched {
            self.count_held(*deployment);
            same_hosts &= !self.list_hosts(*deployment);
        }
        if !(same_grants && same_hosts) {
            affected.extend(self.seers(&touched));
        }
        affected.extend(before);
        Affected { runners: affected, deployments: touched }
    }

    /// The same, with what the commit takes from runners: only several coordinators have to know that.
    pub fn absorb_shared(&mut self, changes: &[Change], revision: Revision) -> (Affected, Lost) {
        let sight = self.sight(changes);
        let affected = self.absorb(changes, revision);
        (affected, self.lost(sight))
    }

    fn put_in(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Put(record) => self.insert(record.clone()),
                Change::Delete(key) => self.remove(*key),
            }
        }
    }

    /// Whether these changes are about trust lists, and what no view shows.
    fn are_trust(&self, changes: &[Change]) -> bool {
        changes.iter().all(|change| match change {
            Change::Put(Record::Deployment(after)) => {
                self.deployments.get(&after.id).is_some_and(|before| *before.shown == shown_deployment(after))
            }
            change => !matches!(change.key(), Key::Deployment(_) | Key::Service(_) | Key::Instance(_) | Key::Runner(_)),
        })
    }

    /// Of all that see a deployment, which can be thousands, its trust list concerns those only that host it or a caller
    /// whose grants are others.
    fn absorb_trust(&mut self, changes: &[Change]) -> Affected {
        self.put_in(changes);
        let (touched, mut affected) = (self.touched(changes), BTreeSet::new());
        for callee in &touched {
            let callers = self.resolve_grants(*callee);
            if !callers.is_empty() {
                let hosts = callers.iter().chain([callee]).filter_map(|of| self.index.hosts.get(of));
                affected.extend(hosts.flatten().copied());
            }
            self.count_held(*callee);
        }
        Affected { runners: affected, deployments: touched }
    }

    /// The callees whose trust lists need resolving after these changes. Those that trust a deployment are among them
    /// only if its name appears or disappears.
    fn callees_to_resolve(&self, changes: &[Change]) -> BTreeSet<DeploymentId> {
        let trusting = |name: &Label| self.index.trusting.get(name).into_iter().flatten().copied();
        let mut callees = BTreeSet::new();
        for change in changes {
            match change {
                Change::Put(Record::Deployment(after)) => {
                    callees.insert(after.id);
                    let before = self.deployments.get(&after.id).map(|e| &e.record);
                    if before.is_none_or(|before| before.name != after.name || before.team != after.team) {
                        callees.extend(trusting(&after.name));
                        callees.extend(before.into_iter().flat_map(|before| trusting(&before.name)));
                    }
                }
                Change::Delete(Key::Deployment(id)) => {
                    callees.insert(*id);
                    callees.extend(self.deployments.get(id).into_iter().flat_map(|e| trusting(&e.record.name)));
                }
                Change::Put(Record::Service(after)) => {
                    callees.insert(after.deployment);
                    callees.extend(self.services.get(&after.id).map(|e| e.record.deployment));
                }
                Change::Delete(Key::Service(id)) => callees.extend(self.services.get(id).map(|e| e.record.deployment)),
                Change::Put(_) | Change::Delete(_) => {}
            }
        }
        callees
    }

    /// Inserts a record in place of the one with its key. The caller resolves grants.
    pub(crate) fn insert(&mut self, record: Record) {
        self.remove(record.key());
        let index = &mut self.index;
        match record {
            Record::Meta(meta) => self.meta = meta,
            Record::Runner(record) => {
                index.add_runner(&record);
                self.runners.insert(record.id, RunnerEntry { shown: Arc::new(shown_runner(&record)), record });
            }
            Record::Token(record) => {
                self.tokens.insert(record.id, record);
            }
            Record::Deployment(record) => {
                index.deployment_names.insert(record.name.clone(), record.id);
                index.deployments_of.entry(record.team.clone()).or_default().insert(record.id);
                for trust in &record.trust {
                    index.trusting.entry(trust.caller.clone()).or_default().insert(record.id);
                }
                index.names.add(record.id, declare::bytes_of(record.expose.as_ref()));
                let entry = DeploymentEntry { shown: Arc::new(shown_deployment(&record)), record };
                self.deployments.insert(entry.record.id, entry);
            }
            Record::Service(record) => {
                index.addresses.insert(record.address, Holder::Service);
                index.names.add(record.deployment, record.declared.bytes());
                index.services_of.entry(record.deployment).or_default().insert(record.name.clone(), record.id);
                let (shown, naming) = shown_service(&record);
                let entry = ServiceEntry { shown: Arc::new(shown), naming: Arc::new(naming), record };
                self.services.insert(entry.record.id, entry);
            }
            Record::Instance(record) => {
                index.addresses.insert(record.address, Holder::Instance);
                index.instances_of.entry(record.service).or_default().insert(record.id);
                index.instances_on.entry(record.runner).or_default().insert(record.id);
                self.instances.insert(record.id, record);
            }
            Record::Freed(record) => {
                index.resting.entry(record.from).or_default().insert(record.order, record.address);
                if let Some(team) = &record.team {
                    index.freed_of.entry(team.clone()).or_default().insert(record.order);
                }
                self.freed.insert(record.address, record);
            }
            Record::Audit(record) => {
                index.rings.insert(&record);
                self.audit.insert(record.number, record);
            }
            Record::Relay(record) => {
                self.relays.insert(record.id, record);
            }
            Record::Session(record) => {
                self.sessions.insert(record.runner, record);
            }
            Record::Owed(record) => {
                self.owed.insert(record.of, record);
            }
            Record::Calls(record) => {
                self.calls.insert(record.caller, record);
            }
        }
    }

    /// Removes the record, if it exists. The caller resolves grants.
    pub(crate) fn remove(&mut self, key: Key) {
        let index = &mut self.index;
        match key {
            Key::Meta => {}
            Key::Runner(id) => {
                let Some(RunnerEntry { record, .. }) = self.runners.remove(&id) else { return };
                index.take_runner(&record);
            }
            Key::Token(id) => {
                self.tokens.remove(&id);
            }
            Key::Deployment(id) => {
                let Some(DeploymentEntry { record, .. }) = self.deployments.remove(&id) else { return };
                remove_if(&mut index.deployment_names, &record.name, &id);
                remove_member(&mut index.deployments_of, &record.team, &id);
                for trust in &record.trust {
                    remove_member(&mut index.trusting, &trust.caller, &id);
                }
                index.names.take(id, declare::bytes_of(record.expose.as_ref()));
            }
            Key::Service(id) => {
                let Some(ServiceEntry { record, .. }) = self.services.remove(&id) else { return };
                remove_if(&mut index.addresses, &record.address, &Holder::Service);
                index.names.take(record.deployment, record.declared.bytes());
                if let Some(names) = index.services_of.get_mut(&record.deployment) {
                    remove_if(names, &record.name, &id);
                    if names.is_empty() {
                        index.services_of.remove(&record.deployment);
                    }
                }
            }
            Key::Instance(id) => {
                let Some(record) = self.instances.remove(&id) else { return };
                remove_if(&mut index.addresses, &record.address, &Holder::Instance);
                remove_member(&mut index.instances_of, &record.service, &id);
                remove_member(&mut index.instances_on, &record.runner, &id);
            }
            Key::Freed(address) => {
                let Some(record) = self.freed.remove(&address) else { return };
                if let Some(team) = &record.team {
                    remove_member(&mut index.freed_of, team, &record.order);
                }
                if let Some(order) = index.resting.get_mut(&record.from) {
                    remove_if(order, &record.order, &address);
                    if order.is_empty() {
                        index.resting.remove(&record.from);
                    }
                }
            }
            Key::Audit(number) => {
                if let Some(record) = self.audit.remove(&number) {
                    index.rings.remove(&record);
                }
            }
            Key::Relay(id) => {
                self.relays.remove(&id);
            }
            Key::Session(id) => {
                self.sessions.remove(&id);
            }
            Key::Owed(of) => {
                self.owed.remove(&of);
            }
            Key::Calls(id) => {
                self.calls.remove(&id);
            }
        }
    }
}

/// Removes the entry if it has this value. Within one commit a name or an address can pass from one record to
/// another, and the new owner's entry stays whichever step comes first.
fn remove_if<K: Ord, V: PartialEq>(map: &mut BTreeMap<K, V>, key: &K, value: &V) {
    if map.get(key) == Some(value) {
        map.remove(key);
    }
}

fn remove_member<K: Ord, V: Ord>(map: &mut BTreeMap<K, BTreeSet<V>>, key: &K, member: &V) {
    if let Some(set) = map.get_mut(key) {
        set.remove(member);
        if set.is_empty() {
            map.remove(key);
        }
    }
}

fn shown_runner(runner: &Runner) -> view::Runner {
    let mut endpoints = runner.endpoints.clone();
    endpoints.extend(runner.seen.filter(|seen| !runner.endpoints.contains(seen)));
    view::Runner {
        id: runner.id,
        name: runner.name.clone(),
        provider: runner.provider.clone(),
        public_key: runner.public_key,
        endpoints,
        silent: runner.silent,
        can: runner.can,
        reflexive: runner.outside.reflexive.clone(),
        relayed: runner.outside.relayed.clone(),
    }
}

fn shown_deployment(deployment: &Deployment) -> view::Deployment {
    view::Deployment {
        id: deployment.id,
        name: deployment.name.clone(),
        team: deployment.team.clone(),
        trust_source: Some(shown_source(&deployment.trust_source)),
    }
}

/// The name of the file is for operators only, so views don't contain it.
const fn shown_source(source: &TrustSource) -> view::TrustSource {
    match source {
        TrustSource::Command => view::TrustSource::Command,
        TrustSource::File(_) => view::TrustSource::File,
    }
}

fn shown_service(service: &Service) -> (view::Service, view::Naming) {
    let shown = view::Service {
        id: service.id,
        deployment: service.deployment,
        name: service.name.clone(),
        address: service.address,
        automatic_names: !service.declared.manual_names,
    };
    let naming = view::Naming {
        service: service.id,
        aliases: service.declared.aliases.clone(),
        port: service.declared.port,
        ist: service.declared.ist.clone(),
    };
    (shown, naming)
}
