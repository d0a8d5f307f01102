//! Join tokens: each invalid one has its own error.

use std::{
    fs::File,
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    process::Stdio,
    thread,
};

use mesh_netns_tests::{Coordinator, Runner, Stack, World, isolated, run, wait};

use crate::common::{BILLING, SHOP, declare};

/// The identifiers of the valid tokens, newest last.
fn ids(coordinator: &Coordinator) -> Vec<String> {
    let list = coordinator.json(&["token", "list"]);
    let tokens = list["tokens"].as_array().unwrap_or_else(|| panic!("no tokens in {list:#}"));
    tokens.iter().map(|token| token["id"].as_str().expect("an id").to_owned()).collect()
}

/// A join that fails and enrols no runner.
#[track_caller]
fn is_refused(coordinator: &Coordinator, machine: &Runner, url: &str, token: &str, words: &[&str]) {
    let before = coordinator.json(&["nodes"]);
    let outcome = machine.join_in_vain(&[url, token, "--name", "aws", "--provider", "aws"]).refused(words);
    let secret = &token[token.len().saturating_sub(20)..];
    assert!(secret.is_empty() || !outcome.stderr.contains(secret), "the token's secret is shown:\n{}", outcome.stderr);
    assert_eq!(
        coordinator.json(&["nodes"])["nodes"].as_array().map(Vec::len),
        before["nodes"].as_array().map(Vec::len)
    );
}

#[test]
fn expired_used_up_revoked_or_unknown() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        let (machine, url) = (world.machine("aws", Stack::Dual), coordinator.url(false));

        let expired = coordinator.token(&["--any", "--ttl", "1s"]);
        wait::until_true("the token to expire", || {
            coordinator.command(&["token", "list"]).done().stdout.contains("expired")
        });
        is_refused(&coordinator, &machine, &url, &expired, &["expired"]);

        let revoked = coordinator.token(&["--any"]);
        let id = ids(&coordinator).pop().expect("a token");
        coordinator.command(&["token", "revoke", &id]).done();
        is_refused(&coordinator, &machine, &url, &revoked, &["revoked"]);
        coordinator.command(&["token", "revoke", "t-4711"]).refused(&["t-4711"]);

        let used = coordinator.token(&["--any", "--uses", "1"]);
        let mut first = world.machine("first", Stack::Dual);
        first.start(&[&url, &used, "--name", "first", "--provider", "aws"]);
        is_refused(&coordinator, &machine, &url, &used, &["used"]);

        let twice = coordinator.token(&["--any", "--uses", "2"]);
        for name in ["second", "third"] {
            world.machine(name, Stack::Dual).start(&[&url, &twice, "--name", name, "--provider", "aws"]);
        }
        is_refused(&coordinator, &machine, &url, &twice, &["used"]);

        // One bit of the secret is wrong: the error doesn't name the similar token.
        let mut wrong = coordinator.token(&["--any"]);
        let last = if wrong.ends_with('A') { "E" } else { "A" };
        let at = wrong.len() - 6;
        wrong.replace_range(at..=at, last);
        is_refused(&coordinator, &machine, &url, &wrong, &[]);
    });
}

#[test]
fn truncated_or_of_another_kind_or_none_at_all() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        let (machine, url) = (world.machine("aws", Stack::Dual), coordinator.url(false));
        let token = coordinator.token(&["--any"]);
        is_refused(&coordinator, &machine, &url, &token[..token.len() - 5], &["cut short"]);
        is_refused(&coordinator, &machine, &url, &token[..8], &["cut short"]);
        is_refused(&coordinator, &machine, &url, "mesh1.", &["cut short"]);
        is_refused(&coordinator, &machine, &url, "hunter2", &["mesh1."]);
        let admin = coordinator.command(&["token", "create", "--admin"]).done().stdout;
        is_refused(&coordinator, &machine, &url, admin.trim(), &["mesh1."]);
        machine.join_in_vain(&[&url]).refused(&["token"]);
        // No answer, or no coordinator.
        machine.join_in_vain(&["https://10.0.1.2:1", &token, "--name", "a"]).refused(&["10.0.1.2:1"]);
        let usage = machine.join_in_vain(&["ftp://10.0.1.2", &token, "--name", "a"]).expect_code(2);
        assert!(usage.stderr.contains("https"), "{}", usage.stderr);
        machine.join_in_vain(&[]).refused(&["URL"]);
    });
}

#[test]
fn for_another_coordinator() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        let other = world.coordinator_named("other", &[]);
        let machine = world.machine("aws", Stack::Dual);
        let token = other.token(&["--any"]);
        is_refused(&coordinator, &machine, &coordinator.url(false), &token, &["another coordinator"]);
        assert!(other.node("aws").is_none());
    });
}

#[test]
fn a_scope_bounds_what_the_runner_may_ever_host() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP, BILLING, "deployment = \"labs\"\nteam = \"research\"\n[services.x]\n"]);
        let url = coordinator.url(false);
        let mut one = world.machine("one", Stack::Dual);
        one.start(&[&url, &coordinator.token(&["--deployment", "shop"]), "--name", "one", "--provider", "aws"]);
        let db = one.attach("shop/db");
        for service in ["billing/api", "labs/x"] {
            let outcome = one.command(&["run", service, "--", "true"]).expect_code(125);
            assert!(outcome.stderr.contains("scope") || outcome.stderr.contains("token"), "{}", outcome.stderr);
        }
        let mut two = world.machine("two", Stack::Dual);
        two.start(&[&url, &coordinator.token(&["--team", "research"]), "--name", "two", "--provider", "aws"]);
        let _x = two.attach("labs/x");
        two.command(&["run", "shop/db", "--", "true"]).expect_code(125);

        // By identifier and not by name: a deployment that is deleted and declared again is another one.
        one.command(&["detach", &db.id]).done();
        coordinator.command(&["delete", "shop", "--force"]).done();
        declare(&coordinator, &[SHOP]);
        one.command(&["run", "shop/db", "--", "true"]).expect_code(125);

        coordinator.command(&["token", "create", "--deployment", "nowhere"]).refused(&["nowhere"]);
        coordinator.command(&["token", "create"]).expect_code(2);
        coordinator.command(&["token", "create", "--any", "--ttl", "soon"]).expect_code(2);
    });
}

/// A proxy between an agent and the coordinator that cuts the connection at the moment in which the coordinator begins
/// to answer an enrolment that it has recorded.
fn lose_the_answer(coordinator: &Coordinator, listener: &TcpListener) {
    for client in listener.incoming() {
        let mut client = client.expect("a connection");
        let mut server =
            coordinator.namespace().enter(|| TcpStream::connect("10.0.1.2:7443")).expect("the coordinator");
        let (mut from, mut to) = (client.try_clone().expect("a copy"), server.try_clone().expect("a copy"));
        thread::spawn(move || std::io::copy(&mut from, &mut to).and_then(|_| to.shutdown(Shutdown::Write)));
        let mut buffer = [0; 4096];
        while let Ok(got @ 1..) = server.read(&mut buffer) {
            if coordinator.node("aws").is_some() {
                let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
                return;
            }
            client.write_all(&buffer[..got]).expect("the agent listens");
        }
        let _ = client.shutdown(Shutdown::Both);
    }
}

#[test]
fn a_lost_answer_and_a_second_try() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        let mut machine = world.machine("aws", Stack::Dual);
        let token = coordinator.token(&["--any", "--uses", "1"]);
        let listener = machine.namespace().enter(|| TcpListener::bind("127.0.0.1:7443")).expect("a port");
        let arguments = ["--name", "aws", "--provider", "aws"];
        machine.begin(&[&["https://127.0.0.1:7443", &token], &arguments[..]].concat());
        lose_the_answer(&coordinator, &listener);
        drop(listener);
        machine.kill();
        let first = coordinator.node("aws").expect("recorded");
        // The token is used up, but the same key gets the same runner.
        machine.start(&[&[coordinator.url(false).as_str(), &token], &arguments[..]].concat());
        let nodes = coordinator.json(&["nodes"]);
        assert_eq!(nodes["nodes"].as_array().map(Vec::len), Some(1), "{nodes:#}");
        assert_eq!(nodes["nodes"][0]["id"], first["id"]);
        // Once the runner has its identity, it needs no token.
        machine.stop();
        machine.start(&[]);
        assert_eq!(coordinator.json(&["nodes"])["nodes"][0]["id"], first["id"]);
    });
}

#[test]
fn a_taken_name_and_replace() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let mut old = world.runner(&coordinator, "aws", Stack::Dual);
        let _db = old.attach("shop/db");
        let (url, token) = (coordinator.url(false), coordinator.token(&["--any"]));
        let mut new = world.machine("new", Stack::Dual);
        let arguments = [url.as_str(), &token, "--name", "aws", "--provider", "ovh"];
        new.join_in_vain(&arguments).refused(&["aws", "--replace"]);
        assert_eq!(coordinator.node("aws").expect("the old one")["provider"], "aws");
        // The refusal has used up nothing.
        new.start(&[&arguments[..], &["--replace"]].concat());
        let is_new =
            |node: &serde_json::Value| node["name"] == "aws" && node["provider"] == "ovh" && node["state"] == "online";
        let nodes = coordinator.json(&["nodes"]);
        let live: Vec<_> =
            nodes["nodes"].as_array().expect("an array").iter().filter(|n| n["state"] != "removed").collect();
        assert!(live.len() == 1 && is_new(live[0]), "{nodes:#}");
        // The old runner is removed with its instances.
        wait::until_true("the old runner's instance to be gone", || {
            coordinator.json(&["instances"])["instances"].as_array().is_some_and(Vec::is_empty)
        });
        old.kill();
        old.begin(&[]);
        wait::until_true("the old one to be notified", || old.log().contains("removed"));
    });
}

#[test]
fn a_token_by_file_by_standard_input_and_by_variable() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        let url = coordinator.url(false);
        let file = coordinator.file("token", &format!("{}\n", coordinator.token(&["--any"])));
        let mut one = world.machine("one", Stack::Dual);
        one.start(&[&url, &format!("@{file}"), "--name", "one"]);

        let two = world.machine("two", Stack::Dual);
        let mut command = two.prepare(&["join", &url, "-", "--name", "two"]);
        let mut child = command.stdin(Stdio::from(File::open(&file).expect("the file"))).spawn().expect("a process");
        // The token was read, and refused because it was used before.
        let status = wait::until("the join to end", || child.try_wait().expect("a child"));
        assert_eq!(status.code(), Some(1));

        let mut command = two.prepare(&["join", &url, "--name", "two"]);
        command.env("MESH_TOKEN", "mesh1.short");
        run(command).refused(&["cut short"]);
        two.join_in_vain(&[&url, "@/run/nothing", "--name", "two"]).refused(&["/run/nothing"]);
    });
}
