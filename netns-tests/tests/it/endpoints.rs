//! Where an operator says that others reach a runner: by a name, in flags and in the configuration, which may change.

use std::{fs, os::unix::fs::DirBuilderExt as _, time::Duration};

use mesh_netns_tests::{
    Coordinator, Runner, Stack, World, isolated,
    traffic::{Answer, ping},
    wait,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

use crate::common::{SHOP, declare, reaches};

/// How long a changed name may take: names are looked up every minute.
const LOOKED_UP: Duration = Duration::from_secs(90);

/// What the machines' resolver says from now on of the one name.
fn resolve(name: &str, to: &[&str]) {
    let lines: String = to.iter().map(|address| format!("{address} {name}\n")).collect();
    fs::write("/etc/hosts", format!("127.0.0.1 localhost\n{lines}")).expect("a hosts file of our own");
}

fn wait_told(coordinator: &Coordinator, name: &str, endpoints: &[&str]) {
    wait::true_within(LOOKED_UP, &format!("the coordinator to be told {endpoints:?}"), || {
        coordinator.node(name).is_some_and(|node| node["endpoints"] == json!(endpoints))
    });
}

/// What the runner warns of.
fn warnings(runner: &Runner, command: &str) -> String {
    let warnings = runner.json(&[command])["warnings"].clone();
    let of_endpoints = warnings.as_array().into_iter().flatten().filter_map(|warning| warning.as_str());
    of_endpoints.filter(|warning| warning.contains("endpoint ")).collect::<Vec<_>>().join("\n")
}

fn configure(runner: &Runner, text: &str) {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(runner.state()).expect("a directory");
    fs::write(runner.state().join("config.toml"), text).expect("the configuration");
}

fn reload(runner: &Runner) {
    kill(Pid::from_raw(runner.pid().cast_signed()), Signal::SIGHUP).expect("a process");
}

#[test]
fn a_name_is_followed_where_it_moves_and_connections_stand() {
    isolated(|| {
        resolve("ovh.example", &["10.0.3.2"]);
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let aws = world.runner(&coordinator, "aws", Stack::V4);
        let mut ovh = world.machine("ovh", Stack::V4);
        let (url, token) = (coordinator.url(false), coordinator.token(&["--any"]));
        ovh.start(&[&url, &token, "--name", "ovh", "--endpoint", "OVH.example:51820"]);
        wait_told(&coordinator, "ovh", &["10.0.3.2:51820"]);
        assert_eq!(warnings(&ovh, "status"), "");
        let (app, db) = (aws.attach("shop/app"), ovh.attach("shop/db"));
        let _server = db.serve(5432, Answer::Echo);
        let mut standing = app.connect(db.service_address, 5432).expect("a connection");
        ping(&mut standing, b"before").expect("an echo");

        let moved = ["addr flush dev eth0", "addr add 10.0.3.77/24 dev eth0", "route add default via 10.0.3.1"];
        ovh.namespace().ip(&moved);
        resolve("ovh.example", &["10.0.3.77"]);
        wait_told(&coordinator, "ovh", &["10.0.3.77:51820"]);
        ping(&mut standing, b"after").expect("the same connection goes on");
        // Who has never heard of the other address.
        let gcp = world.runner(&coordinator, "gcp", Stack::V4);
        let other = gcp.attach("shop/app");
        reaches(&other, db.service_address, 5432);
        assert_eq!(gcp.peer("ovh").expect("a peer")["endpoint"], "10.0.3.77:51820");

        // The next agent remembers the name, and a resolver that fails takes no address away.
        resolve("other.example", &[]);
        wait::true_within(LOOKED_UP, "the failure to be noticed", || {
            warnings(&ovh, "status").contains("keeps its last addresses")
        });
        assert_eq!(coordinator.node("ovh").expect("a node")["endpoints"], json!(["10.0.3.77:51820"]));
        assert_eq!(ovh.log().matches("keeps its last addresses").count(), 1, "{}", ovh.log());
        resolve("ovh.example", &["10.0.3.77", "127.0.0.1"]);
        assert!(ovh.stop().success());
        ovh.start(&[]);
        wait_told(&coordinator, "ovh", &["10.0.3.77:51820"]);
        let refused =
            || warnings(&ovh, "status").contains("ovh.example:51820 means 127.0.0.1, which is a loopback address");
        wait::until_true("what is refused to be said", refused);
        ping(&mut standing, b"still").expect("the same connection goes on");
    });
}

#[test]
fn a_name_that_leads_nowhere_is_refused_before_the_token_is_spent() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        let mut ovh = world.machine("ovh", Stack::V4);
        let (url, token) = (coordinator.url(false), coordinator.token(&["--any"]));
        let join = |endpoints: &[&str]| {
            let flags = endpoints.iter().flat_map(|endpoint| ["--endpoint", endpoint]).collect::<Vec<_>>();
            ovh.join_in_vain(&[&[url.as_str(), &token, "--name", "ovh"], &flags[..]].concat())
        };
        resolve("ovh.example", &["100.112.0.9", "127.0.0.1"]);
        join(&["ovh.example:51820"]).refused(&["the endpoint ovh.example:51820 means", "or leave --endpoint out"]);
        join(&["auto:1", "auto:2"]).refused(&["auto:1 and auto:2", "leave one of them out"]);
        for (wrong, words) in [("ovh.example", "the port is missing"), ("fd00::3:51820", "brackets")] {
            let said = join(&[wrong]).expect_code(2).stderr;
            assert!(said.contains(words) && said.contains("auto:51820"), "{said}");
        }
        // One that can't be resolved today may be tomorrow.
        ovh.start(&[&url, &token, "--name", "ovh", "--endpoint", "nowhere.example:51820"]);
        wait::until_true("the failure to be said", || {
            warnings(&ovh, "status").contains("nowhere.example:51820 has no address")
        });
        assert!(warnings(&ovh, "netcheck").contains("nowhere.example:51820 has no address"));
        assert_eq!(coordinator.node("ovh").expect("a node")["endpoints"], json!([]));
        resolve("nowhere.example", &["10.0.2.2"]);
        wait_told(&coordinator, "ovh", &["10.0.2.2:51820"]);
        assert_eq!(warnings(&ovh, "status"), "");
    });
}

#[test]
fn the_configuration_is_followed_at_a_reload() {
    isolated(|| {
        resolve("ovh.example", &["10.0.2.2"]);
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        let mut ovh = world.machine("ovh", Stack::V4);
        configure(&ovh, "[agent]\nendpoints = [\"10.0.2.2:4000\"]\n");
        let (url, token) = (coordinator.url(false), coordinator.token(&["--any"]));
        ovh.start(&[&url, &token, "--name", "ovh"]);
        wait_told(&coordinator, "ovh", &["10.0.2.2:4000"]);
        configure(&ovh, "[agent]\nendpoints = [\"ovh.example:4001\"]\n");
        reload(&ovh);
        wait_told(&coordinator, "ovh", &["10.0.2.2:4001"]);
        // Without any, those of the interfaces, and the one that the coordinator sees.
        configure(&ovh, "");
        reload(&ovh);
        wait_told(&coordinator, "ovh", &["10.0.2.2:51820"]);
        ovh.wait_connected();
        configure(&ovh, "[agent]\nendpoints = [\"auto:1\", \"auto:2\"]\n");
        reload(&ovh);
        wait::until_true("the mistake to be said", || ovh.log().contains("auto:1 and auto:2"));
        assert_eq!(coordinator.node("ovh").expect("a node")["endpoints"], json!(["10.0.2.2:51820"]));
        assert!(!ovh.log().contains("no coordinator"), "{}", ovh.log());
    });
}
