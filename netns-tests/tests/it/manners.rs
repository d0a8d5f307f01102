//! An operator's daily work: joining, signals, ends, help.

use std::{
    fs,
    net::{Ipv6Addr, UdpSocket},
};

use mesh_netns_tests::{Outcome, Runner, Stack, World, isolated, run, wait};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::common::{SHOP, declare, reaches};

#[test]
fn a_port_that_is_taken_costs_no_token() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        let mut aws = world.machine("aws", Stack::Dual);
        let other = aws.namespace().enter(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 51820))).expect("the port");
        let (url, token) = (coordinator.url(false), coordinator.token(&["--any"]));
        aws.join_in_vain(&[&url, &token, "--name", "aws"]).refused(&["51820", "--listen"]);
        assert!(coordinator.node("aws").is_none());
        drop(other);
        aws.start(&[&url, &token, "--name", "aws"]);
        wait::until_true("what comes next to be said", || aws.log().contains("mesh-node run DEPLOYMENT/SERVICE"));
    });
}

/// `token create` prints the token on stdout, and the line for the other machine on stderr.
fn token_of(outcome: &Outcome, prefix: &str) -> String {
    let token = outcome.stdout.trim().to_owned();
    assert!(token.starts_with(prefix) && !token.contains(char::is_whitespace), "{token}");
    token
}

#[test]
fn a_token_that_says_where_the_coordinator_is_is_all_that_a_join_needs() {
    isolated(|| {
        let world = World::new();
        // Nothing answers at the first URL.
        let urls = "https://10.0.1.77:7443,https://10.0.1.2:7443";
        let coordinator = world.coordinator(&["--advertise", urls]);
        assert_eq!(coordinator.url(false), "https://10.0.1.2:7443");
        let made = coordinator.command(&["token", "create", "--any", "--uses", "9"]).done();
        let token = token_of(&made, "mesh2.");
        assert!(made.stderr.contains(&format!("mesh-node up {token}")), "{}", made.stderr);

        let mut aws = world.machine("aws", Stack::Dual);
        aws.start(&[&token, "--name", "aws"]);
        let identity = fs::read_to_string(aws.state().join("identity.json")).expect("the identity");
        assert!(identity.contains("10.0.1.77") && identity.contains("10.0.1.2"), "{identity}");
        aws.stop();
        aws.start(&[]);
        // The old form still works, with either token.
        let mut ovh = world.machine("ovh", Stack::Dual);
        ovh.start(&["https://10.0.1.2:7443", &token, "--name", "ovh"]);
        let other = world.machine("other", Stack::Dual);
        other.join_in_vain(&[&token[..token.len() - 3], "--name", "other"]).refused(&["damaged"]);
        let done = other.command(&["join", "--enrol-only", &token, "--name", "other"]).done();
        assert!(done.stderr.contains("runner of the mesh now"), "{}", done.stderr);

        let admin = token_of(&coordinator.command(&["token", "create", "--admin"]).done(), "meshadmin2.");
        let afar = |variables: &[(&str, &str)]| {
            let mut command = other.namespace().command(&std::env::var("MESH_COORD").expect("the program"));
            command.args(["nodes", "--json"]).env_remove("MESH_COORD_DATA").envs(variables.iter().copied());
            run(command)
        };
        assert_eq!(afar(&[("MESH_ADMIN_TOKEN", &admin)]).done().json()["version"], 1);
        afar(&[("MESH_ADMIN_TOKEN", &admin), ("MESH_COORD_URL", "https://10.0.1.2:7443")]).done();
        afar(&[("MESH_COORD_URL", "https://10.0.1.2:7443")]).refused(&["MESH_ADMIN_TOKEN"]);
    });
}

#[test]
fn the_line_for_the_other_machine_works_where_no_url_is_advertised() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&["--listen", "10.0.1.2:7443"]);
        let made = coordinator.command(&["token", "create", "--any"]).done();
        let token = token_of(&made, "mesh1.");
        assert!(made.stderr.contains(&format!("mesh-node up https://10.0.1.2:7443 {token}")), "{}", made.stderr);
        let aws = world.machine("aws", Stack::Dual);
        aws.join_in_vain(&[&token]).refused(&["doesn't say where the coordinator is", "https://HOST:7443"]);
    });
}

fn hang_up(runner: &Runner) {
    kill(Pid::from_raw(runner.pid().cast_signed()), Signal::SIGHUP).expect("a child");
}

#[test]
fn a_hangup_rereads_the_configuration_and_ends_nothing() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let (app, db) = (aws.attach("shop/app"), aws.attach("shop/db"));
        let _server = db.serve(5432, mesh_netns_tests::traffic::Answer::Echo);
        let configuration = aws.state().join("config.toml");
        for (text, words) in [
            ("[containers]\nwatch = []\nfail = \"open\"\n", "containers.fail, containers.watch"),
            ("[containers]\nwatsch = []\n", "nothing has changed"),
        ] {
            fs::write(&configuration, text).expect("the configuration");
            hang_up(&aws);
            wait::until_true("the agent to read it", || aws.log().contains(words));
        }
        reaches(&app, db.service_address, 5432);
        assert!(aws.command(&["status", "--json"]).is_connected());
    });
}

#[test]
fn an_agent_that_ends_or_leaves_leaves_no_line_that_frightens() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        let mut aws = world.runner(&coordinator, "aws", Stack::Dual);
        assert!(aws.stop().success());
        wait::until_true("the coordinator to notice", || coordinator.log().contains("stream ended"));
        assert!(!coordinator.log().contains("close_notify"), "{}", coordinator.log());
        aws.start(&[]);
        aws.command(&["leave"]).done();
        wait::until_true("the agent to have left", || aws.log().contains("has left the mesh"));
        assert!(!aws.log().contains("WARN"), "{}", aws.log());
        // A first join that fails says once what is wrong.
        let (other, token) = (world.machine("other", Stack::Dual), coordinator.token(&["--any"]));
        let refused = other.join_in_vain(&["https://10.0.1.2:1", &token]).refused(&["10.0.1.2:1"]);
        assert_eq!(refused.stderr.matches("10.0.1.2:1").count(), 1, "{}", refused.stderr);
    });
}

#[test]
fn a_removed_runner_is_refused_and_not_away() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let state = || aws.json(&["status"])["map"]["state"].clone();
        assert_eq!(state(), "connected");
        assert!(
            aws.command(&["status"]).done().stdout.contains("mesh-node run"),
            "a fresh runner shows what comes next"
        );
        coordinator.command(&["node", "remove", "aws"]).done();
        wait::until_true("the runner to be refused", || state() == "refused");
        let text = aws.command(&["status"]).done().stdout;
        assert!(text.contains("refused") && !text.contains("away"), "{text}");
    });
}

#[test]
fn both_programs_explain_themselves() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        let machine = world.machine("aws", Stack::Dual);
        let help = machine.command(&["help"]).done().stdout;
        assert!(help.contains("attach") && !help.contains("hook"), "{help}");
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
        assert!(machine.command(&["--version"]).done().stdout.contains("protocol"));
        assert!(coordinator.command(&["--version"]).done().stdout.contains("protocol"));
        for shell in ["bash", "zsh", "fish"] {
            assert!(machine.command(&["completions", shell]).done().stdout.contains("mesh-node"));
            assert!(coordinator.command(&["completions", shell]).done().stdout.contains("mesh-coord"));
        }
        fs::create_dir("/run/man").expect("a directory");
        machine.command(&["man", "/run/man"]).done();
        coordinator.command(&["man", "/run/man"]).done();
        for page in ["mesh-node.1", "mesh-node-join.1", "mesh-coord.1", "mesh-coord-token-create.1"] {
            assert!(fs::read_to_string(format!("/run/man/{page}")).is_ok_and(|text| text.contains(".SH")), "{page}");
        }
        // An invalid number or address is explained with an example.
        for (arguments, words) in [
            (&["attach", "shop/db", "--pid", "abc"][..], "4711"),
            (&["join", "--listen", ":7443"], "51820"),
            (&["join", "--endpoint", "7443"], "203.0.113.7:51820"),
        ] {
            let outcome = machine.command(arguments).expect_code(2);
            assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
        }
        let outcome = coordinator.command(&["serve", "--listen", "7443"]).expect_code(2);
        assert!(outcome.stderr.contains("[::]:7443"), "{}", outcome.stderr);
        let data = coordinator.data().to_str().expect("ASCII").to_owned();
        let mut command = coordinator.prepare(&["--data", &data, "nodes", "--json"]);
        command.env_remove("MESH_COORD_DATA");
        assert_eq!(run(command).done().json()["version"], 1);
    });
}
