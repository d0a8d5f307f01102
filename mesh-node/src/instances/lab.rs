//! For tests: an agent's instances with real namespaces and a real data plane, and a coordinator of a few lines.

use std::{
    net::Ipv4Addr,
    os::fd::{AsFd as _, AsRawFd as _},
    sync::{Arc, Mutex, Weak},
};

use mesh_proto::{
    DeploymentId, Epoch, InstanceId, PrivateKey, Range, Record, Revision, RunnerId, ServiceId, ServicePath, View,
    message::{Answer, Ask, Cause, Down, Have, Held, Refusal, Up},
    view::{Deployment, Instance, InstanceState, Network, Service},
};
use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinHandle,
};

use super::{Instances, Parts, Resolv, Start, Wish, load};
use crate::{
    attach::{
        Namespace, Staging,
        lab::{PATIENCE, ip},
    },
    control::{
        Control, LocalState, Offered, Outside,
        lab::{Peer, Streams},
    },
    dataplane::{DataEvent, Dataplane},
    hosts::{Guards, HostsFile, Place, Reach as _},
    local::NamespacePlace,
    state::{StateDir, tests::Scratch},
};

/// The coordinator's state: shop/db and shop/app, and the instances of the runner.
pub(crate) struct Model {
    pub(crate) view: View,
    /// The number of the next instance.
    pub(crate) next: u64,
    /// What the last hello told.
    pub(crate) told: Vec<Held>,
    /// The service of which it thinks before it gives an instance, until [`World::answer`].
    pub(crate) slow: Option<ServicePath>,
    /// It says nothing any more.
    pub(crate) silent: bool,
    /// How many wait for that.
    pub(crate) waiting: usize,
    thought: Arc<Notify>,
}

impl Model {
    fn thinks_of(&mut self, ask: &Ask) -> bool {
        let thinks = self.silent || matches!(ask, Ask::Attach { service, .. } if self.slow.as_ref() == Some(service));
        self.waiting += usize::from(thinks);
        thinks
    }

    fn new() -> Self {
        let network = Network { range: Range::DEFAULT, mtu: 1344 };
        let mut view = View::empty(Epoch([1; 16]), Revision(1), RunnerId(1), network);
        let (name, team) = ("shop".parse().unwrap(), "acme".parse().unwrap());
        view.put(Record::Deployment(Arc::new(Deployment { id: DeploymentId(1), name, team, trust_source: None })));
        for (id, name) in [(1, "db"), (2, "app")] {
            view.put(Record::Service(Arc::new(Service {
                id: ServiceId(id),
                deployment: DeploymentId(1),
                name: name.parse().unwrap(),
                address: Ipv4Addr::new(100, 112, 0, u8::try_from(id).unwrap()),
                automatic_names: true,
            })));
        }
        Self { view, next: 1, told: vec![], slow: None, silent: false, waiting: 0, thought: Arc::default() }
    }

    pub(crate) fn instances(&self) -> Vec<u64> {
        self.view.instances().map(|instance| instance.id.0).collect()
    }

    /// Answers, and gives what has changed.
    fn answer(&mut self, ask: &Ask) -> Result<Answer, Refusal> {
        match ask {
            Ask::Attach { service, client, release } => {
                let found = self.view.services().find(|s| s.name == service.service).map(|service| service.id);
                let service = found.ok_or_else(|| Refusal::bare("no such service"))?;
                let instance = InstanceId(self.next);
                self.next += 1;
                let address = Ipv4Addr::new(100, 112, 1, u8::try_from(instance.0).unwrap());
                let state = if *client { InstanceState::Client } else { InstanceState::Live };
                let (runner, release) = (RunnerId(1), release.clone());
                let record = Instance { id: instance, service, runner, address, state, release };
                self.view.put(Record::Instance(Arc::new(record)));
                self.view.revision = self.view.revision.next();
                Ok(Answer::Attached { instance, address, revision: self.view.revision })
            }
            Ask::Drain { instance } => {
                self.turn(*instance, InstanceState::Draining);
                Ok(Answer::Drained { revision: self.view.revision })
            }
            Ask::Undrain { instance } => {
                self.turn(*instance, InstanceState::Live);
                Ok(Answer::Undrained { revision: self.view.revision })
            }
            Ask::Leave => Err(Refusal::bare("not played")),
            Ask::Detach { instance } => {
                self.keep(|id| id != *instance);
                Ok(Answer::Detached { revision: self.view.revision })
            }
            Ask::Settle { .. } => Ok(Answer::Settled { pending: vec![] }),
            Ask::Lookup { .. } | Ask::Why { .. } => Err(Refusal::bare("not asked here")),
        }
    }

    /// From now on an instance is in this state.
    pub(crate) fn turn(&mut self, instance: InstanceId, state: InstanceState) {
        let record = Instance { state, ..Instance::clone(self.view.instance(instance).unwrap()) };
        self.view.put(Record::Instance(Arc::new(record)));
        self.view.revision = self.view.revision.next();
    }

    pub(crate) fn keep(&mut self, such: impl Fn(InstanceId) -> bool) {
        let mut view = View::empty(self.view.epoch, self.view.revision.next(), self.view.runner, self.view.network);
        let kept = self.view.records().filter(|record| match record {
            Record::Instance(instance) => such(instance.id),
            _ => true,
        });
        kept.for_each(|record| view.put(record.clone()));
        self.view = view;
    }
}

/// One run of the agent, as far as instances go.
pub(crate) struct Agent {
    pub(crate) instances: Instances,
    streams: Streams,
    pub(crate) control: Control,
    model: Arc<Mutex<Model>>,
    stream: Option<JoinHandle<()>>,
    events: JoinHandle<()>,
    dataplane: Weak<Dataplane>,
    guards: Guards,
}

impl Agent {
    pub(crate) async fn start(state: &StateDir, model: &Arc<Mutex<Model>>, view: Option<Arc<View>>) -> Self {
        let (dataplane, mut events) =
            Dataplane::start(PrivateKey::from_bytes([7; 32]), 0, 1, vec![], Box::new(vec![0; 1 << 16])).unwrap();
        let dataplane = Arc::new(dataplane);
        let (control, session) = Control::new(view, None);
        let (applied, applied_receiver) = watch::channel(None);
        let mut views = control.views();
        tokio::spawn(async move {
            while views.changed().await.is_ok() {
                let view = views.borrow_and_update().clone();
                applied.send_replace(view.map(|view| Have { epoch: view.epoch, revision: view.revision }));
            }
        });
        let weak = Arc::downgrade(&dataplane);
        let guards = Guards::new();
        let parts = Parts {
            state: state.clone(),
            control: control.clone(),
            dataplane,
            staging: Staging::new().unwrap(),
            guards: guards.clone(),
            applied: applied_receiver.clone(),
        };
        let instances = Instances::start(parts, load(state)).await;
        let told = instances.clone();
        let events = tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if let DataEvent::Gone(port) = event {
                    told.gone(port);
                }
            }
        });
        let held = instances.clone();
        let local = LocalState {
            port: 1,
            endpoints: watch::channel(Offered::default()).1,
            outside: watch::channel(Outside::default()).1,
            relays: false,
            lanes: false,
            applied: applied_receiver,
            telemetry: mpsc::channel(1).1,
            probe: Box::new(|_, _| Box::pin(std::future::pending())),
            held: Box::new(move || {
                let held = held.clone();
                Box::pin(async move { held.hello().await })
            }),
        };
        let streams = Streams::new(session, RunnerId(1), local);
        Self { instances, streams, control, model: Arc::clone(model), stream: None, events, dataplane: weak, guards }
    }

    /// The coordinator is there.
    pub(crate) async fn connect(&mut self) {
        let peer = self.streams.open().await;
        self.stream = Some(tokio::spawn(converse(peer, Arc::clone(&self.model))));
        assert!(self.control.connected(PATIENCE).await);
    }

    /// The coordinator goes away.
    pub(crate) async fn disconnect(&mut self) {
        self.stream.take().unwrap().abort();
        self.control.links().wait_for(|link| !link.connected).await.unwrap();
    }

    /// The coordinator refuses this machine as a copy of another one.
    pub(crate) async fn refuse(&self) {
        let mut peer = self.streams.open().await;
        let Some(Up::Hello { .. }) = peer.hear().await else { panic!("no hello") };
        peer.say(&Down::Refused { cause: Cause::Copy, refusal: Refusal::bare("this machine is a copy") }).await;
        self.control.links().wait_for(|link| link.unknown).await.unwrap();
    }

    /// What ends when the coordinator does.
    pub(crate) fn take_stream(&mut self) -> JoinHandle<()> {
        self.stream.take().unwrap()
    }

    /// From now on it hears no more of what happens by itself.
    pub(crate) fn deafen(&self) {
        self.events.abort();
    }

    /// The agent is killed: nothing that it holds is taken back.
    pub(crate) async fn kill(self) {
        let Self { instances, streams, control, stream, events, dataplane, guards, .. } = self;
        events.abort();
        stream.inspect(JoinHandle::abort);
        drop((instances, streams, control));
        // What ran has let go of it: its queues are closed, and it writes no hosts file any more.
        let over = async {
            while dataplane.strong_count() > 0 || !guards.are_unused() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, over).await.unwrap();
    }

    pub(crate) async fn attach(&self, service: &str, ns: &Namespace) -> Result<InstanceId, Refusal> {
        self.attach_with(service, ns, None).await
    }

    pub(crate) async fn attach_with(
        &self,
        service: &str,
        ns: &Namespace,
        hosts: Option<&Place>,
    ) -> Result<InstanceId, Refusal> {
        let hosts = hosts.map(|place| (place.clone(), HostsFile::open(&place.reach().unwrap(), place.kind()).unwrap()));
        self.attach_opened(service, ns, hosts).await
    }

    pub(crate) async fn attach_opened(
        &self,
        service: &str,
        ns: &Namespace,
        hosts: Option<(Place, HostsFile)>,
    ) -> Result<InstanceId, Refusal> {
        let path = format!("/proc/{}/fd/{}", std::process::id(), ns.as_fd().as_raw_fd());
        let wish = Wish {
            service: service.parse().unwrap(),
            client: false,
            release: None,
            resolv: Resolv::Untouched,
            namespace: Arc::new(Namespace::open(path.as_ref()).unwrap()),
            place: NamespacePlace::Path(path.into()),
            hosts,
            unkept: None,
            process: None,
        };
        self.instances.attach(wish).await.map(|answer| answer.instance.id)
    }

    /// Gives a container its instance.
    pub(crate) async fn attach_container(&self, start: Start) -> Result<InstanceId, Refusal> {
        self.instances.attach_container(start).await.map(|answer| answer.instance.id)
    }

    pub(crate) async fn list(&self) -> Vec<u64> {
        self.instances.list().await.iter().map(|instance| instance.id.0).collect()
    }

    pub(crate) async fn until(&self, what: &str, is_so: impl AsyncFn(&Self) -> bool) {
        let waiting = async {
            while !is_so(self).await {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
    }
}

/// Serves one stream as the coordinator would.
async fn converse(mut peer: Peer, model: Arc<Mutex<Model>>) {
    let Up::Hello { instances, .. } = peer.welcome().await else { unreachable!() };
    let mut sent = {
        let mut model = model.lock().unwrap();
        model.keep(|id| instances.iter().any(|held| held.instance == id));
        model.told = instances;
        model.view.clone()
    };
    peer.say(&Down::Snapshot { view: sent.clone() }).await;
    let thought = Arc::clone(&model.lock().unwrap().thought);
    let mut owed = vec![];
    loop {
        let due = tokio::select! {
            up = peer.hear() => match up {
                Some(Up::Ask { request, ask }) => vec![(request, ask)],
                Some(_) => continue,
                None => return,
            },
            () = thought.notified() => std::mem::take(&mut owed),
        };
        for (request, ask) in due {
            if model.lock().unwrap().thinks_of(&ask) {
                owed.push((request, ask));
                continue;
            }
            let (result, view) = {
                let mut model = model.lock().unwrap();
                (model.answer(&ask), model.view.clone())
            };
            peer.say(&Down::Delta(sent.delta_to(&view))).await;
            sent = view;
            peer.say(&Down::Answer { request, result }).await;
        }
    }
}

pub(crate) struct World {
    pub(crate) scratch: Scratch,
    pub(crate) state: StateDir,
    pub(crate) model: Arc<Mutex<Model>>,
}

impl World {
    pub(crate) fn new(name: &str) -> Self {
        let scratch = Scratch::new(name);
        let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
        Self { scratch, state, model: Arc::new(Mutex::new(Model::new())) }
    }

    pub(crate) async fn agent(&self) -> Agent {
        let mut agent = Agent::start(&self.state, &self.model, None).await;
        agent.connect().await;
        agent
    }

    pub(crate) fn instances(&self) -> Vec<u64> {
        self.model.lock().unwrap().instances()
    }

    /// From now on the coordinator thinks before it gives instances of this service.
    pub(crate) fn think_of(&self, service: &str) {
        self.model.lock().unwrap().slow = Some(service.parse().unwrap());
    }

    /// It has thought.
    pub(crate) fn answer(&self) {
        let mut model = self.model.lock().unwrap();
        model.slow = None;
        model.thought.notify_one();
    }
}

/// Those of `mesh0` in a namespace.
pub(crate) fn addresses(ns: &Namespace) -> String {
    ip(ns, "-br addr show mesh0").split_whitespace().skip(2).collect::<Vec<_>>().join(" ")
}
