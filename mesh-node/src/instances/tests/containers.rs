//! Containers with real namespaces, real processes and a real data plane; the coordinator is played.

use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use mesh_proto::{InstanceId, message::Refusal};

use crate::{
    attach::{
        Namespace,
        lab::{ip, namespace, within},
    },
    hosts::{HostsFile, Place, Reach as _},
    instances::{
        FILE, Life, Resolv, Start,
        lab::{Agent, World},
    },
    local::ContainerId,
    sys::process,
};

/// A container: a process in a namespace, with a hosts file.
struct Container {
    id: &'static str,
    process: Child,
    hosts: PathBuf,
}

impl Container {
    fn start(world: &World, id: &'static str, ns: &Namespace) -> Self {
        let hosts = world.scratch.0.join(format!("hosts-{id}"));
        fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
        let spawn = || Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        Self { id, process: within(ns, spawn), hosts }
    }

    fn id(&self) -> ContainerId {
        self.id.parse().unwrap()
    }

    fn pid(&self) -> i32 {
        self.process.id().cast_signed()
    }

    async fn attach(&self, agent: &Agent, service: &str) -> Result<InstanceId, Refusal> {
        let place = Place::Path(self.hosts.clone());
        let start = Start {
            id: self.id(),
            service: service.parse().unwrap(),
            client: false,
            release: None,
            resolv: Resolv::Untouched,
            namespace: Arc::new(Namespace::of_pid(self.pid().cast_unsigned()).unwrap()),
            hosts: Some((place.clone(), HostsFile::open(&place.reach().unwrap(), place.kind()).unwrap())),
            unkept: None,
            life: Life::Process(process::pidfd(self.pid()).unwrap()),
        };
        agent.attach_container(start).await
    }

    fn is_named(&self) -> bool {
        fs::read_to_string(&self.hosts).unwrap().contains("100.112.0.1 db.warp\n")
    }

    /// Its process ends, as by SIGKILL, and its parent waits for it.
    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn stage(name: &str) -> (World, Agent) {
    let world = World::new(name);
    let agent = world.agent().await;
    (world, agent)
}

/// The end of a container; returns the instance that ended with it.
async fn detach(agent: &Agent, id: &ContainerId) -> Option<InstanceId> {
    agent.instances.detach_container(id.clone()).await.unwrap().instance.map(|instance| instance.id)
}

async fn containers(agent: &Agent) -> Vec<ContainerId> {
    agent.instances.containers().await.containers
}

#[tokio::test]
async fn a_container_is_attached_once_and_leaves_nothing() {
    let ((world, agent), ns) = (stage("container").await, namespace());
    let mut db = Container::start(&world, "db", &ns);
    assert_eq!(db.attach(&agent, "shop/db").await, Ok(InstanceId(1)));
    assert_eq!(db.attach(&agent, "shop/db").await, Ok(InstanceId(1)), "the same once more");
    assert_eq!(agent.instances.list().await[0].containers, [db.id()]);
    assert!(ip(&ns, "-br addr show mesh0").contains("100.112.0.1/32") && db.is_named());
    db.kill();
    let ended = detach(&agent, &db.id()).await;
    agent.until("ended", async |agent| agent.list().await.is_empty()).await;
    assert!(ended.is_none_or(|instance| instance == InstanceId(1)), "or its process was noticed first");
    agent.until("all is gone", async |_| world.instances().is_empty() && !db.is_named()).await;
    assert_eq!(detach(&agent, &db.id()).await, None, "unknown by now, and no error");
}

#[tokio::test]
async fn a_container_that_is_just_starting_is_known_and_delays_no_other() {
    let ((world, agent), (slow, quick)) = (stage("coming").await, (namespace(), namespace()));
    let db = Container::start(&world, "db", &quick);
    let by_cni = Start {
        id: "web".parse().unwrap(),
        service: "shop/app".parse().unwrap(),
        client: false,
        release: None,
        resolv: Resolv::Untouched,
        life: Life::Namespace(format!("/proc/{}/fd/{}", std::process::id(), slow.as_fd().as_raw_fd()).into()),
        namespace: Arc::new(slow),
        hosts: None,
        unkept: None,
    };
    world.think_of("shop/app");
    let others = async {
        agent.until("asked", async |_| world.model.lock().unwrap().waiting == 1).await;
        assert_eq!(db.attach(&agent, "shop/db").await, Ok(InstanceId(1)));
        assert_eq!(containers(&agent).await, [db.id(), "web".parse().unwrap()]);
        assert!(detach(&agent, &db.id()).await.is_some());
        world.answer();
    };
    assert!(tokio::join!(agent.attach_container(by_cni), others).0.is_ok());
    let web = "web".parse().unwrap();
    assert_eq!(containers(&agent).await, [&web].map(Clone::clone));
    assert_eq!(detach(&agent, &web).await, Some(InstanceId(2)));
}

#[tokio::test]
async fn a_namespace_that_ends_without_a_word_of_its_runtime_leaves_no_container() {
    let ((world, agent), ns) = (stage("without-word").await, namespace());
    let path = format!("/proc/{}/fd/{}", std::process::id(), ns.as_fd().as_raw_fd());
    let start = Start {
        id: "web".parse().unwrap(),
        service: "shop/app".parse().unwrap(),
        client: false,
        release: None,
        resolv: Resolv::Untouched,
        life: Life::Namespace(path.clone().into()),
        namespace: Arc::new(Namespace::open(path.as_ref()).unwrap()),
        hosts: None,
        unkept: None,
    };
    agent.attach_container(start).await.unwrap();
    let remembered = || fs::read_to_string(world.scratch.0.join(FILE)).unwrap();
    assert!(remembered().contains("web"));
    drop(ns);
    agent.until("forgotten", async |_| world.instances().is_empty() && !remembered().contains("web")).await;
}

#[tokio::test]
async fn the_end_of_the_process_is_the_end_of_the_container() {
    let ((world, agent), ns) = (stage("killed").await, namespace());
    let mut db = Container::start(&world, "db", &ns);
    db.attach(&agent, "shop/db").await.unwrap();
    db.kill();
    agent
        .until("ended", async |agent| agent.list().await.is_empty() && world.instances().is_empty() && !db.is_named())
        .await;
}

#[tokio::test]
async fn who_is_left_in_the_namespace_of_an_ended_container_is_barred_from_the_range() {
    let ((world, agent), ns) = (stage("left").await, namespace());
    let mut db = Container::start(&world, "db", &ns);
    let _stranger = Container::start(&world, "stranger", &ns);
    db.attach(&agent, "shop/db").await.unwrap();
    db.kill();
    agent.until("ended", async |agent| agent.list().await.is_empty() && !ip(&ns, "link").contains("mesh0")).await;
    assert!(ip(&ns, "rule").contains("100.112.0.0/12 blackhole"));
}

#[tokio::test]
async fn a_shared_namespace_holds_one_instance_until_the_last_container_ends() {
    let ((world, agent), ns) = (stage("pod").await, namespace());
    let (mut db, mut beside) = (Container::start(&world, "db", &ns), Container::start(&world, "beside", &ns));
    assert_eq!(db.attach(&agent, "shop/db").await, Ok(InstanceId(1)));
    assert_eq!(beside.attach(&agent, "shop/db").await, Ok(InstanceId(1)));
    let error = Container::start(&world, "other", &ns).attach(&agent, "shop/app").await.unwrap_err();
    assert!(error.error.contains("holds i-1 of shop/db"), "{error}");
    assert!(db.is_named() && beside.is_named());
    db.kill();
    agent.until("its names are gone", async |_| !db.is_named()).await;
    assert_eq!((agent.list().await, beside.is_named()), (vec![1], true));
    beside.kill();
    agent.until("ended", async |agent| agent.list().await.is_empty() && !beside.is_named()).await;
}

#[tokio::test]
async fn a_container_that_starts_again_is_not_taken_for_its_former_self() {
    let ((world, agent), first, second) = (stage("again-container").await, namespace(), namespace());
    let former = Container::start(&world, "db", &first);
    former.attach(&agent, "shop/db").await.unwrap();
    let mut db = Container::start(&world, "db", &second);
    assert_eq!(db.attach(&agent, "shop/db").await, Ok(InstanceId(2)));
    assert_eq!(agent.list().await, [2], "the former run has ended, even with processes in its namespace");
    drop(former);
    // The end of the former process must not be the end of this one: which only another end can show.
    db.kill();
    agent.until("ended", async |agent| agent.list().await.is_empty() && world.instances().is_empty()).await;
}

#[tokio::test]
async fn what_cannot_be_attached_leaves_nothing() {
    let ((world, agent), ns) = (stage("refused-container").await, namespace());
    let db = Container::start(&world, "db", &ns);
    let error = db.attach(&agent, "shop/ghost").await.unwrap_err();
    assert!(error.error.contains("no such service"), "{error}");
    let host = Container::start(&world, "host", &Namespace::host().unwrap());
    let error = host.attach(&agent, "shop/db").await.unwrap_err();
    assert!(error.error.contains("machine's own") && error.error.contains("--network host"), "{error}");
    assert_eq!((agent.list().await, world.instances(), db.is_named()), (vec![], vec![], false));
    assert_eq!(db.attach(&agent, "shop/db").await, Ok(InstanceId(1)), "and nothing is in the way");
}

#[tokio::test]
async fn an_instance_that_was_attached_otherwise_outlives_the_containers() {
    let ((world, agent), ns) = (stage("otherwise").await, namespace());
    agent.attach("shop/db", &ns).await.unwrap();
    let mut db = Container::start(&world, "db", &ns);
    assert_eq!(db.attach(&agent, "shop/db").await, Ok(InstanceId(1)));
    db.kill();
    agent.until("its names are gone", async |_| !db.is_named()).await;
    assert_eq!(agent.list().await, [1]);
}

#[tokio::test]
async fn a_restarted_agent_knows_its_containers_and_who_has_ended_since() {
    let ((world, agent), first, second) = (stage("restarted").await, namespace(), namespace());
    let (mut stays, mut goes) = (Container::start(&world, "db", &first), Container::start(&world, "app", &second));
    stays.attach(&agent, "shop/db").await.unwrap();
    goes.attach(&agent, "shop/app").await.unwrap();
    agent.kill().await;
    goes.kill();
    let mut agent = Agent::start(&world.state, &world.model, None).await;
    assert_eq!(agent.list().await, [1], "before there is a coordinator");
    agent.connect().await;
    agent.until("told", async |_| world.instances() == [1]).await;
    assert_eq!(stays.attach(&agent, "shop/db").await, Ok(InstanceId(1)), "the same as before");
    stays.kill();
    agent.until("ended", async |agent| agent.list().await.is_empty() && world.instances().is_empty()).await;
}
