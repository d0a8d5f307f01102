//! Nothing of a Docker container stays, however it ends.

use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use mesh_netns_tests::{isolated, isolated_for, run_for, wait};
use mesh_runtime_tests::{Census, Container, Docker, Stage};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const SHOP: &str = "deployment = \"shop\"\n[services.app]\n[services.db]\n";
/// How many containers are started at a time: more of them don't make Docker faster, and take memory and processors
/// from other programs.
const AT_A_TIME: usize = 8;
/// How long the removal of all of them may take.
const LIMIT: Duration = Duration::from_secs(180);
const DB: [&str; 2] = ["--label", "mesh.service=shop/db"];

fn stage() -> (Stage, Docker, Census) {
    let stage = Stage::new(&[SHOP]);
    let docker = Docker::start(&stage.lab, &stage.aws);
    let before = stage.census();
    (stage, docker, before)
}

fn signal(docker: &Docker, container: &Container, signal: Signal) {
    kill(Pid::from_raw(docker.pid(container)), signal).expect("cannot send a signal");
}

#[test]
fn a_restarted_container_is_attached_again() {
    isolated(|| {
        let (stage, docker, before) = stage();
        let db = docker.container(&DB, &["sleep", "1000"]);
        let interface = || docker.exec(&db, &[], "ip addr show mesh0").done().stdout;
        let first = interface();
        for _ in 0..2 {
            docker.command(&["restart", "--time", "0", &db.id]).done();
            assert_eq!(stage.instances(), ["shop/db live"]);
        }
        assert!(first.contains("mesh0") && interface().contains("mesh0"));
        assert!(docker.hosts(&db).contains("app.warp"), "{}", docker.hosts(&db));
        docker.command(&["stop", "--time", "0", &db.id]).done();
        stage.nothing_is_left(&before);
        assert!(!docker.hosts(&db).contains("warp"), "{}", docker.hosts(&db));
        docker.command(&["start", &db.id]).done();
        assert_eq!(stage.instances(), ["shop/db live"]);
        docker.command(&["rm", "--force", &db.id]).done();
        stage.nothing_is_left(&before);
    });
}

#[test]
fn a_container_that_is_killed_leaves_nothing() {
    isolated(|| {
        let (stage, docker, before) = stage();
        let db = docker.container(&DB, &["sleep", "1000"]);
        // The census sees everything of a container.
        let there = stage.left(&before).join("\n");
        for words in [
            "instance i-1 at the coordinator",
            "of the agent in /run/aws",
            "in attachments of /run/aws",
            "in containers of /run/aws",
            "network namespace net:[",
            "interface mesh0 in net:[",
            "our block in /var/lib/docker-aws/",
            "TUN held open by the agent of /run/aws",
            "process held open by the agent of /run/aws",
            "file watched over by the agent of /run/aws",
            "control group /",
        ] {
            assert!(there.contains(words), "nothing of `{words}` in: {there}");
        }
        signal(&docker, &db, Signal::SIGKILL);
        stage.nothing_is_left(&before);
        let docker_kills = docker.container(&DB, &["sleep", "1000"]);
        docker.command(&["kill", &docker_kills.id]).done();
        stage.nothing_is_left(&before);
    });
}

#[test]
fn a_container_whose_program_is_not_there_leaves_nothing() {
    isolated(|| {
        let (stage, docker, before) = stage();
        let refused = docker.command(&["run", "--label", "mesh.service=shop/db", "busybox", "/nothing/of/that/name"]);
        assert!(refused.stderr.contains("/nothing/of/that/name"), "{}", refused.expect_code(127).stderr);
        stage.nothing_is_left(&before);
    });
}

#[test]
fn a_container_outlives_the_daemon_of_docker_and_its_end_is_noticed() {
    isolated(|| {
        let (stage, mut docker, before) = stage();
        let db = docker.container(&DB, &["sleep", "1000"]);
        let process = docker.pid(&db);
        docker.kill();
        assert_eq!(stage.instances(), ["shop/db live"]);
        // No runtime is left to report it.
        kill(Pid::from_raw(process), Signal::SIGKILL).expect("cannot kill the container");
        wait::until_true("the end of the instance", || stage.instances().is_empty());
        // Docker's own remains wait for Docker.
        docker.start_again(&stage.aws);
        stage.nothing_is_left(&before);
        docker.command(&["start", &db.id]).done();
        assert_eq!(stage.instances(), ["shop/db live"]);
        docker.command(&["rm", "--force", &db.id]).done();
        stage.nothing_is_left(&before);
    });
}

#[test]
fn a_killed_agent_knows_its_containers_when_it_is_back() {
    isolated(|| {
        let (mut stage, docker, before) = stage();
        let stays = docker.container(&DB, &["sleep", "1000"]);
        let goes = docker.container(&["--label", "mesh.service=shop/app"], &["sleep", "1000"]);
        stage.aws.kill();
        docker.command(&["kill", &goes.id]).done();
        stage.aws.start(&[]);
        wait::until_true("the end of one instance", || stage.instances() == ["shop/db live"]);
        docker.exec(&stays, &[], "ip addr show mesh0").done();
        // It still watches the other one.
        signal(&docker, &stays, Signal::SIGKILL);
        stage.nothing_is_left(&before);
    });
}

#[test]
fn a_hundred_start_as_fast_as_docker_can_and_none_is_left() {
    isolated_for(3 * LIMIT, || {
        let (stage, docker, before) = stage();
        let names: Vec<String> = (0..100).map(|n| format!("many-{n}")).collect();
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..AT_A_TIME {
                scope.spawn(|| {
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        let Some(name) = names.get(n) else { break };
                        // One runner has at most 64 instances of a service.
                        let service = ["mesh.service=shop/db", "mesh.service=shop/app"][n % 2];
                        docker.container(&["--label", service, "--name", name], &["sleep", "1000"]);
                    }
                });
            }
        });
        assert_eq!(stage.instances().len(), names.len());
        let all: Vec<&str> = ["rm", "--force"].into_iter().chain(names.iter().map(String::as_str)).collect();
        run_for(LIMIT, docker.prepare(&all)).done();
        stage.nothing_is_left(&before);
    });
}

#[test]
fn a_container_that_starts_while_the_agent_restarts_waits_for_it() {
    isolated(|| {
        let (mut stage, docker, before) = stage();
        stage.aws.kill();
        let db = std::thread::scope(|scope| {
            let started = scope.spawn(|| docker.container(&DB, &["sleep", "1000"]));
            // The wrapper works and gets no answer.
            wait::until_true("the wrapper to run", || command_lines().any(|line| line.contains("mesh-runc\0--root")));
            stage.aws.start(&[]);
            started.join().expect("it starts")
        });
        assert_eq!(stage.instances(), ["shop/db live"]);
        docker.command(&["rm", "--force", &db.id]).done();
        stage.nothing_is_left(&before);
    });
}

/// The arguments of all processes, separated by NULs.
fn command_lines() -> impl Iterator<Item = String> {
    let all = fs::read_dir("/proc").expect("processes").flatten();
    all.filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok())
}
