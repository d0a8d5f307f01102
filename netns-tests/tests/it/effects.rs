//! What a command would take away, and what files expect of the rules.

use mesh_netns_tests::{Stack, World, isolated, wait};

use crate::common::{REPORTS, declare};

const SHOP: &str = "deployment = \"shop\"\n[services.db]\n[services.app]\n";

/// An expectation in a file.
fn expect(from: &str, to: &str, port: u16, allow: bool) -> String {
    format!("[[expect]]\nfrom = \"{from}\"\nto = \"{to}\"\nport = {port}\nallow = {allow}\n")
}

#[test]
fn a_dry_run_tells_what_would_be_cut_and_an_expectation_that_fails_stops_an_apply() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP, REPORTS]);
        coordinator.command(&["trust", "reports", "--app", "shop"]).done();
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let gcp = world.runner(&coordinator, "gcp", Stack::Dual);
        let (sales, db) = (aws.attach("reports/sales"), gcp.attach("shop/db"));
        let server = db.serve_named(5432);
        let connection = sales.connect(db.service_address, 5432).expect("a connection");

        let back = ["trust", "reports", "--app", "shop", "--remove", "--dry-run"];
        let told = coordinator.command(&back).done().stdout;
        assert!(told.contains("reports → shop/db on every port: 1 caller and 1 instance, on aws, gcp"), "{told}");
        // As soon as the runners have reported it.
        wait::until_true("the connection to be known", || {
            coordinator.json(&["top"])["edges"][0]["open"] == 1 && coordinator.json(&back)["effect"]["connections"] == 1
        });
        let effect = &coordinator.json(&back)["effect"];
        assert_eq!(effect["cut"][0]["callee"], "shop/db", "{effect:#}");
        assert_eq!((&effect["in_use"][0]["from"], &effect["in_use"][0]["open"]), (&"reports/sales".into(), &1.into()));
        let told = coordinator.command(&back).done().stdout;
        assert!(told.contains("in use: reports/sales → shop/db: 1 open connection"), "{told}");
        assert!(told.contains("1 connection would end, by reports that are at most"), "{told}");
        let gone = coordinator.json(&["node", "remove", "gcp", "--dry-run"]);
        assert_eq!(gone["effect"]["ended"][0]["node"], "gcp", "{gone:#}");
        assert_eq!(gone["effect"]["unserved"][0], "shop/db", "{gone:#}");
        coordinator.command(&["delete", "shop", "--dry-run"]).done();
        let file = coordinator.file("mesh.toml", "deployment = \"shop\"\n[services.app]\n");
        let plan = coordinator.json(&["apply", "--dry-run", "--force", &file]);
        assert_eq!(plan["effect"]["cut"][0]["callee"], "shop/db", "{plan:#}");
        assert!(connection.peer_addr().is_ok() && coordinator.node("gcp").is_some(), "nothing has changed");
        assert_eq!(gcp.connections(&db.id), 1);

        let why = coordinator.command(&["why", "reports/sales", "shop/db", "5432"]).done().stdout;
        assert!(why.contains("ok  rule") && why.contains("shop/db runs on gcp"), "{why}");
        coordinator.command(&["why", "shop/db", "reports/sales", "80"]).refused(&["can't connect"]);
        let given = coordinator.json(&["audit", "--action", "trust", "--object", "shop", "--limit", "1"]);
        assert!(given["audit"][0]["detail"].as_str().is_some_and(|words| words.contains("reports")), "{given:#}");
        let none = coordinator.json(&["audit", "--by", "no one", "--refused"]);
        assert_eq!((&none["audit"], &none["filtered"]), (&serde_json::json!([]), &true.into()));

        // What a file expects has to hold before anything changes.
        let wrong = SHOP.replace("[services.app]", "[services.app]\n[services.new]")
            + &expect("reports/sales", "shop/db", 5432, false);
        let file = coordinator.file("mesh.toml", &wrong);
        let hint = "reports/sales may not connect to port 5432 of shop/db, but it is allowed";
        coordinator.command(&["apply", &file]).refused(&["mesh.toml:5", hint]);
        coordinator.command(&["check", &file, "--data", &coordinator.data().display().to_string()]).refused(&[hint]);
        let services = coordinator.json(&["services"]).to_string();
        assert!(!services.contains("\"new\""), "{services}");
        let right = SHOP.to_owned() + &expect("reports/sales", "shop/db", 5432, true);
        coordinator.apply(&right).done();

        // Files alone, as in CI.
        let alone = |text: &str| {
            let mut command = coordinator.prepare(&["check", &coordinator.file("mesh.toml", text), "--json"]);
            command.env_remove("MESH_COORD_DATA");
            mesh_netns_tests::run(command)
        };
        let checked = alone(&right).done().json();
        assert_eq!(checked["expectations"][0]["result"], "undecided", "{checked:#}");
        let ruled = SHOP.replace("[services.db]", "trust = []\n[services.db]")
            + &expect("reports/sales", "shop/db", 5432, true);
        let checked = alone(&ruled).expect_code(1).json();
        assert_eq!(checked["expectations"][0]["result"], "unmet", "{checked:#}");
        drop((connection, server));
    });
}
