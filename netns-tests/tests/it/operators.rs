//! The operators' commands: nodes are removed, instances drained, files applied. The audit shows who did it.

use std::process::Stdio;

use mesh_netns_tests::{Coordinator, Instance, Outcome, Stack, World, isolated, run, wait};
use serde_json::Value;

use crate::{
    common::{BILLING, SHOP, declare},
    replicas::{PORT, crowd, serve, shop, spread},
};

#[test]
fn a_node_with_live_instances_is_removed_by_force_only() {
    isolated(|| {
        let (_world, coordinator, [aws, ovh]) = shop(["aws", "ovh"]);
        let (app, db) = (aws.attach("shop/app"), ovh.attach("shop/db"));
        let _servers = serve([&db]);
        let refused = coordinator.command(&["node", "remove", "ovh"]).refused(&["--force", &db.id, "shop/db"]);
        assert!(refused.stdout.is_empty(), "{}", refused.stdout);
        assert_eq!(coordinator.node("ovh").expect("it is listed")["state"], "online");
        crowd(&app, &db, 1).assert_all_answer();

        let removed = coordinator.command(&["node", "remove", "ovh", "--force"]).done();
        assert!(removed.stdout.contains("1 instance ended"), "{}", removed.stdout);
        wait::until_true("the runner to be refused", || ovh.json(&["status"])["map"]["state"] == "refused");
        wait::until_true("nothing to lead there", || app.connect(db.service_address, PORT).is_err());
        // A node without instances needs no `--force`.
        aws.command(&["detach", &app.id]).done();
        coordinator.command(&["node", "remove", "aws"]).done();
    });
}

/// Waits until the callers' runners send every new connection to `to`.
fn wait_all_go_to(callers: [&Instance; 2], to: &Instance) {
    for caller in callers {
        wait::until_true("new connections to leave the drained instances out", || {
            crowd(caller, to, 4).spread() == spread([(to, 4)])
        });
    }
}

/// The states of the instances of `shop/db`, by their identifiers.
fn state_of(coordinator: &Coordinator, instance: &Instance) -> Value {
    let all = coordinator.json(&["instances"]);
    let found = all["instances"].as_array().expect("an array").iter().find(|found| found["id"] == *instance.id);
    found.unwrap_or_else(|| panic!("no {} in {all:#}", instance.id))["state"].clone()
}

#[test]
fn an_instance_that_an_operator_drains_keeps_what_stands_and_gets_nothing_new() {
    isolated(|| {
        let (_world, coordinator, [mut aws, ovh]) = shop(["aws", "ovh"]);
        let [near, afar] = [&aws, &ovh].map(|runner| runner.attach("shop/app"));
        let [a, b] = [aws.attach("shop/db"), aws.attach("shop/db")];
        let servers = serve([&a, &b]);
        let mut standing = [crowd(&near, &a, 20), crowd(&afar, &a, 20)];
        let said = coordinator.command(&["drain", &a.id]).done().stdout;
        assert!(said.contains(&a.id) && said.contains("those that stand stay"), "{said}");
        wait_all_go_to([&near, &afar], &b);
        assert_eq!((state_of(&coordinator, &a), state_of(&coordinator, &b)), ("draining".into(), "live".into()));
        // It survives a restart of the agent, which reads the instance from its own files.
        aws.kill();
        aws.start(&[]);
        assert_eq!(state_of(&coordinator, &a), "draining");
        wait_all_go_to([&near, &afar], &b);
        standing.iter_mut().for_each(mesh_netns_tests::Crowd::assert_all_answer);
        assert_eq!(servers.each_ref().map(|server| server.resets()), [0, 0]);

        coordinator.command(&["undrain", &a.id]).done();
        wait::until_true("it to be live again", || state_of(&coordinator, &a) == "live");
        wait::until_true("new connections to come to it again", || {
            crowd(&near, &a, 20).spread().contains_key(&a.id) && crowd(&afar, &a, 20).spread().contains_key(&a.id)
        });
        coordinator.command(&["drain", "i-4711"]).refused(&["i-4711"]);
    });
}

#[test]
fn a_node_that_is_drained_is_left_out_with_all_that_it_gets_later() {
    isolated(|| {
        let (_world, coordinator, [mut aws, ovh]) = shop(["aws", "ovh"]);
        let [near, afar] = [&aws, &ovh].map(|runner| runner.attach("shop/app"));
        let [a, b] = [aws.attach("shop/db"), ovh.attach("shop/db")];
        let _servers = serve([&a, &b]);
        let mut standing = crowd(&near, &a, 20);
        assert_eq!(standing.spread(), spread([(&a, 20)]), "the one at hand");
        coordinator.command(&["node", "drain", "aws"]).done();
        wait_all_go_to([&near, &afar], &b);
        // An instance that starts there now is drained from the beginning, also after a restart of the agent.
        aws.kill();
        aws.start(&[]);
        let later = aws.attach("shop/db");
        let _server = serve([&later]);
        assert_eq!(state_of(&coordinator, &later), "draining");
        assert_eq!(coordinator.node("aws").expect("it is listed")["drained"], true);
        wait_all_go_to([&near, &afar], &b);
        standing.assert_all_answer();

        coordinator.command(&["node", "undrain", "aws"]).done();
        for instance in [&a, &later] {
            wait::until_true("it to be live again", || state_of(&coordinator, instance) == "live");
        }
        wait::until_true("those at hand to get what is new", || {
            // More than the 20 that stand at one of them: the one with the fewest comes first.
            let spread = crowd(&near, &a, 60).spread();
            spread.contains_key(&a.id) && spread.contains_key(&later.id)
        });
        coordinator.command(&["node", "drain", "aws1"]).refused(&["aws1", "aws"]);
    });
}

/// The services of `shop`.
fn services(coordinator: &Coordinator) -> Vec<String> {
    let all = coordinator.json(&["services"]);
    let names = all["services"].as_array().expect("an array").iter().map(|s| s["service"].as_str().unwrap_or("?"));
    names.map(str::to_owned).collect()
}

/// `mesh-coord apply ARGUMENTS` with this file on standard input.
fn apply_from(coordinator: &Coordinator, file: &str, arguments: &[&str]) -> Outcome {
    let mut command = coordinator.namespace().command("sh");
    command.args(["-c", "file=$1; shift; exec \"$@\" <\"$file\"", "-", file]);
    command.arg(std::env::var("MESH_COORD").expect("the program")).arg("apply").args(arguments);
    command.env("MESH_COORD_DATA", coordinator.data()).env("NO_COLOR", "1");
    run(command)
}

#[test]
fn services_are_removed_without_a_terminal_by_prune_only() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let less = coordinator.file("mesh.toml", "deployment = \"shop\"\n[services.app]\n[services.cache]\n");
        let refused = coordinator.command(&["apply", &less]).expect_code(1);
        assert!(refused.stderr.contains("--prune") && refused.stderr.contains("shop/db"), "{}", refused.stderr);
        assert_eq!(services(&coordinator), ["app", "db"], "nothing has changed");
        // The plan is shown all the same, in JSON if requested.
        assert!(refused.stdout.contains("- db"), "{}", refused.stdout);
        let refused = coordinator.command(&["apply", &less, "--json"]).expect_code(1);
        assert_eq!(refused.json()["version"], 1);
        coordinator.command(&["apply", "--dry-run", &less]).done();
        assert_eq!(services(&coordinator), ["app", "db"]);
        coordinator.command(&["apply", "--prune", &less]).done();
        assert_eq!(services(&coordinator), ["app", "cache"]);
        // A file that only adds or changes needs no confirmation.
        coordinator
            .command(&[
                "apply",
                &coordinator.file(
                    "mesh.toml",
                    "deployment = \"shop\"\n[services.app]\n[services.cache]\nport = 1\n[services.db]\n",
                ),
            ])
            .done();
        assert_eq!(services(&coordinator), ["app", "cache", "db"]);
    });
}

#[test]
fn a_file_is_applied_from_standard_input() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        let whole = coordinator.file("mesh.toml", SHOP);
        apply_from(&coordinator, &whole, &["-"]).done();
        assert_eq!(services(&coordinator), ["app", "db"]);
        let less = coordinator.file("mesh.toml", "deployment = \"shop\"\n[services.app]\n");
        let refused = apply_from(&coordinator, &less, &["-"]).expect_code(1);
        assert!(refused.stderr.contains("--prune"), "{}", refused.stderr);
        apply_from(&coordinator, &less, &["-", "--prune"]).done();
        assert_eq!(services(&coordinator), ["app"]);
        let wrong = apply_from(&coordinator, &coordinator.file("mesh.toml", "deployment ="), &["-"]).expect_code(1);
        assert!(!wrong.stderr.is_empty());
        apply_from(&coordinator, "/dev/null", &["-"]).expect_code(1);
    });
}

#[test]
fn trust_in_a_deployment_that_does_not_exist_warns_and_names_the_nearest() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP, BILLING]);
        for more in [&[][..], &["--wait"]] {
            let slip = coordinator.command(&[&["trust", "shpo", "--app", "billing"], more].concat()).done();
            let words = ["warning", "no deployment `shpo`", "`shop`"];
            assert!(words.iter().all(|word| slip.stderr.contains(word)), "{}", slip.stderr);
            coordinator.command(&["trust", "shpo", "--app", "billing", "--remove"]).done();
        }
        // Without a similar name there is no suggestion.
        let far = coordinator.command(&["trust", "warehouse", "--app", "billing"]).done();
        assert!(far.stderr.contains("no deployment `warehouse`") && !far.stderr.contains("nearest"), "{}", far.stderr);
        let known = coordinator.command(&["trust", "shop", "--app", "billing"]).done();
        assert!(!known.stderr.contains("warning"), "{}", known.stderr);
        coordinator.command(&["trust", "shop", "--app", "biling"]).refused(&["biling", "billing"]);
    });
}

const ACME: &str = "deployment = \"web\"\nteam = \"acme\"\n[services.front]\n";
const RIVAL: &str = "deployment = \"vault\"\nteam = \"rival\"\n[services.gold]\n";

/// The audit as `command` shows it, newest first: action, result, by, and the whole text.
fn audit(outcome: Outcome) -> (Vec<Value>, String) {
    let audit = outcome.done().json();
    (audit["audit"].as_array().expect("an array").clone(), audit.to_string())
}

#[test]
fn a_teams_administrator_reads_of_its_own_and_of_what_was_refused_and_of_no_other_team() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[ACME, RIVAL]);
        let admin = |team: &str, name: &str| {
            let made = coordinator.command(&["token", "create", "--admin", "--team", team, "--name", name]).done();
            made.stdout.trim().to_owned()
        };
        let (acme, rival) = (admin("acme", "ann"), admin("rival", "rob"));
        let afar = world.machine("laptop", Stack::Dual);
        let order = |token: &str, arguments: &[&str]| {
            let mut command = afar.namespace().command(&std::env::var("MESH_COORD").expect("the program"));
            command.args(arguments).args(["--url", &coordinator.url(false)]).env("MESH_ADMIN_TOKEN", token);
            command.stdin(Stdio::null());
            run(command)
        };
        order(&acme, &["trust", "shop", "--app", "web"]).done();
        order(&acme, &["delete", "vault"]).expect_code(1);
        order(&acme, &["node", "remove", "no-such-node"]).expect_code(1);
        order(&rival, &["token", "create", "--team", "rival", "--name", "robs-runners"]).done();
        order(&rival, &["drain", "i-99"]).expect_code(1);

        let (entries, text) = audit(order(&acme, &["audit", "--json"]));
        let find = |action: &str, result: &str| {
            let found = entries.iter().find(|entry| entry["action"] == action && entry["result"] == result);
            found.unwrap_or_else(|| panic!("no {action}, {result}, in {text}"))
        };
        for (action, result) in [("trust", "done"), ("delete", "refused"), ("node-remove", "refused")] {
            let entry = find(action, result);
            assert!(entry["by"].as_str().is_some_and(|by| by.contains("t-")) && entry["by_name"] == "ann", "{entry:#}");
        }
        find("apply", "done");
        for secret in ["rival", "gold", "rob", "i-99"] {
            assert!(!text.contains(secret), "`{secret}` in {text}");
        }
        let (_, text) = audit(order(&rival, &["audit", "--json"]));
        assert!(text.contains("robs-runners") || text.contains("rob"), "{text}");
        assert!(text.contains("i-99") && !text.contains("acme") && !text.contains("ann"), "{text}");
        // The operator sees all of it, in the table as well.
        let (entries, text) = audit(coordinator.command(&["audit", "--json"]));
        assert!(entries.iter().filter(|entry| entry["result"] == "refused").count() == 3, "{text}");
        let table = coordinator.command(&["audit"]).done().stdout;
        let row = table.lines().find(|line| line.contains("delete")).expect("the refused delete");
        assert!(row.contains("refused") && row.contains("(ann)"), "{row}");
    });
}

#[test]
fn the_audit_calls_a_token_by_its_name() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        let token = coordinator.token(&["--any", "--name", "rack 7"]);
        let (entries, text) = audit(coordinator.command(&["audit", "--json"]));
        let made = entries.iter().find(|entry| entry["action"] == "token-create").expect("its making");
        assert!(made["detail"].as_str().is_some_and(|detail| detail.contains("rack 7")), "{text}");
        world.machine("aws", Stack::Dual).start(&[&coordinator.url(false), &token, "--name", "aws"]);
        let (entries, text) = audit(coordinator.command(&["audit", "--json"]));
        assert!(entries.iter().any(|e| e["action"] == "enrol" && e["by_name"] == "rack 7"), "{text}");
        assert!(coordinator.command(&["audit"]).done().stdout.contains("(rack 7)"));
        assert!(coordinator.command(&["token", "list"]).done().stdout.contains("rack 7"));
    });
}
