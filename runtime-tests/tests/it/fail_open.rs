//! `fail = "open"`: a container that can't have the mesh starts without it, and its operator finds the reason in the
//! machine's journal, and with Docker in the container's log as well.

use std::{fs, os::unix::net::UnixDatagram, path::Path};

use mesh_netns_tests::{Outcome, isolated};
use mesh_runtime_tests::{Docker, Podman, Stage, offer};

const SHOP: &str = "deployment = \"shop\"\n[services.app]\n[services.db]\n";
const OPEN: &str = "[containers]\nfail = \"open\"\ncdi = [\"shop/db\"]\n";
const SCRIPT: &str = "env; cat /etc/hosts; ls /sys/class/net; echo it runs";
const GHOST: &str = "mesh.service=shop/ghost";
const DB: &str = "mesh.service=shop/db";

/// journald's socket, with the test behind it.
struct Journal(UnixDatagram);

impl Journal {
    fn open() -> Self {
        fs::create_dir_all("/run/systemd/journal").expect("cannot make a directory");
        let socket = UnixDatagram::bind("/run/systemd/journal/socket").expect("cannot listen");
        socket.set_nonblocking(true).expect("cannot set a socket");
        Self(socket)
    }

    /// The messages since.
    fn read(&self) -> String {
        let (mut said, mut entry) = (String::new(), vec![0; 65536]);
        while let Ok(length) = self.0.recv(&mut entry) {
            said += &String::from_utf8_lossy(&entry[..length]);
        }
        said
    }
}

/// The container has started without the mesh, and the journal says why.
#[track_caller]
fn starts_without(stage: &Stage, journal: &Journal, outcome: Outcome, why: &str) -> Outcome {
    let outcome = outcome.done();
    assert!(outcome.stdout.ends_with("it runs\n"), "{}", outcome.stdout);
    assert!(outcome.stdout.lines().all(|line| line != "mesh0"), "{}", outcome.stdout);
    assert!(stage.instances().is_empty());
    let said = journal.read();
    for words in ["PRIORITY=4\n", "SYSLOG_IDENTIFIER=mesh-node\n", "starts without the mesh", why] {
        assert!(said.contains(words), "nothing of `{words}` in the journal: {said}");
    }
    outcome
}

const WHY_GHOST: &str = "shop/ghost: the deployment `shop` has no service `ghost`";
const WHY_HOST: &str = "shop/db: this is the machine's own network namespace";

#[test]
fn with_podman_the_journal_says_why() {
    isolated(|| {
        let mut stage = Stage::new(&[SHOP]);
        offer(&mut stage.aws, &["shop/db"]);
        let journal = Journal::open();
        stage.configure(OPEN);
        // The agent with the default state directory is configured here.
        fs::create_dir_all("/etc/mesh-node").expect("cannot make a directory");
        fs::write(Path::new("/etc/mesh-node/config.toml"), OPEN).expect("cannot write a file");
        let (hooks, device) = (
            Podman::with_hooks(&stage.lab, &stage.aws),
            ["--device", "mesh.warp/service=shop.db", "--network", "host"],
        );
        let before = stage.census();
        let unknown = ["--annotation", GHOST, "--network", "none"];
        let host = ["--annotation", DB, "--network", "host"];
        starts_without(&stage, &journal, hooks.run(&unknown, SCRIPT), WHY_GHOST);
        starts_without(&stage, &journal, hooks.run(&host, SCRIPT), WHY_HOST);
        starts_without(&stage, &journal, hooks.run(&device, SCRIPT), WHY_HOST);
        let wrapper = Podman::with_wrapper(&stage.lab, &stage.aws);
        starts_without(&stage, &journal, wrapper.run(&unknown, SCRIPT), WHY_GHOST);
        starts_without(&stage, &journal, wrapper.run(&host, SCRIPT), WHY_HOST);
        stage.nothing_is_left(&before);
    });
}

#[test]
fn with_docker_the_containers_log_says_so_too() {
    isolated(|| {
        let stage = Stage::new(&[SHOP]);
        let docker = Docker::start(&stage.lab, &stage.aws);
        let journal = Journal::open();
        stage.configure(OPEN);
        let before = stage.census();
        let said = docker.run(&["--label", GHOST, "--network", "none"], SCRIPT);
        let said = starts_without(&stage, &journal, said, WHY_GHOST);
        assert!(said.stderr.contains(WHY_GHOST), "{}", said.stderr);
        starts_without(&stage, &journal, docker.run(&["--label", DB, "--network", "host"], SCRIPT), WHY_HOST);
        stage.nothing_is_left(&before);
    });
}
