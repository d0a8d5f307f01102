//! What runners report of connections is what has happened.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, TcpStream},
};

use mesh_netns_tests::{Coordinator, Instance, Stack, World, isolated, traffic::Answer, wait};
use serde_json::{Value, json};

use crate::common::{REPORTS, declare};

const SHOP: &str = "deployment = \"shop\"\n[services.db]\n[services.cache]\n[services.app]\n";
const PORT: u16 = 5432;

/// Sends so many bytes and reads them back.
fn exchange(stream: &mut TcpStream, bytes: usize) {
    let data = vec![7; bytes];
    let mut echo = vec![0; bytes];
    stream.write_all(&data).expect("the connection takes data");
    stream.read_exact(&mut echo).expect("an echo");
    assert_eq!(echo, data);
}

/// A connection that carries so many bytes each way, and ends in order.
fn call(app: &Instance, to: Ipv4Addr, bytes: usize) {
    let mut stream = app.connect(to, PORT).expect("a connection");
    exchange(&mut stream, bytes);
    stream.shutdown(Shutdown::Write).expect("a FIN");
    assert_eq!(stream.read(&mut [0]).expect("the other FIN"), 0);
}

/// What is reported of a pair: open, opened, refused, sent, received.
fn reported(coordinator: &Coordinator, from: &str, to: &str) -> [u64; 5] {
    let edges = coordinator.json(&["top"]);
    let all = edges["edges"].as_array().expect("edges").clone();
    let edge = all.into_iter().find(|edge| edge["from"] == from && edge["to"] == to).unwrap_or(Value::Null);
    ["open", "opened", "refused", "sent_bytes", "received_bytes"].map(|field| edge[field].as_u64().unwrap_or_default())
}

#[track_caller]
fn wait_for(coordinator: &Coordinator, from: &str, to: &str, expected: [u64; 5]) {
    let what = format!("{from} → {to} to be reported as {expected:?}");
    wait::until_true(&what, || {
        let found = reported(coordinator, from, to);
        // None of them ever goes back or too far.
        assert!(found[1..].iter().zip(&expected[1..]).all(|(found, most)| found <= most), "{what}: {found:?}");
        found == expected
    });
}

#[test]
fn counts_are_those_of_the_test_across_restarts_of_agent_and_coordinator() {
    isolated(|| {
        let world = World::new();
        let mut coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP, REPORTS]);
        let mut aws = world.runner(&coordinator, "aws", Stack::Dual);
        let gcp = world.runner(&coordinator, "gcp", Stack::Dual);
        let (app, sales) = (aws.attach("shop/app"), aws.attach("reports/sales"));
        let (db, cache) = (gcp.attach("shop/db"), aws.attach("shop/cache"));
        let _servers = (db.serve(PORT, Answer::Echo), cache.serve(PORT, Answer::Echo));

        for _ in 0..3 {
            call(&app, db.service_address, 100_000);
        }
        call(&app, cache.service_address, 5);
        app.connect(db.service_address, PORT + 1).expect_err("nothing listens there");
        let mut standing = app.connect(db.service_address, PORT).expect("a connection");
        exchange(&mut standing, 1000);
        wait_for(&coordinator, "shop/app", "shop/db", [1, 4, 1, 301_000, 301_000]);
        wait_for(&coordinator, "shop/app", "shop/cache", [0, 1, 0, 5, 5]);

        for _ in 0..2 {
            sales.connect(db.service_address, PORT).expect_err("there is no trust");
        }
        let refused = wait::until("the refusals", || {
            let all = coordinator.json(&["refused"])["refused"].as_array().expect("refusals").clone();
            all.into_iter().find(|refused| refused["from"] == "reports/sales" && refused["count"] == 2)
        });
        let told = ["to", "port", "reason", "node"].map(|field| refused[field].clone());
        assert_eq!(told, [json!("shop/db"), json!(PORT), json!("no-trust"), json!("aws")]);
        let text = coordinator.command(&["refused", "--to", "shop"]).done().stdout;
        assert!(text.contains("reports/sales") && text.contains("no-trust"), "{text}");

        // The agent's last report comes with its end; the connection goes on with the next agent.
        aws.stop();
        aws.start(&[]);
        exchange(&mut standing, 500);
        call(&app, db.service_address, 70);
        wait_for(&coordinator, "shop/app", "shop/db", [1, 5, 1, 301_570, 301_570]);

        // What both ends count is the same: a coordinator that knows only one of them has the same numbers.
        coordinator.stop();
        coordinator.start();
        wait_for(&coordinator, "shop/app", "shop/db", [1, 5, 1, 301_570, 301_570]);

        // The caller's runner may be the second one to report.
        wait::until_true("the connections at aws to be known", || {
            coordinator.json(&["node", "remove", "aws", "--dry-run"])["effect"]["connections"] == 1
        });
        let gone = coordinator.json(&["delete", "shop", "--dry-run", "--force"]);
        assert_eq!(gone["effect"]["in_use"][0]["to"], "shop/db", "{gone:#}");
        let text = coordinator.command(&["top", "--once", "--from", "shop/app", "--to", "shop/db"]).done().stdout;
        assert!(text.contains("301.6 kB") && !text.contains("cache"), "{text}");
    });
}

#[test]
fn what_was_in_use_is_known_after_a_restart_without_its_runner() {
    isolated(|| {
        let world = World::new();
        let mut coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let mut aws = world.runner(&coordinator, "aws", Stack::Dual);
        let (app, db) = (aws.attach("shop/app"), aws.attach("shop/db"));
        let server = db.serve(PORT, Answer::Echo);
        call(&app, db.service_address, 100);
        wait_for(&coordinator, "shop/app", "shop/db", [0, 1, 0, 100, 100]);
        drop(server);
        aws.stop();
        coordinator.stop();
        coordinator.start();
        let gone = coordinator.json(&["delete", "shop", "--dry-run", "--force"]);
        let known = &gone["effect"]["in_use"][0];
        assert_eq!((&known["from"], &known["to"], &known["open"]), (&json!("shop/app"), &json!("shop/db"), &json!(0)));
        assert!(known["used_seconds"].as_u64().is_some_and(|seconds| seconds < 3600), "{gone:#}");
    });
}

#[test]
fn without_telemetry_no_runner_reports() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&["--telemetry", "off"]);
        declare(&coordinator, &[SHOP]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let app = aws.attach("shop/app");
        coordinator.command(&["top"]).refused(&["telemetry is off", "--telemetry full"]);
        coordinator.command(&["refused"]).refused(&["telemetry is off"]);
        let preview = coordinator.json(&["delete", "shop", "--dry-run", "--force"]);
        assert!(preview["effect"]["connections"].is_null(), "{preview:#}");
        drop(app);
    });
}
