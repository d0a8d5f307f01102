//! What `denied` remembers: the names of services that are gone, and entries of every tenant in spite of a flood from
//! one.

use mesh_netns_tests::{Stack, World, isolated, wait};
use serde_json::Value;

use crate::common::{BILLING, SHOP, declare, is_refused};

fn text<'a>(entry: &'a Value, key: &str) -> &'a str {
    entry[key].as_str().unwrap_or_default()
}

fn entries(denied: &Value) -> Vec<(&str, &str, u64)> {
    let list = denied["denied"].as_array().expect("an array");
    list.iter().map(|e| (text(e, "caller"), text(e, "callee"), e["port"].as_u64().unwrap_or_default())).collect()
}

#[test]
fn who_was_refused_is_told_by_name_though_both_ends_are_gone() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP, BILLING]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let (app, api) = (aws.attach("shop/app"), aws.attach("billing/api"));
        is_refused(&app, api.service_address, 5432);
        for instance in [&app, &api] {
            aws.command(&["detach", &instance.id]).done();
        }
        wait::until_true("both to be gone", || {
            let status = aws.json(&["status"]);
            status["instances"].as_array().is_some_and(Vec::is_empty)
        });
        let denied = aws.json(&["denied"]);
        assert_eq!(entries(&denied), [("shop/app", "billing/api", 5432)], "{denied:#}");
        let entry = &denied["denied"][0];
        assert_eq!((&entry["reason"], &entry["text"]), (&"no-trust".into(), &"no trust".into()), "{denied:#}");
        let table = aws.command(&["denied"]).done();
        assert!(table.stdout.contains("no trust") && !table.stdout.contains("no-trust"), "{}", table.stdout);
        assert!(table.stderr.contains("mesh-node why shop/app billing/api 5432"), "{}", table.stderr);
    });
}

#[test]
fn a_caller_that_knocks_at_every_port_does_not_wash_out_what_others_were_refused() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        let loud = "deployment = \"loud\"\nteam = \"evil\"\n[services.scan]\n";
        declare(&coordinator, &[SHOP, BILLING, loud]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let (app, api, scan) = (aws.attach("shop/app"), aws.attach("billing/api"), aws.attach("loud/scan"));
        is_refused(&app, api.service_address, 5432);
        for port in 1..=300 {
            is_refused(&scan, api.service_address, port);
        }
        let denied = aws.json(&["denied"]);
        let entries = entries(&denied);
        assert!(entries.len() <= 100 && entries.contains(&("shop/app", "billing/api", 5432)), "{denied:#}");
        assert!(entries.contains(&("loud/scan", "billing/api", 300)), "{denied:#}");
    });
}
