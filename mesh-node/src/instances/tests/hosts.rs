//! Hosts files as instances keep them: which instance has which, and what becomes of the names when other programs write them.

use std::{
    io::Read as _,
    net::Ipv4Addr,
    os::fd::{AsFd as _, AsRawFd as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use mesh_proto::{DeploymentId, InstanceId, Record, ServiceId, view::Service};

use crate::{
    attach::{
        Namespace,
        lab::{PATIENCE, ip, namespace},
    },
    hosts::{HostsFile, Place, Reach as _, Stall},
    instances::{
        Life, Resolv, Start,
        lab::{Agent, World, addresses},
    },
    local::ContainerId,
    sys::process,
};

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
    declare_cache(&world);
    agent.attach("shop/app", &namespace()).await.unwrap();
    agent.until("named", async |_| read().contains("100.112.0.3 cache.warp\n")).await;
    agent.instances.detach(InstanceId(1)).await.unwrap();
    assert_eq!(read(), "127.0.0.1 localhost\n");
}

/// Holds a lease on a file, which blocks writers (fcntl(2), `F_SETLEASE`), and doesn't give it up when asked.
struct Lease(Child);

impl Lease {
    fn take(file: &Path) -> Self {
        let script = "$SIG{IO} = sub {}; open my $file, '<', shift or die $!; fcntl $file, 1024, 0 or die $!; \
                      syswrite STDOUT, 'x'; sleep 1 while 1";
        let mut holder = Command::new("perl");
        holder.args(["-e", script]).arg(file).stdout(Stdio::piped());
        let mut holder = holder.spawn().expect("`perl` is needed: install perl-base");
        holder.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        Self(holder)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test]
async fn a_lease_on_a_hosts_file_delays_its_names_and_nothing_else() {
    let (world, kept, gone) = (World::new("lease"), namespace(), namespace());
    let files = ["kept", "gone"].map(|name| world.scratch.0.join(name));
    let read = |n: usize| std::fs::read_to_string(&files[n]).unwrap();
    let agent = world.agent().await;
    for ((service, ns), file) in [("shop/db", &kept), ("shop/app", &gone)].into_iter().zip(&files) {
        std::fs::write(file, "127.0.0.1 localhost\n").unwrap();
        agent.attach_with(service, ns, Some(&Place::Path(file.clone()))).await.unwrap();
    }
    let view = agent.control.view();
    agent.kill().await;
    std::fs::write(&files[0], "127.0.0.1 localhost\n").unwrap();
    drop(gone);
    let leases = files.each_ref().map(|file| Lease::take(file));
    let agent = Agent::start(&world.state, &world.model, view).await;
    assert_eq!((agent.list().await, addresses(&kept).as_str()), (vec![1], "100.112.1.1/32 100.112.0.1/32"));
    assert!(!read(0).contains("app.warp") && read(1).contains("app.warp"));
    drop(leases);
    agent.until("named, and cleared", async |_| read(0).contains("app.warp\n") && !read(1).contains("warp")).await;
    std::fs::write(&files[0], "172.17.0.3 web\n").unwrap();
    agent.until("put back", async |_| read(0).starts_with("172.17.0.3 web\n") && read(0).contains("app.warp\n")).await;
    agent.instances.detach(InstanceId(1)).await.unwrap();
    assert_eq!(read(0), "172.17.0.3 web\n");
}

#[tokio::test]
async fn names_are_put_back_when_a_runtime_rewrites_the_file() {
    let (world, ns) = (World::new("rewritten"), namespace());
    let hosts = world.scratch.0.join("hosts");
    std::fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
    let read = || std::fs::read_to_string(&hosts).unwrap();
    let agent = world.agent().await;
    agent.attach_with("shop/db", &ns, Some(&Place::Path(hosts.clone()))).await.unwrap();
    std::fs::write(&hosts, "172.17.0.2 web\n").unwrap();
    agent.until("put back", async |_| read().starts_with("172.17.0.2 web\n") && read().contains("app.warp\n")).await;
    let view = agent.control.view();
    agent.kill().await;
    let agent = Agent::start(&world.state, &world.model, view).await;
    std::fs::write(&hosts, "172.17.0.3 web\n").unwrap();
    agent.until("put back", async |_| read().starts_with("172.17.0.3 web\n") && read().contains("app.warp\n")).await;
    agent.instances.detach(InstanceId(1)).await.unwrap();
    assert_eq!(read(), "172.17.0.3 web\n");
}

/// A process, in this namespace or the test's own, that has this file as its /etc/hosts.
pub(super) struct Process(Child);

impl Process {
    pub(super) fn with(hosts: &Path, ns: Option<&Namespace>) -> Self {
        let mut command = Command::new("nsenter");
        command.args(ns.map(|ns| format!("--net=/proc/{}/fd/{}", std::process::id(), ns.as_fd().as_raw_fd())));
        command.args(["unshare", "--mount", "sh", "-c", "mount --bind \"$0\" /etc/hosts && echo && exec cat"]);
        let mut child = command.arg(hosts).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        Self(child)
    }

    pub(super) fn place(&self) -> Place {
        Place::Process(self.0.id().cast_signed())
    }

    /// Its files.
    pub(super) fn root(&self) -> std::path::PathBuf {
        format!("/proc/{}/root", self.0.id()).into()
    }

    /// Runs a command where the process sees its files.
    pub(super) fn runs(&self, script: &str, file: &Path) {
        let mut command = Command::new("nsenter");
        command.args([&format!("--mount=/proc/{}/ns/mnt", self.0.id()), "sh", "-euc", script]);
        assert!(command.arg(file).status().unwrap().success(), "{script}");
    }

    /// As the first process of a container.
    fn container(&self, id: &ContainerId) -> Start {
        let place = self.place();
        Start {
            id: id.clone(),
            service: "shop/db".parse().unwrap(),
            client: false,
            release: None,
            resolv: Resolv::Untouched,
            namespace: Arc::new(Namespace::of_pid(self.0.id()).unwrap()),
            hosts: Some((place.clone(), HostsFile::open(&place.reach().unwrap(), place.kind()).unwrap())),
            unkept: None,
            life: Life::Process(process::pidfd(self.0.id().cast_signed()).unwrap()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_hosts_file_is_found_again_by_a_process_of_the_namespace_only() {
    let (world, ns) = (World::new("by-process"), namespace());
    let files = ["inside", "outside"].map(|name| world.scratch.0.join(name));
    files.iter().for_each(|file| std::fs::write(file, "127.0.0.1 localhost\n").unwrap());
    let read = |n: usize| std::fs::read_to_string(&files[n]).unwrap();
    // A number may be another process's by the time that the agent is back.
    let processes = [Process::with(&files[0], Some(&ns)), Process::with(&files[1], None)];
    let agent = world.agent().await;
    for process in &processes {
        agent.attach_with("shop/db", &ns, Some(&process.place())).await.unwrap();
    }
    let view = agent.control.view();
    agent.kill().await;
    files.iter().for_each(|file| std::fs::write(file, "172.17.0.2 web\n").unwrap());
    let agent = Agent::start(&world.state, &world.model, view).await;
    assert_eq!(agent.list().await, [1]);
    agent.until("put back", async |_| read(0).starts_with("172.17.0.2 web\n") && read(0).contains("app.warp\n")).await;
    assert_eq!(read(1), "172.17.0.2 web\n");
}

#[tokio::test]
async fn a_hosts_file_that_two_have_keeps_its_names_when_one_of_them_goes() {
    let (world, ns) = (World::new("two-have-it"), namespace());
    let file = world.scratch.0.join("hosts");
    std::fs::write(&file, "127.0.0.1 localhost\n").unwrap();
    let processes = [(); 2].map(|()| Process::with(&file, Some(&ns)));
    let agent = world.agent().await;
    // One that was attached otherwise stays when its containers go.
    agent.attach("shop/db", &ns).await.unwrap();
    let ids = ["one", "other"].map(|id| id.parse::<ContainerId>().unwrap());
    for (process, id) in processes.iter().zip(&ids) {
        agent.attach_container(process.container(id)).await.unwrap();
    }
    assert!(std::fs::read_to_string(&file).unwrap().contains("app.warp\n"));
    agent.instances.detach_container(ids[0].clone()).await.unwrap();
    assert!(std::fs::read_to_string(&file).unwrap().contains("app.warp\n"));
    agent.instances.detach_container(ids[1].clone()).await.unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "127.0.0.1 localhost\n");
    assert_eq!(agent.list().await, [1]);
}

#[tokio::test]
async fn a_hosts_file_holds_the_names_of_one_service() {
    let (world, all) = (World::new("one-file"), [(); 3].map(|()| namespace()));
    let hosts = world.scratch.0.join("hosts");
    std::fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
    let place = Place::Path(hosts.clone());
    let mut agent = world.agent().await;
    agent.attach_with("shop/db", &all[0], Some(&place)).await.unwrap();
    let named = std::fs::read_to_string(&hosts).unwrap();
    let error = agent.attach_with("shop/app", &all[1], Some(&place)).await.unwrap_err();
    assert!(error.error.contains("holds the names of i-1 of shop/db already"), "{error}");
    assert!(error.hint.unwrap().contains("a hosts file of its own"));
    assert_eq!(
        (agent.list().await, world.instances(), std::fs::read_to_string(&hosts).unwrap()),
        (vec![1], vec![1], named)
    );
    // The next one has it, and of two at once one.
    agent.instances.detach(InstanceId(1)).await.unwrap();
    let attach = |service, n: usize| agent.attach_with(service, &all[n], Some(&place));
    let both = tokio::join!(attach("shop/app", 1), attach("shop/db", 2));
    assert!(both.0.is_ok() != both.1.is_ok(), "{both:?}");
    let there = both.0.or(both.1).unwrap();
    // Restarted, it is not in its own way.
    let view = agent.control.view();
    agent.kill().await;
    std::fs::write(&hosts, "172.17.0.2 web\n").unwrap();
    agent = Agent::start(&world.state, &world.model, view).await;
    let read = || std::fs::read_to_string(&hosts).unwrap();
    agent.until("put back", async |_| read().starts_with("172.17.0.2 web\n") && read().contains("app.warp\n")).await;
    agent.instances.detach(there).await.unwrap();
    assert_eq!(read(), "172.17.0.2 web\n");
}

#[tokio::test]
async fn instances_of_one_service_can_share_a_hosts_file() {
    let (world, all) = (World::new("replicas-file"), [(); 2].map(|()| namespace()));
    let hosts = world.scratch.0.join("hosts");
    std::fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
    let (place, read) = (Place::Path(hosts.clone()), || std::fs::read_to_string(&hosts).unwrap());
    let agent = world.agent().await;
    for n in 0..40 {
        // One goes while the next one comes, as when a container is restarted in whose namespace others are.
        let attach = agent.attach_with("shop/db", &all[n % 2], Some(&place));
        match agent.list().await.first() {
            None => drop(attach.await.unwrap()),
            Some(before) => {
                let (next, ended) = tokio::join!(attach, agent.instances.detach(InstanceId(*before)));
                assert!(next.is_ok() && ended.is_ok(), "{next:?}");
            }
        }
        assert!(read().contains("app.warp\n"), "{}", read());
    }
    agent.instances.detach_all().await.unwrap();
    assert_eq!(read(), "127.0.0.1 localhost\n");
}

#[tokio::test]
async fn an_instance_that_follows_one_that_is_just_ending_gets_its_hosts_file() {
    let (world, before, after) = (World::new("next-file"), namespace(), namespace());
    let hosts = world.scratch.0.join("hosts");
    std::fs::write(&hosts, "").unwrap();
    let place = Place::Path(hosts.clone());
    let agent = world.agent().await;
    agent.attach_with("shop/db", &before, Some(&place)).await.unwrap();
    let (next, ended) =
        tokio::join!(agent.attach_with("shop/app", &after, Some(&place)), agent.instances.detach(InstanceId(1)));
    assert_eq!((next, ended.unwrap().instance.id), (Ok(InstanceId(2)), InstanceId(1)));
    assert!(std::fs::read_to_string(&hosts).unwrap().contains("app.warp\n"));
}

#[tokio::test]
async fn of_two_that_an_earlier_version_let_share_a_hosts_file_the_second_waits() {
    let (world, all) = (World::new("shared"), [(); 3].map(|()| namespace()));
    let files = ["one", "two"].map(|name| world.scratch.0.join(name));
    let agent = world.agent().await;
    for ((service, ns), file) in [("shop/db", &all[0]), ("shop/app", &all[1])].into_iter().zip(&files) {
        std::fs::write(file, "").unwrap();
        agent.attach_with(service, ns, Some(&Place::Path(file.clone()))).await.unwrap();
    }
    let view = agent.control.view();
    agent.kill().await;
    let remembered = world.scratch.0.join(crate::instances::FILE);
    let text = std::fs::read_to_string(&remembered).unwrap();
    std::fs::write(&remembered, text.replace(files[1].to_str().unwrap(), files[0].to_str().unwrap())).unwrap();
    std::fs::write(&files[0], "").unwrap();
    let mut agent = Agent::start(&world.state, &world.model, view).await;
    agent.connect().await;
    let names = || std::fs::read_to_string(&files[0]).unwrap();
    agent.until("named", async |_| names().contains("app.warp\n")).await;
    // A further one of the same service may share it.
    let (first, second) = match agent.attach_with("shop/db", &all[2], Some(&Place::Path(files[0].clone()))).await {
        Ok(further) => {
            agent.instances.detach(further).await.unwrap();
            (InstanceId(1), InstanceId(2))
        }
        Err(error) => {
            assert!(error.error.contains("holds the names of i-2 of shop/app already"), "{error}");
            (InstanceId(2), InstanceId(1))
        }
    };
    agent.instances.detach(first).await.unwrap();
    agent.until("the other's", async |_| names().contains("app.warp\n")).await;
    agent.instances.detach(second).await.unwrap();
    assert_eq!(names(), "");
}

#[tokio::test]
async fn a_hosts_file_that_does_not_answer_delays_no_other() {
    let (world, all) = (World::new("stalled-file"), [(); 3].map(|()| namespace()));
    let files = ["slow", "quick"].map(|name| world.scratch.0.join(name));
    let read = |n: usize| std::fs::read_to_string(&files[n]).unwrap();
    let mut opened = files.each_ref().map(|path| {
        std::fs::write(path, "127.0.0.1 localhost\n").unwrap();
        let place = Place::Path(path.clone());
        let file = HostsFile::open(&place.reach().unwrap(), place.kind()).unwrap();
        Some((place, file))
    });
    let stall = Stall::default();
    opened[0] = opened[0].take().map(|(place, file)| (place, stall.holds(file)));
    let agent = world.agent().await;
    for (n, service) in ["shop/db", "shop/app"].into_iter().enumerate() {
        agent.attach_opened(service, &all[n], opened[n].take()).await.unwrap();
    }
    let stalled = stall.begin().await;
    declare_cache(&world);
    agent.attach("shop/app", &all[2]).await.unwrap();
    agent.until("the others' names follow", async |_| read(1).contains("100.112.0.3 cache.warp\n")).await;
    assert!(!read(0).contains("cache.warp"));
    tokio::time::timeout(PATIENCE, agent.instances.detach(InstanceId(1))).await.unwrap().unwrap();
    assert!(!ip(&all[0], "link").contains("mesh0"));
    assert_eq!(tokio::time::timeout(PATIENCE, agent.instances.detach_all()).await.unwrap().unwrap().len(), 2);
    assert!(read(0).contains("app.warp"), "it has not answered");
    drop(stalled);
    agent.until("its names are taken out after all", async |_| read(0) == "127.0.0.1 localhost\n").await;
}

#[tokio::test]
async fn a_hosts_file_that_is_replaced_is_followed() {
    let (world, ns) = (World::new("replaced"), namespace());
    let [hosts, next, away] = ["hosts", "next", "away"].map(|name| world.scratch.0.join(name));
    std::fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let agent = world.agent().await;
    agent.attach_with("shop/db", &ns, Some(&Place::Path(hosts.clone()))).await.unwrap();
    // As an editor does, or a deployment tool; and once more.
    std::fs::hard_link(&hosts, &away).unwrap();
    for theirs in ["::1 localhost\n", "10.0.0.1 other\n"] {
        std::fs::write(&next, theirs).unwrap();
        std::fs::rename(&next, &hosts).unwrap();
        agent
            .until("in the new one", async |_| read(&hosts).starts_with(theirs) && read(&hosts).contains("app.warp\n"))
            .await;
    }
    // First away, then made anew.
    std::fs::remove_file(&hosts).unwrap();
    std::fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
    agent.until("in the newest", async |_| read(&hosts).contains("app.warp\n")).await;
    // The first one may be mounted in a container.
    declare_cache(&world);
    agent.attach("shop/app", &namespace()).await.unwrap();
    agent
        .until("both follow", async |_| [&hosts, &away].into_iter().all(|path| read(path).contains("cache.warp\n")))
        .await;
    agent.instances.detach(InstanceId(1)).await.unwrap();
    assert_eq!((read(&hosts), read(&away)), ("127.0.0.1 localhost\n".to_owned(), "127.0.0.1 localhost\n".to_owned()));
}

/// One service more, with the next view.
fn declare_cache(world: &World) {
    let service = Service {
        id: ServiceId(3),
        deployment: DeploymentId(1),
        name: "cache".parse().unwrap(),
        address: Ipv4Addr::new(100, 112, 0, 3),
        automatic_names: true,
    };
    world.model.lock().unwrap().view.put(Record::Service(Arc::new(service)));
}
