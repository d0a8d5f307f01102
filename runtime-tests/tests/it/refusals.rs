//! The same obstacles for every way into the mesh: the container doesn't start, nothing of it is left, and the
//! runtime's error names the obstacle and a remedy.

use std::{path::PathBuf, process::Command};

use mesh_netns_tests::{Namespace, Runner, Stack, isolated, run, wait};
use mesh_runtime_tests::{Docker, Plugin, Podman, Stage, offer};
use serde_json::json;

const SHOP: &str = "deployment = \"shop\"\n[services.app]\n[services.db]\n";
const BILLING: &str = "deployment = \"billing\"\n[services.api]\n";

/// The container's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    /// None.
    Own,
    /// The machine's.
    Host,
    /// A network with addresses of the mesh's range.
    Overlapping,
    /// A namespace in which another program has an interface called `mesh0`.
    Taken,
}

/// A runtime on a runner.
pub(crate) trait Runtime {
    /// Starts a container of a service, waits for its end, and returns the runtime's error if it doesn't start.
    fn start(&self, runner: &Runner, service: &str, network: Network) -> Result<(), String>;

    /// Whether a container can request an invalid service name.
    fn takes_any_name(&self) -> bool {
        true
    }
}

/// Docker, with `mesh-runc` as its runtime.
struct Wrapped(Docker);

impl Wrapped {
    /// With a network of each kind.
    fn new(docker: Docker) -> Self {
        docker.command(&["network", "create", "--subnet", "100.112.5.0/24", "overlapping"]).done();
        // A container without the mesh, whose namespace others can join.
        let taken = docker.container(&["--network", "none", "--name", "taken"], &["sleep", "1000"]);
        let mut enter = Command::new("nsenter");
        enter.args(["--net", "--target", &docker.pid(&taken).to_string(), "ip", "link", "add", "mesh0"]);
        enter.args(["type", "veth", "peer", "name", "mesh1"]);
        run(enter).done();
        Self(docker)
    }
}

impl Runtime for Wrapped {
    fn start(&self, _: &Runner, service: &str, network: Network) -> Result<(), String> {
        let label = format!("mesh.service={service}");
        let network = match network {
            Network::Own => "none",
            Network::Host => "host",
            Network::Overlapping => "overlapping",
            Network::Taken => "container:taken",
        };
        said(&self.0.run(&["--label", &label, "--network", network], "echo it runs"))
    }
}

/// podman, with our hook or with `mesh-runc`.
struct Hooked(Podman);

impl Runtime for Hooked {
    fn start(&self, _: &Runner, service: &str, network: Network) -> Result<(), String> {
        start_podman(&self.0, &["--annotation", &format!("mesh.service={service}")], network)
    }
}

/// Unchanged podman, with our devices.
struct Devices(Podman);

impl Runtime for Devices {
    fn start(&self, _: &Runner, service: &str, network: Network) -> Result<(), String> {
        start_podman(&self.0, &["--device", &device(service)], network)
    }

    fn takes_any_name(&self) -> bool {
        false
    }
}

fn device(service: &str) -> String {
    format!("mesh.warp/service={}", service.replace('/', "."))
}

fn start_podman(podman: &Podman, flags: &[&str], network: Network) -> Result<(), String> {
    let network = match network {
        Network::Own => "none".to_owned(),
        Network::Host => "host".to_owned(),
        Network::Overlapping | Network::Taken => format!("ns:{}", path(network).display()),
    };
    said(&podman.run(&[flags, &["--network", &network]].concat(), "echo it runs"))
}

/// Our plugin, called as runtimes call it.
impl Runtime for Plugin {
    fn start(&self, runner: &Runner, service: &str, network: Network) -> Result<(), String> {
        let path = if network == Network::Host { runner.namespace().path() } else { path(network) };
        let network = Self::network(&json!({"service": service}));
        let outcome = self.call(runner, "ADD", "f00", &path, &network);
        if outcome.code == Some(0) {
            self.call(runner, "DEL", "f00", &path, &network).done();
            return Ok(());
        }
        // libcni shows both to the user: `Error` of its pkg/types.
        let error = outcome.json();
        Err([&error["msg"], &error["details"]].map(|text| text.as_str().unwrap_or_default()).join("; "))
    }
}

pub(crate) fn said(outcome: &mesh_netns_tests::Outcome) -> Result<(), String> {
    if outcome.stdout.contains("it runs") { Ok(()) } else { Err(outcome.stderr.clone()) }
}

/// The path of a namespace with such a network.
pub(crate) fn path(network: Network) -> PathBuf {
    PathBuf::from("/run/netns").join(format!("{network:?}").to_lowercase())
}

/// The namespaces of networks that a runtime didn't make.
fn furnish() -> [Namespace; 3] {
    [Network::Own, Network::Overlapping, Network::Taken].map(|network| {
        let namespace = Namespace::create(&format!("{network:?}").to_lowercase());
        match network {
            Network::Own | Network::Host => {}
            Network::Overlapping => {
                namespace.ip(&[
                    "link add eth0 type veth peer name eth1",
                    "addr add 100.112.5.2/24 dev eth0",
                    "link set eth0 up",
                ]);
            }
            Network::Taken => namespace.ip(&["link add mesh0 type veth peer name mesh1"]),
        }
        namespace
    })
}

/// Checks each obstacle in turn on the way to `start`.
pub(crate) fn meet_all<R: Runtime>(start: impl FnOnce(&Stage, &mut Runner) -> R) {
    let mut stage = Stage::new(&[SHOP, BILLING]);
    let mut aws = stage.world.machine("confined", Stack::Dual);
    let token = stage.coordinator.token(&["--deployment", "shop"]);
    aws.start(&[&stage.coordinator.url(false), &token, "--name", "confined"]);
    let (runtime, _namespaces) = (start(&stage, &mut aws), furnish());
    let before = stage.census();
    let refused = |runner: &Runner, service: &str, network: Network, words: &[&[&str]]| {
        let text = match runtime.start(runner, service, network) {
            Ok(()) => panic!("{service} in {network:?} has started"),
            Err(text) => text,
        };
        println!("\n{service}, {network:?}: {text}");
        for words in words {
            let is_said = words.iter().any(|word| text.contains(word));
            assert!(is_said, "{service}, {network:?}: nothing of `{}` in: {text}", words.join("` or `"));
        }
    };
    for (service, words) in [
        ("shop/ghost", ["`shop` has no service `ghost`", "mesh-coord services"]),
        ("billing/api", ["`billing` that `confined` may host", "token"]),
    ] {
        refused(&aws, service, Network::Own, &words.each_ref().map(std::slice::from_ref));
        stage.nothing_is_left(&before);
    }
    if runtime.takes_any_name() {
        refused(&aws, "shop", Network::Own, &[&["names no service"], &["shop/db"]]);
    }
    for (network, words) in [
        (Network::Host, [&["machine's own network namespace"][..], &["a network namespace of its own"]]),
        // Docker 28 sets up its networks after us, and refuses them itself.
        (Network::Overlapping, [&["100.112.5."], &["addresses of the mesh's range", "conflicts with existing route"]]),
        (Network::Taken, [&["already an interface mesh0"], &["remove it first"]]),
    ] {
        refused(&aws, "shop/db", network, &words);
        stage.nothing_is_left(&before);
    }
    stage.coordinator.stop();
    refused(&aws, "shop/db", Network::Own, &[&["the coordinator is away"], &["try again when it is back"]]);
    stage.coordinator.start();
    aws.wait_connected();
    stage.nothing_is_left(&before);
    assert!(runtime.start(&aws, "shop/db", Network::Own).is_ok(), "with all out of the way it starts");
    wait::until_true("the end of its instance", || stage.instances().is_empty());
    aws.kill();
    refused(&aws, "shop/db", Network::Own, &[&["no agent is running"], &["mesh-node join --state /"]]);
    stage.nothing_is_left(&before);
}

#[test]
fn docker_says_what_stands_in_the_way_and_what_to_do() {
    isolated(|| meet_all(|stage, runner| Wrapped::new(Docker::start(&stage.lab, runner))));
}

#[test]
fn podman_says_what_stands_in_the_way_and_what_to_do() {
    isolated(|| meet_all(|stage, runner| Hooked(Podman::with_hooks(&stage.lab, runner))));
}

#[test]
fn podman_says_the_same_of_what_mesh_runc_refuses() {
    isolated(|| meet_all(|stage, runner| Hooked(Podman::with_wrapper(&stage.lab, runner))));
}

#[test]
fn podman_says_the_same_of_devices() {
    isolated(|| {
        meet_all(|stage, runner| {
            offer(runner, &["shop/db", "shop/ghost", "billing/api"]);
            Devices(Podman::as_configured(&stage.lab, runner))
        });
    });
}

#[test]
fn cni_says_what_stands_in_the_way_and_what_to_do() {
    isolated(|| meet_all(|_, _| Plugin::install()));
}
