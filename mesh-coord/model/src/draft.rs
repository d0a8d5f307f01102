//! A decision before it is complete: its changes so far, and the numbers and addresses that they use.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    ops::Bound,
    sync::Arc,
};

use mesh_proto::{DeploymentId, InstanceId, RelayId, RunnerId, ServiceId, TokenId, message::Switches};

use crate::{
    Change, Decision, Key, Now, Outcome, Record, State, UnixSeconds, limits,
    record::{Deployment, Freed, Holder, Instance, Meta, Next, Runner, Service},
    state::{Ring, Whose},
};

/// The changes of one decision by key. The last change of a record counts.
pub(crate) struct Draft<'a> {
    pub(crate) state: &'a State,
    pub(crate) now: Now,
    pub(crate) next: Next,
    /// The mesh's switches.
    pub(crate) switches: Switches,
    /// Addresses that this decision assigns.
    pub(crate) taken: BTreeSet<Ipv4Addr>,
    /// How many runners this decision removes.
    removed: usize,
    /// Earlier removed runners that this decision deletes.
    forgotten: Vec<(UnixSeconds, RunnerId)>,
    /// Where the search for a reusable address goes on, so that no address is looked at twice.
    pub(crate) rested_from: BTreeMap<Holder, u64>,
    /// How many audit entries this decision makes, by ring and holder.
    pub(crate) noted: BTreeMap<Ring, BTreeMap<Whose, usize>>,
    changes: BTreeMap<Key, Change>,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(state: &'a State, now: Now) -> Self {
        let (next, switches) = (state.meta.next.clone(), state.meta.switches);
        Self {
            state,
            now,
            next,
            switches,
            taken: BTreeSet::new(),
            removed: 0,
            forgotten: Vec::new(),
            rested_from: BTreeMap::new(),
            noted: BTreeMap::new(),
            changes: BTreeMap::new(),
        }
    }

    pub(crate) fn put(&mut self, record: Record) {
        self.changes.insert(record.key(), Change::Put(record));
    }

    pub(crate) fn delete(&mut self, key: Key) {
        self.changes.insert(key, Change::Delete(key));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Puts a deployment's address into quarantine.
    pub(crate) fn free(&mut self, address: Ipv4Addr, from: Holder, deployment: Option<&Deployment>) {
        let team = deployment.map(|deployment| deployment.team.clone());
        let freed = Freed { address, from, at: self.now.running, order: self.next.freed, team };
        self.next.freed += 1;
        self.put(Record::Freed(Arc::new(freed)));
    }

    /// Removes a service of a deployment. The caller ends its instances.
    pub(crate) fn remove_service(&mut self, service: &Service, deployment: &Deployment) {
        self.delete(Key::Service(service.id));
        if self.state.calls.contains_key(&service.id) {
            self.delete(Key::Calls(service.id));
        }
        self.free(service.address, Holder::Service, Some(deployment));
    }

    pub(crate) fn end_instance(&mut self, instance: &Instance) {
        self.delete(Key::Instance(instance.id));
        let home = self.state.home(instance).map(|(deployment, _)| &**deployment);
        self.free(instance.address, Holder::Instance, home);
    }

    /// Ends these instances, and returns their identifiers.
    pub(crate) fn end_instances<'i>(
        &mut self,
        instances: impl IntoIterator<Item = &'i Arc<Instance>>,
    ) -> Vec<InstanceId> {
        instances
            .into_iter()
            .map(|instance| {
                self.end_instance(instance);
                instance.id
            })
            .collect()
    }

    /// Removes a runner for good, with its instances. The oldest removed runners are deleted when there are too many.
    pub(crate) fn remove_runner(&mut self, runner: &Runner) -> Vec<InstanceId> {
        let ended = self.end_instances(self.state.instances_on(runner.id));
        self.put(Record::Runner(Arc::new(Runner { removed: Some(self.now.day), ..runner.clone() })));
        if self.state.sessions.contains_key(&runner.id) {
            self.delete(Key::Session(runner.id));
        }
        self.removed += 1;
        let standing = self.state.index.removed.len() + self.removed - self.forgotten.len();
        let from = self.forgotten.last().map_or(Bound::Unbounded, |last| Bound::Excluded(*last));
        let earlier = self.state.index.removed.range((from, Bound::Unbounded)).copied().enumerate();
        let is_surplus = |(deleted, (at, _)): &(usize, (UnixSeconds, RunnerId))| {
            let most = if limits::may_hold_credentials(*at, self.now.day) {
                limits::REVOKED_RUNNERS
            } else {
                limits::REMOVED_RUNNERS
            };
            standing - deleted > most
        };
        let forget: Vec<_> = earlier.take_while(is_surplus).take(limits::FORGOTTEN_AT_ONCE).collect();
        for (_, (at, id)) in forget {
            self.delete(Key::Runner(id));
            self.forgotten.push((at, id));
        }
        ended
    }

    pub(crate) fn runner_id(&mut self) -> RunnerId {
        RunnerId(take(&mut self.next.runner))
    }

    pub(crate) fn token_id(&mut self) -> TokenId {
        TokenId(take(&mut self.next.token))
    }

    pub(crate) fn deployment_id(&mut self) -> DeploymentId {
        DeploymentId(take(&mut self.next.deployment))
    }

    pub(crate) fn service_id(&mut self) -> ServiceId {
        ServiceId(take(&mut self.next.service))
    }

    pub(crate) fn instance_id(&mut self) -> InstanceId {
        InstanceId(take(&mut self.next.instance))
    }

    pub(crate) fn relay_id(&mut self) -> RelayId {
        RelayId(take(&mut self.next.relay))
    }

    pub(crate) fn audit_number(&mut self) -> u64 {
        take(&mut self.next.audit)
    }

    pub(crate) fn decided(mut self, outcome: Outcome) -> Decision {
        self.make_room_in_audit();
        let Meta { next, switches, .. } = &*self.state.meta;
        if (&self.next, &self.switches) != (next, switches) {
            let (next, switches) = (self.next.clone(), self.switches);
            self.put(Record::Meta(Arc::new(Meta { next, switches, ..(*self.state.meta).clone() })));
        }
        Decision { changes: self.changes.into_values().collect(), outcome }
    }

    /// An outcome without changes.
    pub(crate) const fn unchanged(outcome: Outcome) -> Decision {
        Decision { changes: Vec::new(), outcome }
    }
}

fn take(next: &mut u64) -> u64 {
    let number = *next;
    *next += 1;
    number
}
