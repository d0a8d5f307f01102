//! Agents are killed, stopped and upgraded under load, again and again: only connections of an instance that has ended
//! notice.

use std::{env, fs, net::Ipv4Addr, path::Path};

use mesh_netns_tests::{
    Condition, Coordinator, Crowd, Daemon, Instance, NamedServer, Namespace, Pace, Runner, Transfer, isolated, wait,
};

use crate::{
    common::is_refused,
    replicas::{PORT, crowd, serve, shop},
};

/// How often each agent is replaced.
const TIMES: usize = 20;

/// Transfers and idle connections that stand meanwhile.
const BUSY: usize = 8;
const IDLE: usize = 50;

/// Connections from one instance to a service's instances here and elsewhere.
struct Standing {
    busy: Vec<Transfer>,
    idle: Vec<Crowd>,
}

impl Standing {
    fn open(callers: &[&Instance], db: &Instance) -> Self {
        let each = callers.len();
        let busy = callers.iter().flat_map(|caller| crowd(caller, db, BUSY / each).transfer(Pace::Steady)).collect();
        Self { busy, idle: callers.iter().map(|caller| crowd(caller, db, IDLE / each)).collect() }
    }

    /// Every transfer moves on.
    #[track_caller]
    fn move_on(&self) {
        self.busy.iter().for_each(|transfer| transfer.wait_more(1));
    }

    /// Every idle connection answers, and every transfer ends with all bytes correct.
    #[track_caller]
    fn finish(self) {
        for mut idle in self.idle {
            idle.assert_all_answer();
        }
        for transfer in self.busy {
            transfer.finish().expect("every byte as it was sent");
        }
    }
}

/// Three instances of `db` on two runners, callers on both, and each agent is replaced by `how` again and again.
/// Meanwhile the service is scaled up and down.
fn replaced(how: impl Fn(&mut Runner, usize)) {
    let (_world, coordinator, [mut aws, mut ovh]) = shop(["aws", "ovh"]);
    let [a, b, c] = [aws.attach("shop/db"), aws.attach("shop/db"), ovh.attach("shop/db")];
    let _servers = serve([&a, &b, &c]);
    let callers = [aws.attach("shop/app"), ovh.attach("shop/app")];
    // From the runner with two instances, from the one with one, and across: by an instance's own address.
    let standing = Standing::open(&[&callers[0], &callers[1]], &a);
    let mut across: Vec<Crowd> = [(&callers[0], &c), (&callers[1], &a), (&callers[1], &b)]
        .map(|(caller, db)| Crowd::gather(&caller.namespace, db.address, PORT, 5))
        .into();
    let mut scaled: Vec<(Instance, NamedServer)> = vec![];
    for time in 0..TIMES {
        let runner = if time % 2 == 0 { &mut aws } else { &mut ovh };
        how(runner, time);
        runner.wait_connected();
        standing.move_on();
        match time % 5 {
            1 => {
                let more = ovh.attach("shop/db");
                let server = more.serve_named(PORT);
                scaled.push((more, server));
            }
            3 => {
                if let Some((less, _server)) = scaled.pop() {
                    ovh.command(&["detach", &less.id]).done();
                }
            }
            _ => {}
        }
    }
    across.iter_mut().for_each(Crowd::assert_all_answer);
    standing.finish();
    let instances = coordinator.json(&["instances"]);
    assert_eq!(instances["instances"].as_array().map(Vec::len), Some(5 + scaled.len()), "{instances:#}");
}

#[test]
fn killed_twenty_times_it_loses_nothing() {
    isolated(|| {
        replaced(|runner, _| {
            runner.kill();
            runner.start_alone(&[]);
        });
    });
}

#[test]
fn stopped_twenty_times_it_loses_nothing() {
    isolated(|| {
        replaced(|runner, _| {
            assert!(runner.stop().success());
            runner.start_alone(&[]);
        });
    });
}

#[test]
fn upgraded_twenty_times_it_loses_nothing() {
    isolated(|| {
        replaced(|runner, time| {
            let program = env::var("MESH_NODE").expect("the program under test");
            let next = format!("/run/mesh-node-{time}");
            fs::copy(program, &next).expect("cannot copy the program");
            runner.upgrade(Path::new(&next));
        });
    });
}

/// An instance that ends with a process, like a container's. Its namespace outlives the process, held by a mount and by
/// remaining sockets.
struct Container {
    namespace: Namespace,
    process: Daemon,
    id: String,
    service_address: Ipv4Addr,
}

impl Container {
    fn start(runner: &Runner, name: &str, service: &str) -> Self {
        let namespace = Namespace::create(name);
        let mut command = namespace.command("sleep");
        command.arg("1000");
        let process = Daemon::start(command, Path::new(&format!("/run/{name}.log")));
        let hosts = format!("/run/{name}.hosts");
        fs::write(&hosts, "").expect("cannot write a hosts file");
        let said = runner.json(&["attach", service, "--pid", &process.pid().to_string(), "--hosts", &hosts]);
        let field = |name: &str| said["instance"][name].as_str().expect("a text").to_owned();
        let service_address = field("service_address").parse().expect("an address");
        Self { namespace, process, id: field("id"), service_address }
    }

    fn serve(&self) -> NamedServer {
        NamedServer::start(&self.namespace, &self.id, PORT)
    }
}

fn instances(coordinator: &Coordinator) -> usize {
    coordinator.json(&["instances"])["instances"].as_array().expect("an array").len()
}

#[test]
fn what_died_while_the_agent_was_away_is_gone_everywhere() {
    isolated(|| {
        let (_world, mut coordinator, [mut aws, ovh]) = shop(["aws", "ovh"]);
        let caller = ovh.attach("shop/app");
        let [lives, dies] = ["one", "two"].map(|name| Container::start(&aws, name, "shop/db"));
        let db = lives.service_address;
        let _servers = [lives.serve(), dies.serve()];
        let mut of_living = Crowd::gather(&caller.namespace, db, PORT, 20);
        let mut of_dead = of_living.split_off(&dies.id);
        assert_eq!((of_living.len(), of_dead.len(), instances(&coordinator)), (10, 10, 3));
        aws.kill();
        dies.process.kill();
        aws.start_alone(&[]);
        of_dead.wait_all(Condition::Reset);
        wait::until_true("the coordinator to know", || instances(&coordinator) == 2);
        let mut more = Crowd::gather(&caller.namespace, db, PORT, 10);
        assert_eq!(more.at(&lives.id), 10);
        of_living.assert_all_answer();

        // Without the coordinator as well: no caller on any runner waits for the ended instance.
        let near = aws.attach("shop/app");
        coordinator.stop();
        aws.kill();
        lives.process.kill();
        aws.start_alone(&[]);
        more.wait_all(Condition::Reset);
        of_living.wait_all(Condition::Reset);
        is_refused(&near, db, PORT);
        let error = caller.connect(db, PORT).expect_err("no live instance");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{error}");
        coordinator.start();
        wait::until_true("the coordinator to know", || instances(&coordinator) == 2);
    });
}

#[test]
fn a_killed_container_is_gone_at_once_whatever_it_leaves_in_its_namespace() {
    isolated(|| {
        let (_world, coordinator, [aws, ovh]) = shop(["aws", "ovh"]);
        let (near, far) = (aws.attach("shop/app"), ovh.attach("shop/app"));
        let container = Container::start(&aws, "container", "shop/db");
        // The test owns its sockets: they outlive the process and keep the namespace.
        let server = container.serve();
        let mut crowds = [&near, &far].map(|app| Crowd::gather(&app.namespace, container.service_address, PORT, 10));
        crowds.iter_mut().for_each(Crowd::assert_all_answer);
        container.process.kill();
        for crowd in &mut crowds {
            crowd.wait_all(Condition::Reset);
        }
        wait::until_true("the coordinator to know", || instances(&coordinator) == 2);
        for app in [&near, &far] {
            is_refused(app, container.service_address, PORT);
        }
        assert_eq!(server.accepted(), 20);
        // Other runners are notified first, and the rest of an empty namespace is cleared afterwards.
        wait::until_true("mesh0 to be taken out", || container.namespace.interface("mesh0").is_none());
    });
}
