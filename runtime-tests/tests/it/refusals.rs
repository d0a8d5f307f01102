//! The same obstacles for every way into the mesh: a container that can't have it doesn't start, nothing of it is left, and
//! what the runtime says to its user names the obstacle and what to do about it.

use std::{fs, path::PathBuf};

use mesh_netns_tests::{Namespace, Runner, Stack, isolated, wait};
use mesh_runtime_tests::{Docker, Plugin, Podman, Stage};
use serde_json::json;

const SHOP: &str = "deployment = \"shop\"\n[services.app]\n[services.db]\n";
const BILLING: &str = "deployment = \"billing\"\n[services.api]\n";

/// What network the container gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Network {
    /// None.
    Own,
    /// The machine's.
    Host,
    /// One that has addresses of the mesh's range.
    Overlapping,
    /// A namespace in which somebody else has an interface called `mesh0`.
    Taken,
}

/// A runtime on a runner.
trait Runtime {
    /// Starts a container of a service, waits for its end, and gives what the runtime says if it doesn't start.
    fn start(&self, runner: &Runner, service: &str, network: Network) -> Result<(), String>;
    /// The networks that it can give.
    fn networks(&self) -> &[Network];
}

/// Docker, with `mesh-runc` as its runtime.
impl Runtime for Docker {
    fn start(&self, _: &Runner, service: &str, network: Network) -> Result<(), String> {
        let label = format!("mesh.service={service}");
        let network = match network {
            Network::Own => "none",
            Network::Host => "host",
            Network::Overlapping => "overlapping",
            Network::Taken => unreachable!("Docker makes every namespace itself"),
        };
        if network == "overlapping" && self.command(&["network", "inspect", network]).code != Some(0) {
            self.command(&["network", "create", "--subnet", "100.112.5.0/24", network]).done();
        }
        said(&self.run(&["--label", &label, "--network", network], "echo it runs"))
    }

    fn networks(&self) -> &[Network] {
        &[Network::Own, Network::Host, Network::Overlapping]
    }
}

/// podman, with our hook.
impl Runtime for Podman {
    fn start(&self, _: &Runner, service: &str, network: Network) -> Result<(), String> {
        let annotation = format!("mesh.service={service}");
        let network = match network {
            Network::Own => "none".to_owned(),
            Network::Host => "host".to_owned(),
            Network::Overlapping | Network::Taken => format!("ns:{}", furnished(network).display()),
        };
        said(&self.run(&["--annotation", &annotation, "--network", &network], "echo it runs"))
    }

    fn networks(&self) -> &[Network] {
        &[Network::Own, Network::Host, Network::Overlapping, Network::Taken]
    }
}

/// Our plugin, called as runtimes call it.
impl Runtime for Plugin {
    fn start(&self, runner: &Runner, service: &str, network: Network) -> Result<(), String> {
        let path = if network == Network::Host { runner.namespace().path() } else { furnished(network) };
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

    fn networks(&self) -> &[Network] {
        &[Network::Own, Network::Host, Network::Overlapping, Network::Taken]
    }
}

fn said(outcome: &mesh_netns_tests::Outcome) -> Result<(), String> {
    if outcome.stdout.contains("it runs") { Ok(()) } else { Err(outcome.stderr.clone()) }
}

/// A namespace with such a network; made once.
fn furnished(network: Network) -> PathBuf {
    let name = format!("{network:?}").to_lowercase();
    let path = PathBuf::from("/run/netns").join(&name);
    if !path.exists() {
        let namespace = Namespace::create(&name);
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
        // It stays until the test's own end.
        std::mem::forget(namespace);
    }
    path
}

/// Meets every obstacle in turn on the way to `start`.
fn meet_all<R: Runtime>(start: impl FnOnce(&Stage, &Runner) -> R) {
    let mut stage = Stage::new(&[SHOP, BILLING]);
    let mut aws = stage.world.machine("confined", Stack::Dual);
    let token = stage.coordinator.token(&["--deployment", "shop"]);
    aws.start(&[&stage.coordinator.url(false), &token, "--name", "confined"]);
    let runtime = start(&stage, &aws);
    let refused = |runner: &Runner, service: &str, network: Network, words: &[&str]| {
        let text = match runtime.start(runner, service, network) {
            Ok(()) => panic!("{service} in {network:?} has started"),
            Err(text) => text,
        };
        println!("\n{service}, {network:?}: {text}");
        for word in words {
            assert!(text.contains(word), "{service}, {network:?}: nothing of `{word}` in: {text}");
        }
    };
    refused(&aws, "shop/nobody", Network::Own, &["`shop` has no service `nobody`", "mesh-coord services"]);
    refused(&aws, "billing/api", Network::Own, &["`billing` that `confined` may host", "token"]);
    refused(&aws, "shop", Network::Own, &["names no service", "shop/db"]);
    for network in runtime.networks() {
        match network {
            Network::Own => {}
            Network::Host => {
                refused(
                    &aws,
                    "shop/db",
                    *network,
                    &["machine's own network namespace", "a network namespace of its own"],
                );
            }
            Network::Overlapping => {
                refused(
                    &aws,
                    "shop/db",
                    *network,
                    &["100.112.5.", "addresses of the mesh's range", "without that network"],
                );
            }
            Network::Taken => refused(&aws, "shop/db", *network, &["already an interface mesh0", "remove it first"]),
        }
    }
    assert!(stage.instances().is_empty(), "no partial effect: {:?}", stage.instances());
    stage.coordinator.stop();
    refused(&aws, "shop/db", Network::Own, &["the coordinator is away", "try again when it is back"]);
    stage.coordinator.start();
    aws.wait_connected();
    assert!(runtime.start(&aws, "shop/db", Network::Own).is_ok(), "with all out of the way it starts");
    wait::until_true("the end of its instance", || stage.instances().is_empty());
    aws.kill();
    refused(&aws, "shop/db", Network::Own, &["no agent is running", "mesh-node join --state /run/confined"]);
    let remembered = fs::read_to_string(aws.state().join("containers.json")).expect("what the agent remembers");
    assert!(remembered.contains("\"containers\":{}"), "{remembered}");
}

#[test]
fn docker_says_what_stands_in_the_way_and_what_to_do() {
    isolated(|| meet_all(|stage, runner| Docker::start(&stage.lab, runner)));
}

#[test]
fn podman_says_what_stands_in_the_way_and_what_to_do() {
    isolated(|| meet_all(|stage, runner| Podman::with_hooks(&stage.lab, runner)));
}

#[test]
fn cni_says_what_stands_in_the_way_and_what_to_do() {
    isolated(|| meet_all(|_, _| Plugin::install()));
}
