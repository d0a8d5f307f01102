//! Unchanged Docker, with an agent that follows its events: containers are attached a moment after their start, with
//! names and without variables.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use mesh_netns_tests::{isolated, wait};
use mesh_runtime_tests::{Container, Docker, Stage};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::front::Front;

pub(crate) const SHOP: &str = "deployment = \"shop\"\n[services.app]\n[services.db]\n";
/// The log line about a refused container.
const WITHOUT: &str = "it runs without the mesh";
/// How soon a refused container is tried again at the latest, with time for a slow machine.
const ONCE_AT_LEAST: Duration = Duration::from_secs(120);
pub(crate) const DB: [&str; 2] = ["--label", "mesh.service=shop/db"];

/// Docker without `mesh-runc`, and an agent that knows its socket.
fn stage() -> (Stage, Docker) {
    let mut stage = Stage::new(&[SHOP]);
    let docker = Docker::start_plain(&stage.lab, &stage.aws);
    follow(&mut stage, &docker.socket());
    (stage, docker)
}

/// Restarts the agent, and makes it follow the program at this socket.
pub(crate) fn follow(stage: &mut Stage, socket: &Path) {
    stage.configure(&format!("[containers]\nwatch = [{socket:?}]\n"));
    stage.aws.stop();
    stage.aws.start(&[]);
}

pub(crate) fn is_attached(docker: &Docker, container: &Container) {
    wait::until_true("the container to be attached", || has_interface(docker, container));
    wait::until_true("the names to be there", || {
        docker.exec(container, &[], "grep app.warp /etc/hosts").code == Some(0)
    });
}

fn has_interface(docker: &Docker, container: &Container) -> bool {
    docker.exec(container, &[], "ip addr show mesh0").code == Some(0)
}

/// The container was refused and nothing else happens: it is tried again at least once a minute.
fn is_attached_after_all(stage: &Stage, docker: &Docker, container: &Container) {
    wait::true_within(ONCE_AT_LEAST, "the container to be attached after all", || has_interface(docker, container));
    is_attached(docker, container);
    wait::until_true("the log to say so", || !said_of(stage, container, "it is in the mesh now").is_empty());
}

/// The agent's log lines about a container that hold these words, without their times.
fn said_of(stage: &Stage, container: &Container, words: &str) -> Vec<String> {
    let log = stage.aws.log();
    let lines = log.lines().filter(|line| line.contains(&container.id) && line.contains(words));
    lines.map(|line| line.split_once(' ').map_or(line, |(_, said)| said).trim().to_owned()).collect()
}

/// Waits until the agent has logged that a container is without the mesh, and why.
fn is_refused(stage: &Stage, container: &Container, why: &str) {
    wait::until_true(why, || said_of(stage, container, WITHOUT).iter().any(|said| said.contains(why)));
}

#[test]
fn what_docker_starts_is_attached_and_goes_when_it_ends() {
    isolated(|| {
        let (stage, docker) = stage();
        let plain = docker.container(&[], &["sleep", "1000"]);
        let before = stage.census();
        let db = docker.container(&DB, &["sleep", "1000"]);
        is_attached(&docker, &db);
        assert_eq!(stage.instances(), ["shop/db live"]);
        docker.command(&["restart", "--time", "0", &db.id]).done();
        is_attached(&docker, &db);
        docker.command(&["kill", &db.id]).done();
        stage.nothing_is_left(&before);
        assert_ne!(docker.exec(&plain, &[], "ip addr show mesh0").code, Some(0));
    });
}

#[test]
fn with_any_network_and_after_any_kill() {
    isolated(|| {
        let (mut stage, mut docker) = stage();
        docker.command(&["network", "create", "private"]).done();
        let before = stage.census();
        let all = ["bridge", "none", "private"].map(|network| {
            let container = docker.container(&[&DB[..], &["--network", network]].concat(), &["sleep", "1000"]);
            is_attached(&docker, &container);
            container
        });
        let [bridge, none, private] = &all;
        stage.aws.kill();
        stage.aws.start(&[]);
        wait::until_true("all three to be known again", || stage.instances() == ["shop/db live"; 3]);
        docker.exec(bridge, &[], "ip addr show mesh0").done();
        // No program is left to report it.
        let process = Pid::from_raw(docker.pid(none));
        docker.kill();
        kill(process, Signal::SIGKILL).expect("cannot kill a container");
        wait::until_true("the end of one", || stage.instances() == ["shop/db live"; 2]);
        docker.start_again(&stage.aws);
        docker.command(&["rm", "--force", &bridge.id, &private.id]).done();
        stage.nothing_is_left(&before);
    });
}

#[test]
fn what_runs_already_is_attached_when_the_agent_comes() {
    isolated(|| {
        let (mut stage, docker) = stage();
        stage.aws.kill();
        let db = docker.container(&DB, &["sleep", "1000"]);
        stage.aws.start(&[]);
        is_attached(&docker, &db);
        assert_eq!(stage.instances(), ["shop/db live"]);
    });
}

#[test]
fn a_docker_that_is_back_is_followed_again() {
    isolated(|| {
        let (stage, mut docker) = stage();
        docker.kill();
        docker.start_again(&stage.aws);
        let db = docker.container(&DB, &["sleep", "1000"]);
        is_attached(&docker, &db);
    });
}

#[test]
fn what_cannot_be_attached_runs_without_and_the_log_says_why() {
    isolated(|| {
        let (stage, docker) = stage();
        let made = docker.container(&[], &["sleep", "1000"]);
        docker.command(&["commit", "--change", "LABEL mesh.service=shop/db", &made.id, "sly"]).done();
        docker.command(&["run", "--detach", "sly", "sleep", "1000"]).done();
        let host = docker.container(&[&DB[..], &["--network", "host"]].concat(), &["sleep", "1000"]);
        let ghost = docker.container(&["--label", "mesh.service=shop/ghost"], &["sleep", "1000"]);
        is_refused(&stage, &host, "machine's own network namespace");
        is_refused(&stage, &ghost, "has no service `ghost`");
        assert!(stage.instances().is_empty());
        // It is declared after all.
        stage.coordinator.apply(&format!("{SHOP}[services.ghost]\n")).done();
        is_attached_after_all(&stage, &docker, &ghost);
        assert_eq!(stage.instances(), ["shop/ghost live"]);
        for refused in [&host, &ghost] {
            let said = said_of(&stage, refused, WITHOUT);
            let different: BTreeSet<_> = said.iter().collect();
            assert_eq!(said.len(), different.len(), "each reason once: {}", stage.aws.log());
        }
        wait::until_true("no others to be remembered", || {
            let remembered = fs::read(stage.aws.state().join("instances.json")).expect("what the agent remembers");
            let remembered: serde_json::Value = serde_json::from_slice(&remembered).expect("JSON");
            let containers = remembered["containers"].as_object().expect("containers");
            containers.keys().eq([&ghost.id])
        });
    });
}

#[test]
fn an_image_decides_nothing_about_the_mesh() {
    isolated(|| {
        let (stage, docker) = stage();
        let made = docker.container(&[], &["true"]);
        docker.command(&["commit", "--change", "LABEL mesh.service=shop/db", &made.id, "sly"]).done();
        let run = |flags: &[&str]| {
            let id = docker.command(&[&["run", "--detach"], flags, &["sly", "sleep", "1000"]].concat()).done().stdout;
            Container { id: id.trim().to_owned() }
        };
        let (sly, given) = (run(&[]), run(&["--label", "mesh.service=shop/app"]));
        wait::until_true("the container to be attached", || has_interface(&docker, &given));
        wait::until_true("the log to say so", || !said_of(&stage, &sly, "its image itself says").is_empty());
        assert!(!has_interface(&docker, &sly));
    });
}

#[test]
fn what_started_while_the_coordinator_was_away_is_attached_when_it_is_back() {
    isolated(|| {
        let (mut stage, docker) = stage();
        stage.coordinator.stop();
        let [db, gone] = [(); 2].map(|()| docker.container(&DB, &["sleep", "1000"]));
        for container in [&db, &gone] {
            is_refused(&stage, container, "the coordinator is away");
        }
        docker.command(&["rm", "--force", &gone.id]).done();
        stage.coordinator.start();
        is_attached_after_all(&stage, &docker, &db);
        // A container that ended meanwhile, perhaps during an attempt, has left nothing.
        wait::until_true("that one alone", || stage.instances() == ["shop/db live"]);
        let mut said = said_of(&stage, &db, WITHOUT);
        said.sort_unstable();
        assert!(said.windows(2).all(|two| two[0] != two[1]), "each error once: {said:#?}");
    });
}

#[test]
fn what_mesh_runc_has_let_through_is_attached_when_it_can_be() {
    isolated(|| {
        let mut stage = Stage::new(&[SHOP]);
        let docker = Docker::start(&stage.lab, &stage.aws);
        stage.configure(&format!("[containers]\nfail = \"open\"\nwatch = [{:?}]\n", docker.socket()));
        stage.aws.stop();
        stage.aws.start(&[]);
        stage.coordinator.stop();
        let db = docker.container(&DB, &["sleep", "1000"]);
        is_refused(&stage, &db, "the coordinator is away");
        stage.coordinator.start();
        is_attached_after_all(&stage, &docker, &db);
        assert_eq!(stage.instances(), ["shop/db live"]);
    });
}

#[test]
fn while_the_configuration_is_wrong_no_possible_member_is_passed_over() {
    isolated(|| {
        let mut stage = Stage::new(&[SHOP]);
        let docker = Docker::start_plain(&stage.lab, &stage.aws);
        let socket = Path::new("/run/docker-at-times.sock");
        let right = format!("[containers]\nwatch = [{socket:?}]\n[containers.sources]\ncompose = [\"shop\"]\n");
        // The mistake is made after the agent's start, before it looks at any container.
        let start_and_mistake = |stage: &mut Stage| {
            stage.configure(&right);
            stage.aws.stop();
            stage.aws.start(&[]);
            stage.configure(&right.replace("compose", "composed"));
            symlink(docker.socket(), socket).expect("cannot make a link");
        };
        start_and_mistake(&mut stage);
        let plain = docker.container(&["--label", "maintainer=me"], &["sleep", "1000"]);
        let labels = ["project=shop", "service=db", "oneoff=False"].map(|label| format!("com.docker.compose.{label}"));
        let labels = labels.each_ref().map(|label| ["--label", label]).concat();
        let db = docker.container(&labels, &["sleep", "1000"]);
        is_refused(&stage, &db, "invalid configuration");
        // In one step, since half of the file may be valid with another meaning.
        let (file, beside) = (stage.aws.state().join("config.toml"), stage.aws.state().join("config.toml.new"));
        fs::write(&beside, &right).expect("cannot write a file");
        fs::rename(&beside, &file).expect("cannot rename a file");
        is_attached_after_all(&stage, &docker, &db);
        assert_eq!(stage.instances(), ["shop/db live"]);
        // Members stay in the mesh when the mistake comes back, and nothing else is logged about them.
        fs::remove_file(socket).expect("cannot remove a link");
        start_and_mistake(&mut stage);
        let other = docker.container(&labels, &["sleep", "1000"]);
        is_refused(&stage, &other, "invalid configuration");
        docker.exec(&db, &[], "ip addr show mesh0").done();
        assert_eq!(said_of(&stage, &db, WITHOUT).len(), 1, "{}", stage.aws.log());
        assert!(said_of(&stage, &plain, "").is_empty(), "{}", stage.aws.log());
    });
}

#[test]
fn containers_with_user_namespaces() {
    isolated(|| {
        let mut stage = Stage::new(&[SHOP]);
        for file in ["/etc/subuid", "/etc/subgid"] {
            fs::write(file, "nobody:100000:65536\nnogroup:100000:65536\n").expect("cannot write a file");
        }
        let configuration = PathBuf::from("/run/remapped.json");
        fs::write(&configuration, "{\"userns-remap\": \"nobody:nogroup\"}").expect("cannot write a file");
        let docker = Docker::start_with(&stage.lab, &stage.aws, configuration);
        follow(&mut stage, &docker.socket());
        docker.command(&["network", "create", "private"]).done();
        let before = stage.census();
        let all = ["bridge", "none", "private"].map(|network| {
            let container = docker.container(&[&DB[..], &["--network", network]].concat(), &["sleep", "1000"]);
            is_attached(&docker, &container);
            let users = docker.exec(&container, &[], "cat /proc/self/uid_map").done().stdout;
            assert!(!users.starts_with("         0          0"), "it is root of the machine: {users}");
            assert!(docker.exec(&container, &[], "ip link set mesh0 down").stderr.contains("not permitted"));
            container
        });
        assert_eq!(stage.instances(), ["shop/db live"; 3]);
        all.iter().for_each(|container| drop(docker.command(&["rm", "--force", &container.id]).done()));
        stage.nothing_is_left(&before);
    });
}

#[test]
fn what_the_wrapper_has_attached_stays_as_it_is() {
    isolated(|| {
        let mut stage = Stage::new(&[SHOP]);
        let docker = Docker::start(&stage.lab, &stage.aws);
        let front = Front::of(&docker, "v1.44");
        follow(&mut stage, front.socket());
        wait::until_true("the agent to follow", || front.asked("/containers/json") == 1);
        let db = docker.container(&DB, &["sleep", "1000"]);
        let beside =
            docker.container(&[&DB[..], &["--network", &format!("container:{}", db.id)]].concat(), &["sleep", "1000"]);
        let other = docker.container(&["--label", "mesh.service=shop/app"], &["sleep", "1000"]);
        let all = [&db, &beside, &other];
        // The second question is the last one before it is attached.
        let looked_at = |times: usize| {
            let asked =
                |container: &&Container| front.asked(&format!("/containers/{}/json", container.id)) >= 2 * times;
            wait::until_true("all to be looked at", || all.iter().all(asked));
        };
        let known = |stage: &Stage| {
            let all = stage.coordinator.json(&["instances"])["instances"].clone();
            let all = all.as_array().expect("instances").iter();
            all.map(|instance| format!("{} {}", instance["id"], instance["state"])).collect::<Vec<_>>()
        };
        looked_at(1);
        let before = known(&stage);
        assert_eq!(before.len(), 2, "{before:?}");
        stage.aws.kill();
        stage.aws.start(&[]);
        looked_at(2);
        wait::until_true("the instances of before", || known(&stage) == before);
        // Containers that have ended before the agent looks had the mesh, too.
        (0..5).for_each(|_| drop(docker.run(&DB, "true").done()));
        docker.exec(&beside, &[], "ip addr show mesh0 && test -n \"$WARP_IST_app\"").done();
        assert!(!stage.aws.log().contains("without the mesh"), "{}", stage.aws.log());
        // Each is released once, and the last one of the shared namespace ends the instance.
        docker.command(&["rm", "--force", &beside.id, &other.id]).done();
        wait::until_true("the end of one", || stage.instances() == ["shop/db live"]);
        docker.exec(&db, &[], "ip addr show mesh0 && grep app.warp /etc/hosts").done();
        docker.command(&["rm", "--force", &db.id]).done();
        wait::until_true("the end of all", || stage.instances().is_empty());
    });
}

#[test]
fn how_long_a_container_runs_without() {
    isolated(|| {
        let (_stage, docker) = stage();
        // In hundredths of a second, measured by the container itself.
        let script =
            "cut -d ' ' -f 1 /proc/uptime; until [ -e /sys/class/net/mesh0 ]; do :; done; cut -d ' ' -f 1 /proc/uptime";
        let mut delays: Vec<f64> = (0..11)
            .map(|_| {
                let said = docker.run(&DB, script).done().stdout;
                let times: Vec<f64> = said.lines().map(|line| line.parse().expect("seconds")).collect();
                times[1] - times[0]
            })
            .collect();
        delays.sort_by(f64::total_cmp);
        println!(
            "\nattached after the start, by Docker's events: median {:.2} s, longest {:.2} s",
            delays[5], delays[10]
        );
    });
}
