//! Docker as it comes, with an agent that follows its events: attached a moment after the start, names included, and without
//! variables.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use mesh_netns_tests::{Daemon, isolated, wait};
use mesh_runtime_tests::{Container, Docker, Stage};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::front::Front;

const SHOP: &str = "deployment = \"shop\"\n[services.app]\n[services.db]\n";
const DB: [&str; 2] = ["--label", "mesh.service=shop/db"];

/// Docker without `mesh-runc`, and an agent that is told where it is.
fn stage() -> (Stage, Docker) {
    let mut stage = Stage::new(&[SHOP]);
    let docker = Docker::start_plain(&stage.lab, &stage.aws);
    follow(&mut stage, &docker.socket());
    (stage, docker)
}

/// Starts the agent again, and has it follow what is at this socket.
fn follow(stage: &mut Stage, socket: &Path) {
    stage.configure(&format!("[containers]\nwatch = [{socket:?}]\n"));
    stage.aws.stop();
    stage.aws.start(&[]);
}

fn is_attached(docker: &Docker, container: &Container) {
    wait::until_true("the container to be attached", || {
        docker.exec(container, &[], "ip addr show mesh0").code == Some(0)
    });
    wait::until_true("the names to be there", || {
        docker.exec(container, &[], "grep app.warp /etc/hosts").code == Some(0)
    });
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
fn whatever_its_network_and_whoever_is_killed() {
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
        // Nobody is left who could tell of it.
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
        let (mut stage, docker) = stage();
        let made = docker.container(&[], &["sleep", "1000"]);
        docker.command(&["commit", "--change", "LABEL mesh.service=shop/db", &made.id, "sly"]).done();
        docker.command(&["run", "--detach", "sly", "sleep", "1000"]).done();
        let _host = docker.container(&[&DB[..], &["--network", "host"]].concat(), &["sleep", "1000"]);
        let _nobody = docker.container(&["--label", "mesh.service=shop/nobody"], &["sleep", "1000"]);
        for words in ["machine's own network namespace", "has no service `nobody`"] {
            wait::until_true(words, || stage.aws.log().contains(words));
        }
        stage.coordinator.stop();
        let away = docker.container(&DB, &["sleep", "1000"]);
        wait::until_true("the coordinator", || stage.aws.log().contains("the coordinator is away"));
        docker.command(&["rm", "--force", &away.id]).done();
        stage.coordinator.start();
        assert!(stage.instances().is_empty());
        let remembered =
            fs::read_to_string(stage.aws.state().join("containers.json")).expect("what the agent remembers");
        assert!(remembered.contains("\"containers\":{}"), "{remembered}");
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
        // The second question is the last one, behind which it is attached.
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
        // Those that have ended before they are looked at had the mesh, too.
        (0..5).for_each(|_| drop(docker.run(&DB, "true").done()));
        docker.exec(&beside, &[], "ip addr show mesh0 && test -n \"$WARP_IST_app\"").done();
        assert!(!stage.aws.log().contains("without the mesh"), "{}", stage.aws.log());
        // Each lets go once, and the last one of the shared namespace ends the instance.
        docker.command(&["rm", "--force", &beside.id, &other.id]).done();
        wait::until_true("the end of one", || stage.instances() == ["shop/db live"]);
        docker.exec(&db, &[], "ip addr show mesh0 && grep app.warp /etc/hosts").done();
        docker.command(&["rm", "--force", &db.id]).done();
        wait::until_true("the end of all", || stage.instances().is_empty());
    });
}

#[test]
fn a_docker_that_takes_new_versions_only() {
    isolated(|| {
        let mut stage = Stage::new(&[SHOP]);
        let docker = Docker::start_plain(&stage.lab, &stage.aws);
        let front = Front::of(&docker, "v1.44");
        follow(&mut stage, front.socket());
        let db = docker.container(&DB, &["sleep", "1000"]);
        is_attached(&docker, &db);
        assert_eq!(front.asked("/v1.24/"), 0, "what works first is what is asked by");
    });
}

#[test]
fn a_docker_that_refuses_is_said_once_and_not_every_time() {
    isolated(|| {
        let mut stage = Stage::new(&[SHOP]);
        let refusal = "HTTP/1.0 400 Bad Request\r\n\r\n{\"message\":\"client version 1.24 is too old\"}\n";
        let front = Front::answering(move |mut asker, _| asker.write_all(refusal.as_bytes()));
        follow(&mut stage, front.socket());
        wait::until_true("the agent to have tried several times", || front.asked("/v1.24/version") >= 3);
        let log = stage.aws.log();
        assert_eq!(log.matches("client version 1.24 is too old").count(), 3, "once by each version: {log}");
        assert!(log.contains("WARN") && log.contains("can't be followed"), "{log}");
    });
}

#[test]
fn nobody_else_passes_for_docker() {
    isolated(|| {
        let mut stage = Stage::new(&[SHOP]);
        let (directory, socket) = (Path::new("/run/stranger"), Path::new("/run/stranger/docker.sock"));
        fs::create_dir(directory).expect("cannot make a directory");
        nix::unistd::chown(directory, Some(65534.into()), None).expect("cannot give a directory away");
        // What it is asked it would say.
        let script = "my $l = IO::Socket::UNIX->new(Local => $ARGV[0], Listen => 5) or die $!; $| = 1; print \"listens\\n\"; \
             while (my $s = $l->accept) { print \"called\\n\"; print while <$s> }";
        let mut stranger = Command::new("setpriv");
        stranger.args(["--reuid=65534", "--regid=65534", "--clear-groups", "perl", "-MIO::Socket::UNIX", "-e", script]);
        stranger.arg(socket);
        let stranger = Daemon::start(stranger, Path::new("/run/stranger.log"));
        wait::until_true("the stranger", || stranger.log().contains("listens"));
        follow(&mut stage, socket);
        wait::until_true("several calls", || stranger.log().matches("called").count() >= 3);
        assert!(!stranger.log().contains("GET"), "{}", stranger.log());
        let said = "answered by a process of user 65534, who is neither root nor the user of this agent";
        assert_eq!(stage.aws.log().matches(said).count(), 1, "{}", stage.aws.log());
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
