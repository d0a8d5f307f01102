//! The order in which programs start: `mesh-node wait`, and `mesh-coord services --watch`.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
    sync::mpsc,
    thread,
    time::Duration,
};

use mesh_netns_tests::{Stack, World, isolated, packet::opens, traffic::Answer, wait};
use serde_json::Value;

use crate::{
    common::declare,
    replicas::{PORT, shop},
};

#[test]
fn wait_returns_when_an_instance_answers_and_not_before() {
    isolated(|| {
        let (_world, coordinator, [aws, ovh]) = shop(["aws", "ovh"]);
        let port = PORT.to_string();
        // Nothing is here that could try.
        let lonely = aws.command(&["wait", "shop/db", "--port", &port, "--timeout", "1s"]);
        lonely.refused(&["no instance that could try shop/db", "mesh-node run"]);
        let _app = aws.attach("shop/app");
        aws.command(&["wait", "shop/db", "--timeout", "1s"]).refused(&["shop/db declares no port", "--port"]);
        aws.command(&["wait", "shop/nosuch", "--timeout", "1s"]).refused(&["nosuch"]);
        aws.command(&["wait", "shop/db", "--timeout", "soon"]).expect_code(2);
        let late = aws.command(&["wait", "shop/db", "--port", &port, "--timeout", "1s"]);
        late.refused(&[
            "does not answer on port 5432 within 1s",
            "no live instance of shop/db",
            "why shop/app shop/db",
        ]);
        declare(&coordinator, &["deployment = \"shop\"\n[services.app]\n[services.db]\nport = 5432\n"]);

        // It waits while there is none, and while nothing listens there.
        let mut waiting = aws.prepare(&["wait", "shop/db", "--timeout", "10m", "--json"]);
        let mut waiting = waiting.stdout(Stdio::piped()).spawn().expect("mesh-node runs");
        let db = ovh.attach("shop/db");
        let refused = db.capture();
        refused.wait_received(1, "a SYN that nothing answers", opens);
        assert_eq!(waiting.try_wait().expect("its status"), None);
        let _server = db.serve(PORT, Answer::Echo);
        let status = waiting.wait().expect("its status");
        let said: Value = serde_json::from_reader(waiting.stdout.take().expect("its output")).expect("JSON");
        assert!(status.success(), "{said:#}");
        let expected = serde_json::json!({
            "version": 1, "service": "shop/db", "port": 5432, "answered": true, "from": "shop/app", "code": null,
        });
        assert_eq!(said, expected);
        let told = aws.command(&["wait", "shop/db", "--from", "shop/app"]).done();
        assert_eq!(told.stdout, "shop/db answers on port 5432\n");
        // From within a command, whose instance may call.
        ovh.run("shop/app", &[&std::env::var("MESH_NODE").expect("the program under test"), "wait", "shop/db"]).done();
    });
}

#[test]
fn the_list_of_services_goes_on_with_each_change() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &["deployment = \"shop\"\n[services.db]\n"]);
        let mut watch = coordinator.prepare(&["services", "--watch", "--json"]);
        let mut watch = watch.stdout(Stdio::piped()).spawn().expect("mesh-coord runs");
        let lines = BufReader::new(watch.stdout.take().expect("its output")).lines();
        let (sender, lines_seen) = mpsc::channel::<Value>();
        let reading = thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).expect("a line of JSON"));
            }
        });
        let next = || lines_seen.recv_timeout(Duration::from_secs(120)).expect("a change is told");
        assert_eq!(next()["services"][0]["instances"], serde_json::json!([]));
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let db = aws.attach("shop/db");
        assert_eq!(next()["services"][0]["instances"][0]["id"], *db.id);
        aws.drain(&db);
        wait::until_true("the drain to be told", || next()["services"][0]["instances"][0]["state"] == "draining");
        watch.kill().expect("it runs");
        watch.wait().expect("its status");
        reading.join().expect("it reads to the end");
    });
}
