//! Real namespaces, a real data plane, and a coordinator of a few lines.

use std::{
    net::Ipv4Addr,
    os::fd::{AsFd as _, AsRawFd as _},
    sync::{Arc, Mutex, Weak},
};

use mesh_proto::{
    DeploymentId, Epoch, InstanceId, PrivateKey, Range, Record, Revision, RunnerId, ServiceId, View,
    message::{Answer, Ask, Down, Have, Held, Refusal, Up},
    view::{Deployment, Instance, InstanceState, Network, Service},
};
use tokio::{sync::watch, task::JoinHandle};

use super::{Instances, Parts, Wish, load};
use crate::{
    attach::{
        Namespace, Staging,
        lab::{PATIENCE, ip, namespace},
    },
    control::{
        Control, Ourselves,
        lab::{Peer, Streams},
    },
    dataplane::{DataEvent, Dataplane},
    hosts::{HostsFile, Place},
    local::NamespacePlace,
    state::{StateDir, tests::Scratch},
};

/// The coordinator's state: shop/db and shop/app, and the instances of the runner.
struct Model {
    view: View,
    next: u64,
    /// What the last hello told.
    told: Vec<Held>,
}

impl Model {
    fn new() -> Self {
        let network = Network { range: Range::DEFAULT, mtu: 1344 };
        let mut view = View::empty(Epoch([1; 16]), Revision(1), RunnerId(1), network);
        let (name, team) = ("shop".parse().unwrap(), "acme".parse().unwrap());
        view.put(Record::Deployment(Arc::new(Deployment { id: DeploymentId(1), name, team })));
        for (id, name) in [(1, "db"), (2, "app")] {
            view.put(Record::Service(Arc::new(Service {
                id: ServiceId(id),
                deployment: DeploymentId(1),
                name: name.parse().unwrap(),
                address: Ipv4Addr::new(100, 112, 0, u8::try_from(id).unwrap()),
                automatic_names: true,
            })));
        }
        Self { view, next: 1, told: vec![] }
    }

    fn instances(&self) -> Vec<u64> {
        self.view.instances().map(|instance| instance.id.0).collect()
    }

    /// Answers, and gives what has changed.
    fn answer(&mut self, ask: &Ask) -> Result<Answer, Refusal> {
        match ask {
            Ask::Attach { service, client } => {
                let found = self.view.services().find(|s| s.name == service.service).map(|service| service.id);
                let service = found.ok_or_else(|| Refusal::bare("no such service"))?;
                let instance = InstanceId(self.next);
                self.next += 1;
                let address = Ipv4Addr::new(100, 112, 1, u8::try_from(instance.0).unwrap());
                let state = if *client { InstanceState::Client } else { InstanceState::Live };
                let record = Instance { id: instance, service, runner: RunnerId(1), address, state };
                self.view.put(Record::Instance(Arc::new(record)));
                self.view.revision = self.view.revision.next();
                Ok(Answer::Attached { instance, address, revision: self.view.revision })
            }
            Ask::Drain { .. } | Ask::Leave => Err(Refusal::bare("not played")),
            Ask::Detach { instance } => {
                self.keep(|id| id != *instance);
                Ok(Answer::Detached { revision: self.view.revision })
            }
            Ask::Settle { .. } => Ok(Answer::Settled { pending: vec![] }),
            Ask::Lookup { .. } | Ask::Why { .. } => Err(Refusal::bare("not asked here")),
        }
    }

    fn keep(&mut self, such: impl Fn(InstanceId) -> bool) {
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
struct Agent {
    instances: Instances,
    streams: Streams,
    control: Control,
    model: Arc<Mutex<Model>>,
    stream: Option<JoinHandle<()>>,
    events: JoinHandle<()>,
    dataplane: Weak<Dataplane>,
}

impl Agent {
    async fn start(state: &StateDir, model: &Arc<Mutex<Model>>, view: Option<Arc<View>>) -> Self {
        let (dataplane, mut events) =
            Dataplane::start(PrivateKey::from_bytes([7; 32]), 0, vec![], Box::new(vec![0; 1 << 16])).unwrap();
        let dataplane = Arc::new(dataplane);
        let (control, keeper) = Control::new(view, None);
        let (applied, applied_receiver) = watch::channel(None);
        let mut views = control.views();
        tokio::spawn(async move {
            while views.changed().await.is_ok() {
                let view = views.borrow_and_update().clone();
                applied.send_replace(view.map(|view| Have { epoch: view.epoch, revision: view.revision }));
            }
        });
        let weak = Arc::downgrade(&dataplane);
        let parts = Parts {
            state: state.clone(),
            control: control.clone(),
            dataplane,
            staging: Staging::new().unwrap(),
            applied: applied_receiver.clone(),
        };
        let (instances, mut ended) = Instances::start(parts, load(state)).await;
        tokio::spawn(instances.clone().follow());
        let told = instances.clone();
        let events = tokio::spawn(async move {
            loop {
                tokio::select! {
                    Some(event) = events.recv() => if let DataEvent::Gone(port) = event { told.gone(port).await },
                    Some(namespace) = ended.recv() => told.end(namespace).await,
                    else => return,
                }
            }
        });
        let held = instances.clone();
        let ourselves = Ourselves {
            port: 1,
            endpoints_only: false,
            endpoints: watch::channel(vec![]).1,
            applied: applied_receiver,
            held: Box::new(move || held.hello()),
        };
        let streams = Streams::new(keeper, RunnerId(1), ourselves);
        Self { instances, streams, control, model: Arc::clone(model), stream: None, events, dataplane: weak }
    }

    /// The coordinator is there.
    async fn connect(&mut self) {
        let peer = self.streams.open().await;
        self.stream = Some(tokio::spawn(converse(peer, Arc::clone(&self.model))));
        assert!(self.control.connected(PATIENCE).await);
    }

    /// The coordinator goes away.
    async fn disconnect(&mut self) {
        self.stream.take().unwrap().abort();
        self.control.links().wait_for(|link| !link.connected).await.unwrap();
    }

    /// The agent is killed: nothing that it holds is taken back.
    async fn kill(self) {
        let Self { instances, streams, control, stream, events, dataplane, .. } = self;
        events.abort();
        stream.inspect(JoinHandle::abort);
        drop((instances, streams, control));
        // Whatever ran has let go of it: its queues are closed.
        let over = async {
            while dataplane.strong_count() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, over).await.unwrap();
    }

    async fn attach(&self, service: &str, ns: &Namespace) -> Result<InstanceId, Refusal> {
        self.attach_with(service, ns, None).await
    }

    async fn attach_with(&self, service: &str, ns: &Namespace, hosts: Option<&Place>) -> Result<InstanceId, Refusal> {
        let path = format!("/proc/{}/fd/{}", std::process::id(), ns.as_fd().as_raw_fd());
        let wish = Wish {
            service: service.parse().unwrap(),
            client: false,
            namespace: Arc::new(Namespace::open(path.as_ref()).unwrap()),
            place: NamespacePlace::Path(path.into()),
            hosts: hosts.map(|place| (place.clone(), HostsFile::open(&place.reach().unwrap()).unwrap())),
            process: None,
        };
        self.instances.attach(wish).await.map(|answer| answer.instance.id)
    }

    fn list(&self) -> Vec<u64> {
        self.instances.list().iter().map(|instance| instance.id.0).collect()
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !is_so(self) {
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
    while let Some(up) = peer.hear().await {
        if let Up::Ask { request, ask } = up {
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

struct World {
    scratch: Scratch,
    state: StateDir,
    model: Arc<Mutex<Model>>,
}

impl World {
    fn new(name: &str) -> Self {
        let scratch = Scratch::new(name);
        let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
        Self { scratch, state, model: Arc::new(Mutex::new(Model::new())) }
    }

    async fn agent(&self) -> Agent {
        let mut agent = Agent::start(&self.state, &self.model, None).await;
        agent.connect().await;
        agent
    }

    fn instances(&self) -> Vec<u64> {
        self.model.lock().unwrap().instances()
    }
}

fn addresses(ns: &Namespace) -> String {
    ip(ns, "-br addr show mesh0").split_whitespace().skip(2).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn attaching_again_is_the_same_and_detaching_leaves_nothing() {
    let (world, ns) = (World::new("again"), namespace());
    let agent = world.agent().await;
    assert_eq!(agent.attach("shop/db", &ns).await, Ok(InstanceId(1)));
    assert_eq!(agent.attach("shop/db", &ns).await, Ok(InstanceId(1)));
    assert_eq!(addresses(&ns), "100.112.1.1/32 100.112.0.1/32");
    assert!(agent.attach("shop/app", &ns).await.unwrap_err().error.contains("i-1 of shop/db"));
    assert_eq!(world.instances(), [1], "what was refused here never came to the coordinator");
    agent.instances.detach(InstanceId(1)).await.unwrap();
    assert_eq!((agent.list(), world.instances()), (vec![], vec![]));
    assert!(!ip(&ns, "link").contains("mesh0"));
    assert!(agent.instances.detach(InstanceId(1)).await.is_err());
}

#[tokio::test]
async fn what_cannot_be_made_leaves_nothing_behind() {
    let (world, ns) = (World::new("nothing"), namespace());
    let agent = world.agent().await;
    assert!(agent.attach("shop/nobody", &ns).await.unwrap_err().error.contains("no such service"));
    let host = Namespace::host().unwrap();
    assert!(agent.attach("shop/db", &host).await.unwrap_err().error.contains("machine's own"));
    ip(&ns, "link add mesh0 type bridge");
    assert!(agent.attach("shop/db", &ns).await.unwrap_err().error.contains("did not make"));
    assert_eq!((agent.list(), world.instances()), (vec![], vec![]));
}

#[tokio::test]
async fn the_end_of_a_namespace_is_the_end_of_its_instance() {
    let (world, ns) = (World::new("end"), namespace());
    let agent = world.agent().await;
    agent.attach("shop/db", &ns).await.unwrap();
    drop(ns);
    agent.until("detached", |agent| agent.list().is_empty()).await;
    agent.until("told", |_| world.instances().is_empty()).await;
}

#[tokio::test]
async fn while_the_coordinator_is_away_a_restarted_container_takes_its_instance_over() {
    let world = World::new("away");
    let (first, second) = (namespace(), namespace());
    let mut agent = world.agent().await;
    agent.attach("shop/db", &first).await.unwrap();
    agent.disconnect().await;
    agent.instances.detach(InstanceId(1)).await.unwrap();
    let error = agent.attach("shop/app", &second).await.unwrap_err();
    assert!(error.error.contains("coordinator is away"), "{error}");
    assert_eq!(agent.attach("shop/db", &second).await, Ok(InstanceId(1)), "the same instance, elsewhere");
    assert_eq!(addresses(&second), "100.112.1.1/32 100.112.0.1/32");
    agent.connect().await;
    agent.until("told", |_| world.model.lock().unwrap().told.len() == 1).await;
    assert_eq!((agent.list(), world.instances()), (vec![1], vec![1]));
}

#[tokio::test]
async fn an_end_in_the_coordinators_absence_is_told_when_it_is_back() {
    let (world, ns) = (World::new("pending"), namespace());
    let mut agent = world.agent().await;
    agent.attach("shop/db", &ns).await.unwrap();
    agent.disconnect().await;
    agent.instances.detach(InstanceId(1)).await.unwrap();
    assert_eq!(world.instances(), [1]);
    agent.connect().await;
    agent.until("told", |_| world.instances().is_empty()).await;
}

#[tokio::test]
async fn a_restarted_agent_takes_up_what_is_there_and_ends_what_is_not() {
    let world = World::new("restart");
    let (stays, goes) = (namespace(), namespace());
    let hosts = world.scratch.0.join("hosts");
    std::fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
    let place = Place::Path(hosts.clone());
    let agent = world.agent().await;
    agent.attach_with("shop/db", &stays, Some(&place)).await.unwrap();
    agent.attach("shop/app", &goes).await.unwrap();
    let view = agent.control.view();
    agent.kill().await;
    drop(goes);
    let mut agent = Agent::start(&world.state, &world.model, view).await;
    assert_eq!(agent.list(), [1], "before there is a coordinator");
    assert_eq!(addresses(&stays), "100.112.1.1/32 100.112.0.1/32");
    agent.connect().await;
    agent.until("told", |_| world.instances() == [1]).await;
    agent.instances.detach(InstanceId(1)).await.unwrap();
    assert_eq!(std::fs::read_to_string(&hosts).unwrap(), "127.0.0.1 localhost\n", "found again, and cleared");
}

#[tokio::test]
async fn a_coordinator_without_the_instance_gives_another_one() {
    let (world, ns) = (World::new("older"), namespace());
    let hosts = world.scratch.0.join("hosts");
    std::fs::write(&hosts, "").unwrap();
    let mut agent = world.agent().await;
    agent.attach_with("shop/db", &ns, Some(&Place::Path(hosts.clone()))).await.unwrap();
    agent.disconnect().await;
    {
        let mut model = world.model.lock().unwrap();
        model.keep(|_| false);
        model.next = 9;
    }
    agent.connect().await;
    agent.until("attached anew", |agent| agent.list() == [9]).await;
    assert_eq!((addresses(&ns).as_str(), world.instances()), ("100.112.1.9/32 100.112.0.1/32", vec![9]));
    assert!(std::fs::read_to_string(&hosts).unwrap().contains("100.112.0.1 db.warp\n"));
    drop(ns);
    agent.until("its end is noticed", |agent| agent.list().is_empty()).await;
}

#[tokio::test]
async fn an_instance_whose_service_is_gone_ends() {
    let (world, ns) = (World::new("gone"), namespace());
    let mut agent = world.agent().await;
    agent.attach("shop/db", &ns).await.unwrap();
    agent.disconnect().await;
    {
        let mut model = world.model.lock().unwrap();
        let network = model.view.network;
        model.view = View::empty(Epoch([2; 16]), Revision(1), RunnerId(1), network);
    }
    agent.connect().await;
    agent.until("taken out", |agent| agent.list().is_empty() && !ip(&ns, "link").contains("mesh0")).await;
}

#[tokio::test]
async fn names_follow_the_view_and_go_with_the_instance() {
    let (world, ns) = (World::new("names"), namespace());
    let hosts = world.scratch.0.join("hosts");
    std::fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
    let read = || std::fs::read_to_string(&hosts).unwrap();
    let agent = world.agent().await;
    agent.attach_with("shop/db", &ns, Some(&Place::Path(hosts.clone()))).await.unwrap();
    assert!(read().contains("100.112.0.2 app.warp\n"), "{}", read());
    // Another attachment brings the next view, and with it a name that was not there.
    let service = Service {
        id: ServiceId(3),
        deployment: DeploymentId(1),
        name: "cache".parse().unwrap(),
        address: Ipv4Addr::new(100, 112, 0, 3),
        automatic_names: true,
    };
    world.model.lock().unwrap().view.put(Record::Service(Arc::new(service)));
    agent.attach("shop/app", &namespace()).await.unwrap();
    agent.until("named", |_| read().contains("100.112.0.3 cache.warp\n")).await;
    agent.instances.detach(InstanceId(1)).await.unwrap();
    assert_eq!(read(), "127.0.0.1 localhost\n");
}
