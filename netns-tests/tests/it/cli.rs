//! The commands as an interface: exit codes, data on stdout, the shapes of JSON version 1.

use std::{fs, os::unix::fs::PermissionsExt};

use mesh_netns_tests::{Stack, World, isolated, packet::opens, run, traffic::Answer, wait};
use serde_json::Value;

use crate::common::{BILLING, SHOP, declare, is_refused};

#[test]
fn run_ends_as_its_command_does() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let mut aws = world.runner(&coordinator, "aws", Stack::Dual);
        aws.run("shop/app", &["true"]).done();
        aws.run("shop/app", &["sh", "-c", "exit 7"]).expect_code(7);
        aws.run("shop/app", &["sh", "-c", "kill -TERM $$"]).expect_code(128 + 15);
        let outcome = aws.run("shop/app", &["/run/no-such-program"]).expect_code(127);
        assert!(outcome.stderr.contains("/run/no-such-program"), "{}", outcome.stderr);
        aws.run("shop/app", &["/etc/hosts"]).expect_code(126);
        aws.run("shop/nothing", &["true"]).expect_code(125);
        aws.command(&["run", "shop/app"]).expect_code(2);
        // The command's own streams.
        let outcome = aws.run("shop/app", &["sh", "-c", "echo out; echo err >&2"]).done();
        assert_eq!((outcome.stdout.as_str(), outcome.stderr.trim_end()), ("out\n", "err"));
        // A namespace with only the mesh, which ends with the command.
        let links = aws.run("shop/app", &["ip", "-o", "link"]).done().stdout;
        assert!(links.lines().count() == 2 && links.contains("mesh0") && links.contains("lo:"), "{links}");
        let count = || coordinator.json(&["instances"])["instances"].as_array().map(Vec::len);
        wait::until_true("the instances to be gone", || count() == Some(0));
        aws.kill();
        aws.run("shop/app", &["true"]).expect_code(125);
    });
}

#[test]
fn a_command_does_not_get_the_secrets_of_its_caller() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let mut command = aws.prepare(&["run", "shop/app", "--", "env"]);
        let token = coordinator.token(&["--any"]);
        command.env("MESH_TOKEN", &token).env("MESH_ADMIN_TOKEN", "meshadmin1.secret").env("THEIRS", "stays");
        let environment = run(command).done().stdout;
        assert!(!environment.contains(&token) && !environment.contains("meshadmin1."), "{environment}");
        assert!(environment.contains("THEIRS=stays\n"), "{environment}");
    });
}

#[test]
fn netcheck_says_what_is_known_and_what_is_not() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let check = aws.json(&["netcheck"]);
        assert_eq!((&check["mapping"], &check["relays"]), (&"unknown".into(), &Value::Array(vec![])), "{check:#}");
        assert!(check["addresses"].as_array().is_some_and(|addresses| !addresses.is_empty()), "{check:#}");
        let table = aws.command(&["netcheck"]).done().stdout;
        assert!(table.contains("this runner knows no relay"), "{table}");
    });
}

#[test]
fn ping_says_how_a_runner_is_reached_and_why_it_is_not() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let mut gcp = world.runner(&coordinator, "gcp", Stack::Dual);
        let _instances = (aws.attach("shop/app"), gcp.attach("shop/db"));
        for target in ["gcp", "shop/db"] {
            let reply = aws.json(&["ping", target, "-c", "1"]);
            assert_eq!((&reply["runner"], &reply["path"]), (&"gcp".into(), &"direct".into()), "{reply:#}");
            assert!(reply["rtt_ms"].is_number() && reply["relay"].is_null() && reply["seq"] == 1, "{reply:#}");
        }
        let two = aws.command(&["ping", "gcp", "-c", "2"]).done().stdout;
        assert!(two.lines().count() == 2 && two.contains("direct at "), "{two}");
        aws.command(&["ping", "aws", "-c", "1"]).refused(&["is this runner"]);
        aws.command(&["ping", "ovh", "-c", "1"]).refused(&["knows no runner `ovh`", "gcp"]);
        aws.command(&["ping", "shop/nothing", "-c", "1"]).refused(&["shop/nothing"]);
        aws.command(&["ping", "shop/app", "-c", "1"]).refused(&["on this runner only"]);
        gcp.kill();
        aws.command(&["ping", "gcp", "-c", "1"]).refused(&["gcp doesn't answer within 5 s"]);
    });
}

#[test]
fn a_name_reorders_no_row_of_either_program() {
    // The first control shows the rest of its line from right to left, the second does so until the end of the paragraph.
    const NAME: &str = "d\u{202e}b\u{2067}";
    const SHOWN: &str = "d\u{fffd}b\u{fffd}";
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let file = format!("deployment = \"billing\"\n[services.\"{NAME}\"]\nport = 5432\nnames = \"manual\"\n");
        let applied = coordinator.apply(&file).done();
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let service = format!("billing/{NAME}");
        let (app, db) = (aws.attach("shop/app"), aws.attach(&service));
        is_refused(&app, db.service_address, 4711);
        wait::until_true("the refusal", || aws.json(&["denied"])["denied"][0]["port"] == 4711);
        let shown = [
            ("apply", applied),
            ("services", coordinator.command(&["services"]).done()),
            ("instances", coordinator.command(&["instances"]).done()),
            ("audit", coordinator.command(&["audit"]).done()),
            ("status", aws.command(&["status"]).done()),
            ("denied", aws.command(&["denied"]).done()),
            ("why", aws.command(&["why", "shop/app", &service, "5432"]).expect_code(1)),
            ("an error", aws.command(&["why", "shop/app", &format!("{service}x"), "5432"]).expect_code(1)),
            ("drain", aws.command(&["drain", &db.id]).done()),
        ];
        for (command, outcome) in shown {
            let text = format!("{}{}", outcome.stdout, outcome.stderr);
            assert!(!text.contains(['\u{202e}', '\u{2067}']), "{command}: {text:?}");
            assert!(text.contains(SHOWN) || command == "audit", "{command}: {text:?}");
        }
        assert_eq!(aws.json(&["denied"])["denied"][0]["callee"], service.as_str(), "programs get the name itself");
    });
}

#[test]
fn why_and_denied_explain_a_refusal() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP, BILLING]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let ovh = world.runner(&coordinator, "ovh", Stack::Dual);
        let (app, db) = (aws.attach("shop/app"), ovh.attach("shop/db"));
        let api = ovh.attach("billing/api");
        let _server = db.serve(5432, Answer::Echo);

        let allow = aws.command(&["why", "shop/app", "shop/db", "5432", "--json"]).done().json();
        assert_eq!((&allow["version"], &allow["verdict"]), (&1.into(), &"allow".into()), "{allow:#}");
        let steps = allow["steps"].as_array().expect("an array");
        for step in ["names", "rule", "runner", "path", "verdict"] {
            let found = steps.iter().find(|s| s["step"] == step).unwrap_or_else(|| panic!("no step {step}: {allow:#}"));
            assert!(found["ok"] == true && found["detail"].is_string(), "{allow:#}");
        }
        let deny = aws.command(&["why", "shop/app", "billing/api", "80", "--json"]).expect_code(1).json();
        assert_eq!(deny["verdict"], "deny", "{deny:#}");
        // The command that would add the rule, ready to be typed.
        let command = "mesh-coord trust shop --app billing";
        assert!(deny.to_string().contains(command), "{deny:#}");
        let text = aws.command(&["why", "shop/app", "billing/api", "80"]).expect_code(1);
        assert!(text.stdout.contains(command), "{}{}", text.stdout, text.stderr);
        aws.command(&["why", "shop/app", "billing/nothing", "80"]).expect_code(1);
        aws.command(&["why", "shop/app", "billing/api", "0"]).expect_code(2);
        aws.command(&["why", "shop/app", "billing/api"]).expect_code(2);

        let mine = app.capture();
        for _ in 0..3 {
            is_refused(&app, api.service_address, 4711);
        }
        let refused = mine.wait_refused(|_| true, |p| p.icmp() == Some((3, 13)));
        assert_eq!(mine.sent_once(opens), 3, "{}", mine.text());
        let denied = aws.json(&["denied"]);
        assert_eq!(denied["version"], 1, "{denied:#}");
        let entries = denied["denied"].as_array().unwrap_or_else(|| panic!("no array: {denied:#}"));
        let entry = entries.iter().find(|e| e["port"] == 4711).unwrap_or_else(|| panic!("not there: {denied:#}"));
        assert_eq!(entry["count"], refused, "{denied:#}");
        assert_eq!(entry["caller"], "shop/app", "{denied:#}");
        assert!(entry["reason"].is_string() && entry.get("callee").is_some(), "{denied:#}");
    });
}

#[test]
fn json_has_the_promised_shape() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let ovh = world.runner(&coordinator, "ovh", Stack::Dual);
        let (app, db) = (aws.attach("shop/app"), ovh.attach("shop/db"));
        let has = |value: &Value, fields: &[&str]| {
            for field in fields {
                assert!(value.get(field).is_some(), "no {field}: {value:#}");
            }
        };
        let nodes = coordinator.json(&["nodes"]);
        assert_eq!(nodes["version"], 1);
        for node in nodes["nodes"].as_array().expect("an array") {
            has(node, &["id", "name", "provider", "state", "endpoints", "revision", "last_seen_seconds"]);
            assert!(
                node["state"] == "online" && node["endpoints"].as_array().is_some_and(|e| !e.is_empty()),
                "{node:#}"
            );
        }
        let services = coordinator.json(&["services"]);
        let entry =
            services["services"].as_array().expect("an array").iter().find(|s| s["service"] == "db").expect("db");
        has(entry, &["deployment", "service", "team", "address", "public_port", "instances"]);
        let instance = &entry["instances"][0];
        has(instance, &["id", "address", "runner", "state"]);
        assert_eq!(instance["id"], db.id.as_str());
        assert_eq!(instance["address"], db.address.to_string());
        assert_eq!((&instance["runner"], &instance["state"]), (&"ovh".into(), &"live".into()));

        wait::until_true("a path", || {
            aws.peer("ovh").is_some_and(|peer| {
                peer["path"] == "direct" || {
                    let _ = app.connect(db.service_address, 1);
                    false
                }
            })
        });
        let status = aws.json(&["status"]);
        has(&status, &["version", "runner", "map", "peers", "instances", "drops"]);
        has(&status["runner"], &["id", "name"]);
        has(&status["map"], &["revision", "age_seconds", "connected"]);
        let peer = &status["peers"][0];
        has(peer, &["name", "provider", "path", "endpoint", "handshake_age_seconds", "rx_bytes", "tx_bytes"]);
        assert_eq!((&peer["name"], &peer["provider"]), (&"ovh".into(), &"ovh".into()));

        // Every command with output has both forms, and people get tables.
        for command in [&["nodes"][..], &["services"], &["deployments"], &["instances"], &["audit"], &["token", "list"]]
        {
            assert_eq!(coordinator.json(command)["version"], 1, "{command:?}");
            assert!(!coordinator.command(command).done().stdout.is_empty(), "{command:?}");
        }
        for command in [&["status"][..], &["denied"]] {
            assert_eq!(aws.json(command)["version"], 1, "{command:?}");
            aws.command(command).done();
        }
    });
}

#[test]
fn wrong_usage_is_2_and_says_how() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        let machine = world.machine("aws", Stack::Dual);
        for arguments in [&["fly"][..], &["apply", "--frobnicate"], &["trust"], &["serve", "--range", "x"]] {
            assert!(!coordinator.command(arguments).expect_code(2).stderr.is_empty());
        }
        for arguments in
            [&["fly"][..], &["attach", "db", "--netns", "x"], &["attach", "shop/db"], &["detach"], &["run"]]
        {
            assert!(!machine.command(arguments).expect_code(2).stderr.is_empty());
        }
        for program in ["MESH_COORD", "MESH_NODE"] {
            let program = std::env::var(program).expect("the program");
            for flag in ["--help", "--version"] {
                let mut command = std::process::Command::new(&program);
                command.arg(flag);
                assert!(run(command).done().stdout.contains("mesh-"));
            }
        }
        machine.command(&["status"]).refused(&["mesh-node join"]);
        let deep = format!("/run/{}", "d".repeat(110));
        let mut command = machine.prepare(&["status"]);
        command.env("MESH_NODE_STATE", &deep);
        run(command).refused(&["107"]);
        let mut command = coordinator.prepare(&["serve", "--data", &deep]);
        command.env("MESH_COORD_DATA", &deep);
        run(command).refused(&["107"]);
    });
}

#[test]
fn secrets_and_sockets_are_for_their_owner_only() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        // By then everything has been written that is written when it joins.
        wait::until_true("the first view to be in force", || {
            let status = aws.json(&["status"]);
            let revision = &status["map"]["revision"];
            revision.is_u64() && coordinator.node("aws").is_some_and(|node| node["revision"] == *revision)
        });
        let mode = |path: &std::path::Path| fs::metadata(path).expect("a file").permissions().mode() & 0o777;
        for directory in [coordinator.data(), aws.state()] {
            assert_eq!(mode(directory), 0o700, "{}", directory.display());
            for entry in fs::read_dir(directory).expect("a directory") {
                let path = entry.expect("an entry").path();
                assert_eq!(mode(&path) & 0o077, 0, "{}", path.display());
            }
        }
        let identity = fs::read_to_string(aws.state().join("identity.json")).expect("the identity");
        assert!(!aws.log().contains("mesh1.") && !coordinator.log().contains("mesh1."), "no token is logged");
        let identity: Value = serde_json::from_str(&identity).expect("JSON");
        for secret in
            identity.as_object().expect("a map").iter().filter(|(k, _)| k.contains("key") || k.contains("credential"))
        {
            let secret = secret.1.as_str().unwrap_or("-");
            assert!(secret.len() < 20 || !aws.log().contains(secret), "a secret is logged");
        }
    });
}

#[test]
fn administration_from_afar_with_an_admin_token() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let token = coordinator.command(&["token", "create", "--admin"]).done().stdout.trim().to_owned();
        let afar = world.machine("laptop", Stack::V6);
        let command = |token: &str, arguments: &[&str]| {
            let mut command = afar.namespace().command(&std::env::var("MESH_COORD").expect("the program"));
            command.args(arguments).args(["--url", &coordinator.url(true)]).env("MESH_ADMIN_TOKEN", token);
            run(command)
        };
        let services = command(&token, &["services", "--json"]).done().json();
        assert_eq!(services["services"].as_array().map(Vec::len), Some(2));
        command(&token, &["apply", &coordinator.file("mesh.toml", BILLING)]).done();
        coordinator.address_of("billing/api");
        command("", &["services"]).expect_code(1);
        command(&coordinator.token(&["--any"]), &["services"]).refused(&["admin token"]);
        let list = coordinator.json(&["token", "list"]);
        for entry in list["tokens"].as_array().expect("an array") {
            coordinator.command(&["token", "revoke", entry["id"].as_str().expect("an id")]).done();
        }
        command(&token, &["services"]).refused(&["revoked"]);
    });
}

#[test]
fn a_range_that_the_machine_uses_already_is_refused() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&["--range", "172.30.0.0/16"]);
        declare(&coordinator, &[SHOP]);
        let machine = world.machine("aws", Stack::Dual);
        machine.namespace().ip(&[
            "link add dummy1 type veth peer name dummy2",
            "link set dummy1 up",
            "addr add 172.30.5.1/24 dev dummy1",
        ]);
        let token = coordinator.token(&["--any"]);
        let words = ["172.30.5.", "172.30.0.0/16"];
        machine.join_in_vain(&[&coordinator.url(false), &token, "--name", "aws"]).refused(&words);
        assert!(coordinator.node("aws").is_none());
        machine.namespace().ip(&["link del dummy1"]);
        let runner = world.runner(&coordinator, "ovh", Stack::Dual);
        let db = runner.attach("shop/db");
        assert_eq!(db.service_address.octets()[..2], [172, 30]);
        // The same applies to a container: its own network would be cut off.
        let container = mesh_netns_tests::Namespace::create("container");
        container.ip(&["link add d1 type veth peer name d2", "link set d1 up", "addr add 172.30.6.1/24 dev d1"]);
        let path = container.path();
        runner.command(&["attach", "shop/app", "--netns", path.to_str().expect("ASCII")]).refused(&["172.30.6."]);
    });
}
