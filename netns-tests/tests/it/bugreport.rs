//! `mesh-node bugreport`: what it tells, and what it keeps to itself.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use mesh_netns_tests::{Stack, World, isolated, run};
use serde_json::Value;

use crate::common::{BILLING, SHOP, declare, is_refused};

#[test]
fn a_report_explains_a_runner_and_holds_no_secret_and_no_clients_address() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP, BILLING]);
        let mut aws = world.runner(&coordinator, "aws", Stack::Dual);
        let gcp = world.runner(&coordinator, "gcp", Stack::Dual);
        let (app, api) = (aws.attach("shop/app"), aws.attach("billing/api"));
        let _others = (aws.attach("shop/app"), gcp.attach("shop/app"));
        is_refused(&app, api.service_address, 5432);
        aws.command(&["detach", &app.id]).done();
        let file = aws.state().join("report.tar");
        let path = file.to_str().expect("a path in UTF-8");
        let summary = aws.json(&["bugreport", "--output", path]);
        assert!(summary["parts"].as_array().is_some_and(|parts| parts.len() >= 6), "{summary:#}");
        assert_eq!(fs::metadata(&file).expect("the report").permissions().mode() & 0o777, 0o600);
        let read = |name: &str| {
            let mut tar = Command::new("tar");
            tar.args(["xOf", path, &format!("mesh-bugreport/{name}")]);
            run(tar).done().stdout
        };
        let status: Value = serde_json::from_str(&read("status.json")).expect("JSON");
        assert_eq!(status["peers"][0]["name"], "gcp", "{status:#}");
        assert!(read("log.txt").contains("INFO"), "{}", read("log.txt"));
        assert!(read("machine.txt").contains("kernel Linux"), "{}", read("machine.txt"));
        assert!(read("README.txt").contains("status.json: "), "{}", read("README.txt"));
        let mut all = Command::new("tar");
        all.args(["xOf", path]);
        let all = run(all).done().stdout;
        let identity = fs::read_to_string(aws.state().join("identity.json")).expect("the identity");
        let identity: Value = serde_json::from_str(&identity).expect("JSON");
        let secrets = [&identity["private_key"], &identity["enrolment"]["credential"]];
        for secret in secrets.map(|secret| secret.as_str().expect("a secret")) {
            assert!(!all.contains(secret), "{secret} is in the report");
        }
        let client = app.address.to_string();
        assert!(!all.contains(&client), "the client's address is in the report: {all}");
        // Without an agent there is still a report.
        aws.kill();
        let summary = aws.json(&["bugreport", "--output", path]);
        assert!(summary["parts"][0]["error"].is_string(), "{summary:#}");
        assert!(read("machine.txt").contains("mesh-node "));
    });
}
