//! One lifecycle, and how its effects end.

use std::{
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use mesh_proto::{
    DeploymentId, Epoch, InstanceId, Range, Record, Revision, RunnerId, ServiceId, View,
    message::{Answer, Ask},
    view::{Deployment, Instance, InstanceState, Network, Service},
};

use crate::*;

pub(super) struct Played {
    pub(super) core: Lifecycle,
    pub(super) now: Instant,
    pub(super) view: View,
    pub(super) effects: Vec<Effect>,
}

impl Played {
    pub(super) fn new(connected: bool) -> Self {
        Self::with(Remembered::nothing("boot".to_owned()), connected)
    }

    pub(super) fn with(remembered: Remembered, connected: bool) -> Self {
        let network = Network { range: Range::DEFAULT, mtu: 1344 };
        let mut view = View::empty(Epoch([1; 16]), Revision(1), RunnerId(1), network);
        let (name, team) = ("shop".parse().unwrap(), "acme".parse().unwrap());
        view.put(Record::Deployment(Arc::new(Deployment { id: DeploymentId(1), name, team, trust_source: None })));
        view.put(Record::Service(Arc::new(Service {
            id: ServiceId(1),
            deployment: DeploymentId(1),
            name: "db".parse().unwrap(),
            address: Ipv4Addr::new(100, 112, 0, 1),
            automatic_names: true,
        })));
        let now = Instant::now();
        let mut this = Self { core: Lifecycle::new(remembered, now), now, view, effects: vec![] };
        this.tell(Input::Start(CallId(1000)));
        if connected {
            this.tell(Input::Link(Link { connected: true, synced: true, unknown: false }));
        }
        this.tell(Input::View(Arc::new(this.view.clone())));
        this
    }

    pub(super) fn tell(&mut self, input: Input) {
        self.core.handle(input, self.now, &mut self.effects);
        // The disk is quick.
        let saved = self.effects.iter().rev().find_map(|effect| match effect {
            Effect::Save(save) => Some(*save),
            _ => None,
        });
        if let Some(save) = saved.filter(|_| !self.core.is_saved()) {
            self.tell(Input::Saved(save));
        }
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.core.handle_timeout(self.now, &mut self.effects);
    }

    pub(super) fn attach(&mut self, call: u64, ino: u64) {
        self.attach_as(call, ino, |_| {});
    }

    /// The same, with a change to the request.
    pub(super) fn attach_as(&mut self, call: u64, ino: u64, change: impl FnOnce(&mut AttachRequest)) {
        let mut request = AttachRequest {
            service: "shop/db".parse().unwrap(),
            client: false,
            release: None,
            namespace: NamespaceId { dev: 4, ino },
            place: NamespacePlace::Path("/run/netns/x".into()),
            hosts: None,
            unkept: None,
            watch: None,
            mark: Mark(u128::from(call)),
            container: None,
        };
        change(&mut request);
        self.tell(Input::Attach(CallId(call), Box::new(request)));
    }

    /// Ends the steps in the kernel and the questions that are under way, well, and all that follow.
    pub(super) fn work(&mut self) {
        while !self.step() {}
    }

    /// Ends those that are under way now. Returns whether none follows.
    pub(super) fn step(&mut self) -> bool {
        let all = std::mem::take(&mut self.effects);
        let mut left = vec![];
        for effect in all {
            match effect {
                Effect::Kernel(op, KernelStep::Mend(..)) => {
                    self.tell(Input::Done(op, Outcome::Looked(Some(Look { nsid: None, mended: Ok(vec![]) }))));
                }
                Effect::Kernel(op, KernelStep::Holds(..) | KernelStep::IsInhabited(_)) => {
                    self.tell(Input::Done(op, Outcome::Is(true)));
                }
                Effect::Kernel(op, _) => self.tell(Input::Done(op, Outcome::Did(Ok(())))),
                Effect::Serve(op, _, instance) => {
                    self.tell(Input::Done(op, Outcome::Serving(Port(instance.0 as u32))));
                }
                Effect::Ask(op, ask) => self.answer(op, &ask),
                other => left.push(other),
            }
        }
        let follows = |effect: &Effect| matches!(effect, Effect::Kernel(..) | Effect::Serve(..) | Effect::Ask(..));
        let is_over = !self.effects.iter().any(follows);
        left.append(&mut self.effects);
        self.effects = left;
        is_over
    }

    pub(super) fn answer(&mut self, op: OpId, ask: &Ask) {
        self.view.revision = self.view.revision.next();
        let revision = self.view.revision;
        let answer = match ask {
            Ask::Attach { .. } => {
                let (instance, address) = (InstanceId(revision.0), Ipv4Addr::new(100, 112, 1, revision.0 as u8));
                let (runner, state) = (RunnerId(1), InstanceState::Live);
                let record = Instance { id: instance, service: ServiceId(1), runner, address, state, release: None };
                self.view.put(Record::Instance(Arc::new(record)));
                Answer::Attached { instance, address, revision }
            }
            Ask::Detach { .. } => Answer::Detached { revision },
            Ask::Drain { instance } => {
                self.set_state(*instance, InstanceState::Draining);
                Answer::Drained { revision }
            }
            _ => Answer::Settled { pending: vec![] },
        };
        self.tell(Input::View(Arc::new(self.view.clone())));
        self.tell(Input::Applied(mesh_proto::message::Have { epoch: self.view.epoch, revision }));
        self.tell(Input::Done(op, Outcome::Answered(Ok(answer))));
    }

    /// The coordinator's word about an instance; nothing is sent.
    pub(super) fn set_state(&mut self, instance: InstanceId, state: InstanceState) {
        let there = Instance::clone(self.view.instance(instance).unwrap());
        self.view.put(Record::Instance(Arc::new(Instance { state, ..there })));
    }

    /// The coordinator does not have an instance any more; nothing is sent.
    pub(super) fn forget(&mut self, instance: InstanceId) {
        let mut view = View::empty(self.view.epoch, self.view.revision.next(), RunnerId(1), self.view.network);
        let others = self.view.records().filter(|record| !matches!(record, Record::Instance(at) if at.id == instance));
        others.for_each(|record| view.put(record.clone()));
        self.view = view;
    }

    /// Ends what is under way at hosts files, well.
    pub(super) fn write(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::KeepHosts(op, ..) => {
                    let file = FileId { dev: 1, ino: op.0 };
                    self.tell(Input::Done(op, Outcome::Hosts(HostsAnswer::Kept(file))));
                }
                Effect::PutNames(op, ..) | Effect::ClearNames(op, _) => {
                    self.tell(Input::Done(op, Outcome::Did(Ok(()))));
                }
                other => self.effects.push(other),
            }
        }
    }

    pub(super) fn reply(&self, call: u64) -> Option<&Result<Reply, Error>> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Reply(at, result) if *at == CallId(call) => Some(result),
            _ => None,
        })
    }

    pub(super) fn ops(&self) -> Vec<OpId> {
        let op = |effect: &Effect| match effect {
            Effect::Kernel(op, _) | Effect::Ask(op, _) => Some(*op),
            _ => None,
        };
        self.effects.iter().filter_map(op).collect()
    }
}
