//! What a runner with a hostile program can put into pages and metrics: text, and about itself.

use mesh_netns_tests::{Control, Coordinator, Identity, Runner, Stack, World, isolated, wait};
use serde_json::{Value, json};

use crate::{
    browser::Browser,
    common::{SHOP, declare},
};

const BANK: &str = "deployment = \"bank\"\nteam = \"other\"\n[services.vault]\n[services.ledger]\n";
/// What would run if it became markup.
const HOSTILE: &str = "<img src=x onerror=alert(1)>\"'<script>alert(2)</script>";

/// The numbers of `shop/app`, `shop/db`, `bank/ledger` and `bank/vault`: services get them in the order of their names.
const SERVICES: [u64; 4] = [1, 2, 3, 4];

/// A stream of the runner, whose agent has ended, with hostile texts in its hello.
fn stream(runner: &Runner) -> Control {
    let hello = json!({"type": "hello", "protocol": 1, "version": HOSTILE, "have": null, "endpoints": [],
        "port": 51820, "instances": [], "can": ["telemetry-1"]});
    let identity = Identity::of(runner);
    let to = "10.0.1.2:7443".parse().expect("an address");
    let mut control =
        Control::open_saying(runner.namespace(), to, &identity, &hello).unwrap_or_else(|e| panic!("{e:?}"));
    while control.hear().expect("the coordinator asks for reports")["type"] != "telemetry" {}
    // Its hello has said that it has none.
    let attached = control.ask(&json!({"ask": "attach", "service": "shop/app"}));
    assert!(attached["Ok"]["instance"].is_string(), "{attached:#}");
    control
}

fn report(life: u64, pairs: &[Value], refused: &[Value]) -> Value {
    json!({"type": "telemetry", "life": life, "pairs": pairs, "refused": refused})
}

/// What the coordinator counts, by `GET /metrics`.
fn metric(coordinator: &Coordinator, name: &str) -> f64 {
    let mut curl = coordinator.namespace().command("curl");
    curl.args(["-sS", "http://127.0.0.1:9743/metrics"]);
    let text = mesh_netns_tests::run(curl).done().stdout;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {text}"))
}

#[test]
fn nonsense_too_much_and_reports_about_others_stay_text_and_change_nothing() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&["--metrics", "127.0.0.1:9743"]);
        declare(&coordinator, &[SHOP, BANK]);
        let honest = world.runner(&coordinator, "honest", Stack::Dual);
        let _vault = honest.attach("bank/vault");
        let mut rogue = world.machine("rogue", Stack::Dual);
        let token = coordinator.token(&["--deployment", "shop"]);
        rogue.start(&[&coordinator.url(false), &token, "--name", "rogue", "--provider", "aws"]);
        let _app = rogue.attach("shop/app");
        rogue.stop();
        let [app, db, ledger, vault] = SERVICES;
        let mut control = stream(&rogue);

        let party = |service: u64| json!({"address": "100.112.0.1", "service": format!("s-{service}")});
        let of = |caller, callee, reason: &str| json!({"caller": party(caller), "callee": party(callee), "port": 5432, "reason": reason, "count": 7, "age": 0});
        // Of others, of what isn't there, with absurd counts, and once as it should be.
        let most = u64::MAX;
        let pairs = [
            json!([vault, ledger, "both", most, most, most, most, most, most, most]),
            json!([ledger, vault, "from", 5, 5, 5, 5, 5, 5, 5]),
            json!([most, most, "to", 1, 1, 1, 1, 1, 1, 1]),
            json!([app, db, "from", 3, 0, 0, 0, 1, 10, 10]),
        ];
        control.say(&report(1, &pairs, &[of(vault, ledger, "no-trust"), of(app, db, HOSTILE)]));
        let browser = Browser::beside(&coordinator).entered();
        wait::until_true("the honest part of the report to be shown", || {
            let page = browser.page("/d/shop/db");
            page.contains("1 open") && page.contains("other")
        });
        let edges = coordinator.json(&["top"])["edges"].as_array().expect("edges").clone();
        assert_eq!(
            edges.iter().map(|edge| (&edge["from"], &edge["to"])).collect::<Vec<_>>(),
            [(&json!("shop/app"), &json!("shop/db"))]
        );
        let refused = coordinator.json(&["refused"])["refused"].as_array().expect("refusals").clone();
        assert_eq!(refused.len(), 1, "{refused:#?}");
        assert_eq!((&refused[0]["from"], &refused[0]["reason"]), (&json!("shop/app"), &json!("other")));

        // Too much: what is beyond a runner's room is left out, and its stream and the others' go on.
        for round in 0..100_u64 {
            let refused: Vec<Value> =
                (0..32).map(|n| of(app, db, &format!("reason-{}", "x".repeat((round % 8 + n % 4) as usize)))).collect();
            let pairs: Vec<Value> =
                (0..256).map(|n| json!([app, 1_000_000 * round + n, "from", 1, 0, 0, 0, 0, 0, 0])).collect();
            control.say(&report(round + 2, &pairs, &refused));
        }
        wait::until_true("reports to be left out", || metric(&coordinator, "mesh_coord_reports_left_out_total") > 0.0);
        assert!(metric(&coordinator, "mesh_coord_edges ") <= 16_385.0);
        assert!(coordinator.node("honest").is_some_and(|node| node["state"] == "online"));

        for path in
            ["/", "/map", "/services", "/d/shop/app", "/runners", "/r/rogue", "/refused", "/audit", "/search?q=r"]
        {
            let page = browser.page(path);
            assert!(page.starts_with("HTTP/1.1 200"), "{path}: {page}");
            assert!(
                !page.contains("<img") && !page.contains("<script>") && page.matches("<script").count() <= 1,
                "{path}: {page}"
            );
            assert!(page.len() < 300_000, "{path}: {} bytes", page.len());
        }
        assert!(browser.page("/r/rogue").contains("&lt;img src=x"), "its version, as text");
        // No report has granted anything.
        coordinator.command(&["why", "shop/app", "bank/vault", "5432"]).expect_code(1);
    });
}

#[test]
fn each_role_can_do_what_it_says_by_the_built_programs() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&["--console", "[::]:8443"]);
        declare(&coordinator, &[SHOP, "deployment = \"billing\"\n[services.api]\n"]);
        let _runner = world.runner(&coordinator, "aws", Stack::Dual);
        let url = coordinator.url(false);
        let file = coordinator.file("mesh.toml", "deployment = \"late\"\n[services.a]\n");
        let token = |role: &str| {
            let made = coordinator.command(&["token", "create", "--admin", "--role", role, "--name", role]).done();
            made.stdout.trim().to_owned()
        };
        let run = |token: &str, arguments: &[&str]| {
            let mut command = coordinator.namespace().command(&std::env::var("MESH_COORD").expect("the program"));
            command.args(arguments).args(["--url", &url]).env("MESH_ADMIN_TOKEN", token).env("NO_COLOR", "1");
            mesh_netns_tests::run(command)
        };
        let reads: [&[&str]; 9] = [
            &["nodes"],
            &["top", "--once"],
            &["audit"],
            &["services"],
            &["trust", "billing", "--app", "shop", "--dry-run"],
            &["trust", "--app", "shop", "--wait"],
            &["apply", "--dry-run", &file],
            &["node", "remove", "aws", "--dry-run", "--force"],
            &["delete", "billing", "--dry-run", "--force"],
        ];
        let operates: [&[&str]; 4] = [
            &["trust", "billing", "--app", "shop"],
            &["node", "drain", "aws"],
            &["node", "undrain", "aws"],
            &["apply", &file],
        ];
        let administers: [&[&str]; 3] =
            [&["token", "create", "--any"], &["switch", "tun-gso", "off"], &["node", "remove", "aws", "--force"]];
        for (role, may_operate, may_administer) in
            [("viewer", false, false), ("operator", true, false), ("admin", true, true)]
        {
            let token = token(role);
            for arguments in reads {
                run(&token, arguments).done();
            }
            for (may, commands) in [(may_operate, &operates[..]), (may_administer, &administers[..])] {
                for arguments in commands {
                    let outcome = run(&token, arguments);
                    if may {
                        outcome.done();
                    } else {
                        outcome.refused(&["this needs the role", role]);
                    }
                }
            }
            let browser = Browser::at(&coordinator, &url.replace("7443", "8443"));
            browser.keep(&browser.sign_in(&token));
            let page = browser.page("/d/shop");
            assert!(page.contains(&format!("{role} ")) && page.contains("Give trust") == may_operate, "{role}: {page}");
            let forged = browser.post("/act", &[("do", "drain-node"), ("node", "aws")]);
            assert_eq!(forged.starts_with("HTTP/1.1 303"), may_operate && role != "admin", "{role}: {forged}");
        }
        let audit = coordinator.json(&["audit"])["audit"].as_array().expect("entries").clone();
        let refused = audit.iter().filter(|entry| entry["result"] == "refused" && entry["by_name"] == "viewer");
        assert!(refused.count() >= 7, "each refusal is noted");
    });
}
