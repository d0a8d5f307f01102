//! A coordinator of a few lines: two deployments' services, and the instances of this runner.

use std::{net::Ipv4Addr, sync::Arc};

use mesh_proto::{
    DeploymentId, Epoch, InstanceId, Range, Record, Revision, RunnerId, ServiceId, ServicePath, View,
    message::{Answer, Ask, Held, Refusal},
    view::{Deployment, Instance, InstanceState, Network, Service},
};

/// Whether it can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    There,
    /// It takes questions and doesn't answer.
    Silent,
    Away,
    /// It is there, and refuses this runner, as one that was removed or that is a copy.
    Refusing,
}

impl Presence {
    /// Whether it takes no questions.
    pub(super) const fn is_away(self) -> bool {
        matches!(self, Self::Away | Self::Refusing)
    }
}

#[derive(Debug)]
pub(super) struct Coordinator {
    pub(super) view: View,
    pub(super) presence: Presence,
    /// Which stream, counted.
    pub(super) stream: u64,
    next: u64,
    /// An older state of its database.
    backup: Option<(View, u64)>,
}

pub(super) const SERVICES: [&str; 4] = ["db", "app", "web", "job"];

impl Coordinator {
    pub(super) fn new() -> Self {
        let network = Network { range: Range::DEFAULT, mtu: 1344 };
        let mut view = View::empty(Epoch([1; 16]), Revision(1), RunnerId(1), network);
        let (name, team) = ("shop".parse().expect("a label"), "acme".parse().expect("a label"));
        view.put(Record::Deployment(Arc::new(Deployment { id: DeploymentId(1), name, team, trust_source: None })));
        let mut this = Self { view, presence: Presence::Away, stream: 0, next: 1, backup: None };
        (0..SERVICES.len()).for_each(|n| this.declare(n));
        this
    }

    pub(super) fn declare(&mut self, n: usize) {
        let service = Service {
            id: ServiceId(n as u64 + 1),
            deployment: DeploymentId(1),
            name: SERVICES[n].parse().expect("a name"),
            address: Ipv4Addr::new(100, 112, 0, n as u8 + 1),
            automatic_names: true,
        };
        self.view.put(Record::Service(Arc::new(service)));
        self.view.revision = self.view.revision.next();
    }

    /// A service gets another address.
    pub(super) fn move_service(&mut self, n: usize, to: u8) {
        if let Some(service) = self.view.service(ServiceId(n as u64 + 1)) {
            let moved = Service { address: Ipv4Addr::new(100, 112, 3, to), ..Service::clone(service) };
            self.view.put(Record::Service(Arc::new(moved)));
            self.view.revision = self.view.revision.next();
        }
    }

    /// An administrator drains or undrains an instance.
    pub(super) fn turn(&mut self, instance: InstanceId, draining: bool) {
        let ask = if draining { Ask::Drain { instance } } else { Ask::Undrain { instance } };
        let _ = self.answer(&ask);
    }

    /// Keeps a copy of the database, or goes back to the last one.
    pub(super) fn back_up_or_restore(&mut self) -> bool {
        match self.backup.take() {
            None => {
                self.backup = Some((self.view.clone(), self.next));
                false
            }
            Some((mut view, _)) => {
                view.epoch.0[0] = self.view.epoch.0[0].wrapping_add(1);
                view.revision = self.view.revision.next();
                self.view = view;
                true
            }
        }
    }

    pub(super) fn instances(&self) -> Vec<InstanceId> {
        self.view.instances().map(|instance| instance.id).collect()
    }

    fn service(&self, path: &ServicePath) -> Option<ServiceId> {
        self.view.services().find(|service| service.name == path.service).map(|service| service.id)
    }

    fn keep(&mut self, such: impl Fn(InstanceId) -> bool) {
        if self.view.instances().all(|instance| such(instance.id)) {
            return;
        }
        let mut view = View::empty(self.view.epoch, self.view.revision.next(), self.view.runner, self.view.network);
        let kept = self.view.records().filter(|record| match record {
            Record::Instance(instance) => such(instance.id),
            _ => true,
        });
        kept.for_each(|record| view.put(record.clone()));
        self.view = view;
    }

    fn put(&mut self, held: &Held, state: InstanceState) -> bool {
        let Some(service) = self.service(&held.service) else { return false };
        let (runner, release) = (RunnerId(1), held.release.clone());
        let record = Instance { id: held.instance, service, runner, address: held.address, state, release };
        self.view.put(Record::Instance(Arc::new(record)));
        self.view.revision = self.view.revision.next();
        true
    }

    /// A stream begins: what it doesn't name has ended, and what is unknown is taken in.
    pub(super) fn hello(&mut self, held: &[Held]) {
        self.keep(|id| held.iter().any(|held| held.instance == id));
        for held in held {
            if self.view.instance(held.instance).is_none() && held.instance.0 < self.next {
                let state = match (held.client, held.draining) {
                    (true, _) => InstanceState::Client,
                    (_, true) => InstanceState::Draining,
                    _ => InstanceState::Live,
                };
                // One restored from a backup does not know every address: one in two it can't take in.
                let _ = held.instance.0 % 2 == 0 && self.put(held, state);
            }
        }
    }

    pub(super) fn answer(&mut self, ask: &Ask) -> Result<Answer, Refusal> {
        match ask {
            Ask::Attach { service, client, release } => {
                let id = self.service(service).ok_or_else(|| Refusal::bare("no such service"))?;
                if self.view.instances().filter(|instance| instance.service == id).count() >= 6 {
                    return Err(Refusal::bare("too many instances"));
                }
                let instance = InstanceId(self.next);
                self.next += 1;
                let address = Ipv4Addr::from_bits(0x6471_0000 + instance.0 as u32);
                let state = if *client { InstanceState::Client } else { InstanceState::Live };
                let (service, client, release) = (service.clone(), *client, release.clone());
                let held = Held { instance, service, address, client, draining: false, release };
                self.put(&held, state);
                Ok(Answer::Attached { instance, address, revision: self.view.revision })
            }
            Ask::Detach { instance } => {
                self.keep(|id| id != *instance);
                Ok(Answer::Detached { revision: self.view.revision })
            }
            Ask::Drain { instance } | Ask::Undrain { instance } => {
                let draining = matches!(ask, Ask::Drain { .. });
                let there = self.view.instance(*instance).ok_or_else(|| Refusal::bare("no such instance"))?;
                if there.state == InstanceState::Client {
                    return Err(Refusal::bare("it only calls"));
                }
                let state = if draining { InstanceState::Draining } else { InstanceState::Live };
                self.view.put(Record::Instance(Arc::new(Instance { state, ..Instance::clone(there) })));
                self.view.revision = self.view.revision.next();
                let revision = self.view.revision;
                Ok(if draining { Answer::Drained { revision } } else { Answer::Undrained { revision } })
            }
            Ask::Settle { .. } => Ok(Answer::Settled { pending: vec![] }),
            Ask::Leave | Ask::Lookup { .. } | Ask::Why { .. } => Err(Refusal::bare("not played")),
        }
    }
}
