//! Docker as it comes, with an agent that follows its events: attached a moment after the start, names included, and without
//! variables.

use std::fs;

use mesh_netns_tests::{isolated, wait};
use mesh_runtime_tests::{Container, Docker, Stage};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const SHOP: &str = "deployment = \"shop\"\n[services.app]\n[services.db]\n";
const DB: [&str; 2] = ["--label", "mesh.service=shop/db"];

/// Docker without `mesh-runc`, and an agent that is told where it is.
fn stage() -> (Stage, Docker) {
    let mut stage = Stage::new(&[SHOP]);
    let docker = Docker::start_plain(&stage.lab, &stage.aws);
    stage.configure(&format!("[containers]\nwatch = [{:?}]\n", docker.socket()));
    stage.aws.stop();
    stage.aws.start(&[]);
    (stage, docker)
}

fn is_attached(docker: &Docker, container: &Container) {
    wait::until_true("the container to be attached", || {
        docker.exec(container, &[], "ip addr show mesh0").code == Some(0)
    });
    wait::until_true("the names to be there", || docker.hosts(container).contains("app.warp"));
}

#[test]
fn what_docker_starts_is_attached_and_goes_when_it_ends() {
    isolated(|| {
        let (stage, docker) = stage();
        let db = docker.container(&DB, &["sleep", "1000"]);
        let plain = docker.container(&[], &["sleep", "1000"]);
        is_attached(&docker, &db);
        assert_eq!(stage.instances(), ["shop/db live"]);
        docker.command(&["restart", "--time", "0", &db.id]).done();
        is_attached(&docker, &db);
        docker.command(&["kill", &db.id]).done();
        wait::until_true("the end of the instance", || stage.instances().is_empty());
        wait::until_true("the names to be gone", || !docker.hosts(&db).contains("warp"));
        assert_ne!(docker.exec(&plain, &[], "ip addr show mesh0").code, Some(0));
    });
}

#[test]
fn whatever_its_network_and_whoever_is_killed() {
    isolated(|| {
        let (mut stage, mut docker) = stage();
        docker.command(&["network", "create", "private"]).done();
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
        // Nobody is left who could tell of it.
        let process = Pid::from_raw(docker.pid(none));
        docker.kill();
        kill(process, Signal::SIGKILL).expect("cannot kill a container");
        wait::until_true("the end of one", || stage.instances() == ["shop/db live"; 2]);
        docker.start_again(&stage.aws);
        docker.command(&["rm", "--force", &bridge.id, &private.id]).done();
        wait::until_true("the end of all", || stage.instances().is_empty());
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
        let _host = docker.container(&[&DB[..], &["--network", "host"]].concat(), &["sleep", "1000"]);
        let _nobody = docker.container(&["--label", "mesh.service=shop/nobody"], &["sleep", "1000"]);
        for words in ["machine's own network namespace", "has no service `nobody`"] {
            wait::until_true(words, || stage.aws.log().contains(words));
        }
        assert!(stage.instances().is_empty());
        let remembered =
            fs::read_to_string(stage.aws.state().join("containers.json")).expect("what the agent remembers");
        assert!(remembered.contains("\"containers\":{}"), "{remembered}");
    });
}

#[test]
fn how_long_a_container_runs_without() {
    isolated(|| {
        let (_stage, docker) = stage();
        // In hundredths of a second, by the container itself.
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
