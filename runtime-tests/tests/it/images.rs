//! The images, built from `packaging/Containerfile` and run by podman. No registry is used: the base has the libraries
//! of this machine that the programs need.

use std::{fs, os::unix::net::UnixListener, path::Path, process::Command};

use mesh_netns_tests::{Namespace, Outcome, Runner, Stack, isolated, run, wait};
use mesh_runtime_tests::{Container, Docker, Podman, Stage, mesh_node};

const SHOP: &str = "deployment = \"shop\"\n[services.app]\n[services.db]\n";

/// A base image with glibc and the loader.
fn base(podman: &Podman) {
    let mut ldd = Command::new("ldd");
    ldd.arg(mesh_node());
    let said = run(ldd).done().stdout;
    let libraries =
        said.split_whitespace().filter(|word| word.starts_with('/')).map(|path| path.trim_start_matches('/'));
    let mut tar = Command::new("tar");
    tar.args(["--directory", "/", "--create", "--dereference", "--file", "/run/base.tar"]).args(libraries);
    run(tar).done();
    podman.command(&["import", "--quiet", "/run/base.tar", "base"]).done();
}

/// How the images are made, and the commands that run them.
const RECIPE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/Containerfile");

/// The words after `podman run` in the recipe's command for an image.
fn documented(name: &str) -> Vec<String> {
    let recipe = fs::read_to_string(RECIPE).expect("cannot read the recipe");
    let begins = format!("# podman run -d --name {name} ");
    let command = recipe.lines().skip_while(|line| !line.starts_with(&begins)).enumerate();
    // It continues on indented lines.
    let lines = command.take_while(|(at, line)| *at == 0 || line.starts_with("#   "));
    let words: Vec<_> = lines.flat_map(|(_, line)| line.split_whitespace().skip(1).map(str::to_owned)).collect();
    assert_eq!(words.get(..2), Some(&["podman".to_owned(), "run".to_owned()][..]), "the recipe says nothing of {name}");
    words[2..].to_vec()
}

/// The machine on which the images run.
struct Machine {
    podman: Podman,
    runner: Runner,
    group: String,
}

impl Machine {
    fn new(stage: &Stage) -> Self {
        let runner = stage.world.machine("ovh", Stack::Dual);
        let podman = Podman::as_configured(&stage.lab, &runner);
        base(&podman);
        Self { podman, runner, group: format!("/{}", stage.lab.group()) }
    }

    /// Builds the image of a program, and runs it by the recipe's command with some words replaced.
    fn start(&self, name: &str, program: &Path, instead: &[(&str, &str)]) {
        let context = format!("/run/context-{name}");
        fs::create_dir_all(&context).expect("cannot make a directory");
        fs::copy(program, Path::new(&context).join(name)).expect("cannot copy a program");
        let arguments =
            ["--build-arg", "BASE=localhost/base", "--pull=never", "--file", RECIPE, "--target", name, "--tag", name];
        self.podman.command(&[&["build", "--quiet"][..], &arguments, &[&context]].concat()).done();
        let words = documented(name);
        let replaced =
            |word| instead.iter().find(|(documented, _)| *documented == word).map_or(word, |(_, ours)| *ours);
        let words: Vec<_> = words.iter().map(|word| replaced(word.as_str())).collect();
        let ours = ["run", "--cgroup-parent", &self.group, "--log-driver", "k8s-file"];
        self.podman.command(&[&ours[..], &words].concat()).done();
    }

    /// An agent that joins the mesh and follows the Docker at this socket.
    fn start_agent(&self, stage: &Stage, socket: &Path) {
        let (url, token) = (stage.coordinator.url(false), stage.coordinator.token(&["--any"]));
        let volume = format!("{}:/var/run/docker.sock", socket.display());
        let instead = [
            ("URL", &*url),
            ("TOKEN", &token),
            ("NAME", "ovh"),
            ("/var/run/docker.sock:/var/run/docker.sock", &volume),
        ];
        self.start("mesh-node", &mesh_node(), &instead);
        self.agent_follows();
    }

    fn agent_follows(&self) {
        let is_connected = || self.within("mesh-node", &["status", "--json"]).is_connected();
        wait::until_true("the agent to follow the coordinator", is_connected);
    }

    /// `mesh-node` or `mesh-coord` with these arguments, in its container.
    fn within(&self, name: &str, arguments: &[&str]) -> Outcome {
        self.podman.command(&[&["exec", name, name], arguments].concat())
    }

    /// Whether the agent reports that this container has an instance.
    fn knows(&self, container: &Container) -> bool {
        self.within("mesh-node", &["status", "--json"]).done().stdout.contains(&container.id)
    }

    /// The agent's log.
    fn log(&self) -> String {
        let outcome = self.podman.command(&["logs", "mesh-node"]).done();
        outcome.stdout + &outcome.stderr
    }
}

#[test]
fn a_coordinator_and_an_agent_run_from_their_images() {
    isolated(|| {
        let stage = Stage::new(&[SHOP]);
        let machine = Machine::new(&stage);
        let coordinator = std::env::var("MESH_COORD").expect("MESH_COORD is the path of the program under test");
        // podman's own networks aren't used.
        let instead = [("-p", "--network"), ("7443:7443", "host")];
        machine.start("mesh-coord", Path::new(&coordinator), &instead);
        let token = wait::until("a token", || {
            Some(machine.within("mesh-coord", &["token", "create", "--any"])).filter(|it| it.code == Some(0))
        });
        assert!(token.stdout.starts_with("mesh1."), "{}", token.stdout);

        // The agent joins the other one's mesh, which has services. There is a socket without a Docker.
        let socket = Path::new("/run/docker.sock");
        let _listens = UnixListener::bind(socket).expect("cannot listen");
        machine.start_agent(&stage, socket);
        let namespace = Namespace::create("db");
        machine.within("mesh-node", &["attach", "shop/db", "--netns", "/run/netns/db"]).done();
        assert!(namespace.interface("mesh0").is_some());
        assert_eq!(stage.instances(), ["shop/db live"]);
    });
}

#[test]
fn an_agent_in_a_container_attaches_what_docker_starts() {
    isolated(|| {
        let stage = Stage::new(&[SHOP]);
        let machine = Machine::new(&stage);
        let docker = Docker::start_plain(&stage.lab, &machine.runner);
        attaches_what_docker_starts(&stage, &machine, &docker);
    });
}

#[test]
fn an_agent_in_a_container_attaches_containers_with_user_namespaces() {
    isolated(|| {
        let stage = Stage::new(&[SHOP]);
        let machine = Machine::new(&stage);
        for file in ["/etc/subuid", "/etc/subgid"] {
            fs::write(file, "nobody:100000:65536\nnogroup:100000:65536\n").expect("cannot write a file");
        }
        let configuration = Path::new("/run/remapped.json");
        fs::write(configuration, "{\"userns-remap\": \"nobody:nogroup\"}").expect("cannot write a file");
        let docker = Docker::start_with(&stage.lab, &machine.runner, configuration.to_owned());
        attaches_what_docker_starts(&stage, &machine, &docker);
    });
}

/// The agent sees the processes of Docker's containers, but not Docker's files.
fn attaches_what_docker_starts(stage: &Stage, machine: &Machine, docker: &Docker) {
    machine.start_agent(stage, &docker.socket());
    let labelled =
        |flags: &[&str]| docker.container(&[&["--label", "mesh.service=shop/db"], flags].concat(), &["sleep", "1000"]);
    let has = |container: &Container, name: &str| {
        let look = format!("grep '{name}' /etc/hosts && ip addr show mesh0");
        wait::until_true(name, || docker.exec(container, &[], &look).code == Some(0));
    };
    let db = labelled(&[]);
    has(&db, "app.warp");
    // Another one has the same namespace and the same file.
    let beside = labelled(&["--network", &format!("container:{}", db.id)]);
    wait::until_true("both to be known", || machine.knows(&db) && machine.knows(&beside));
    // Docker writes its file again, and the names are restored.
    docker.command(&["network", "create", "private"]).done();
    docker.command(&["network", "connect", "private", &db.id]).done();
    has(&db, "app.warp");
    // The next agent finds everything again.
    machine.podman.command(&["restart", "--time", "0", "mesh-node"]).done();
    machine.agent_follows();
    stage.coordinator.apply(&format!("{SHOP}[services.cache]\n")).done();
    has(&db, "cache.warp");
    docker.command(&["rm", "--force", &beside.id]).done();
    wait::until_true("the end of that one", || !machine.knows(&beside));
    has(&db, "cache.warp");
    assert_eq!(stage.instances(), ["shop/db live"]);
    // The machine's own hosts file is never written, even if it isn't the agent's.
    labelled(&["--volume", "/etc/hosts:/etc/hosts"]);
    wait::until_true("the machine's own to be refused", || machine.log().contains("it is the machine's own"));
    assert!(!fs::read_to_string("/etc/hosts").expect("the machine's hosts file").contains("warp"));
    docker.command(&["rm", "--force", &db.id]).done();
    wait::until_true("the end of all", || stage.instances().is_empty());
}
