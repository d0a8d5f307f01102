//! What a runner with a valid credential and a hostile program gets from the coordinator: nothing beyond its scope, and
//! nothing after its removal.

use std::collections::BTreeSet;

use mesh_netns_tests::{Control, Coordinator, Crowd, Identity, Outlaw, Runner, Stack, World, isolated, wait};
use serde_json::{Value, json};

use crate::{
    common::{SHOP, declare},
    hostile::{Scene, VAULT},
};

/// Trusts the shop with one of its services, on one port.
const TILL: &str = "deployment = \"till\"\ntrust = [{ deployment = \"shop\", services = [\"pay\"], ports = [443] }]\n[services.pay]\n[services.books]\n";

/// Calls the shop, which trusts it.
const AUDIT: &str = "deployment = \"audit\"\n[services.eye]\n";

const LABS: &str = "deployment = \"labs\"\nteam = \"research\"\n[services.x]\n";

const STREAM: &str = "10.0.1.2:7443";

fn stream(runner: &Runner) -> Result<Control, (u16, String)> {
    Control::open(runner.namespace(), STREAM.parse().expect("an address"), &Identity::of(runner))
}

/// A coordinator with more than the runner may know. The runner may host the shop only, and its agent has ended.
fn confined(world: &World) -> (Coordinator, Runner) {
    let coordinator = world.coordinator(&[]);
    declare(&coordinator, &[SHOP, VAULT, TILL, AUDIT, LABS]);
    coordinator.command(&["trust", "audit", "--app", "shop", "--service", "db"]).done();
    let mut runner = world.machine("hostile", Stack::Dual);
    let token = coordinator.token(&["--deployment", "shop"]);
    runner.start(&[&coordinator.url(false), &token, "--name", "hostile", "--provider", "aws"]);
    (coordinator, runner)
}

/// The records of a view without random values, in words.
fn words(records: &[&Value]) -> BTreeSet<String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let word = |record: &Value| {
        let kind = text(&record["kind"]);
        let fields: &[&str] = match kind.as_str() {
            "runner" | "deployment" => &["name"],
            "service" => &["deployment", "name", "address"],
            "instance" => &["id", "service", "runner", "address", "state"],
            "grant" => &["caller", "callee", "ports"],
            "naming" => &["service"],
            other => panic!("a record of kind {other} in a view: {record:#}"),
        };
        let fields: Vec<String> = fields.iter().map(|field| text(&record[field])).collect();
        format!("{kind} {}", fields.join(" "))
    };
    records.iter().map(|record| word(record)).collect()
}

const KINDS: [&str; 6] = ["runner", "deployment", "service", "instance", "grant", "naming"];

fn words_of(identity: &Identity) -> BTreeSet<String> {
    let records: Vec<&Value> = KINDS.iter().flat_map(|kind| identity.records(kind)).collect();
    assert_eq!(records.len(), identity.all().len(), "a kind that this test doesn't know: {:#}", identity.view());
    words(&records)
}

#[test]
fn its_whole_view_holds_what_its_own_services_touch_and_nothing_else() {
    isolated(|| {
        let world = World::new();
        let (coordinator, mut hostile) = confined(&world);
        let others = ["vaults", "tills", "audits", "labs"].map(|name| world.runner(&coordinator, name, Stack::Dual));
        let [vaults, tills, audits, labs] = &others;
        let _instances = [vaults.attach("vault/safe"), vaults.attach("till/books"), labs.attach("labs/x")];
        let (pay, _eye) = (tills.attach("till/pay"), audits.attach("audit/eye"));
        // While it hosts nothing it knows no others.
        let path = hostile.state().join("view.json");
        let at = |text: &str| std::fs::read_to_string(&path).is_ok_and(|view| view.contains(text));
        wait::until_true("a view", || path.exists());
        assert_eq!(words_of(&Identity::of(&hostile)), ["runner hostile".to_owned()].into());

        let app = hostile.attach("shop/app");
        wait::until_true("the view to hold what the shop calls", || at(&pay.id));
        let id = |kind: &str, name: &str| -> String {
            let identity = Identity::of(&hostile);
            let records = identity.records(kind);
            let found = records.iter().find(|record| record["name"] == name).unwrap_or_else(|| panic!("no {name}"));
            found["id"].as_str().expect("an identifier").to_owned()
        };
        let (shop, till) = (id("deployment", "shop"), id("deployment", "till"));
        let service = |deployment: &str, path: &str| {
            format!("service {deployment} {} {}", path.split_once('/').expect("a path").1, coordinator.address_of(path))
        };
        let instance = |of: &mesh_netns_tests::Instance, service: &str, runner: &str| {
            format!("instance {} {} {} {} live", of.id, id("service", service), id("runner", runner), of.address)
        };
        // Not the audit: it may call only the shop's other service.
        let mut expected: BTreeSet<String> = ["hostile", "tills"].map(|name| format!("runner {name}")).into();
        expected.extend(["shop", "till"].map(|name| format!("deployment {name}")));
        expected.extend([
            service(&shop, "shop/app"),
            service(&shop, "shop/db"),
            service(&till, "till/pay"),
            instance(&app, "app", "hostile"),
            instance(&pay, "pay", "tills"),
            format!("grant {shop} {} {}", id("service", "pay"), json!({"only": [443]})),
            // The names that the instances of its own deployment see.
            format!("naming {}", id("service", "app")),
            format!("naming {}", id("service", "db")),
        ]);
        let found = words_of(&Identity::of(&hostile));
        let strays: Vec<_> = found.symmetric_difference(&expected).collect();
        assert!(strays.is_empty(), "{strays:#?} in\n{:#}", Identity::of(&hostile).view());
        let text = std::fs::read_to_string(&path).expect("the view");
        for secret in ["vault", "safe", "books", "audit", "labs", "research", "private", "credential"] {
            assert!(!text.contains(secret), "{secret} in the view");
        }

        // The same by the stream, asked without manners, and with whatever it may ask.
        hostile.stop();
        let mut control = stream(&hostile).expect("its credential is good");
        let snapshot = loop {
            let message = control.hear().expect("a view");
            if message["type"] == "snapshot" {
                break message;
            }
        };
        let records = snapshot["view"]["records"].as_array().expect("records");
        // It claims to hold no instances any more: it gets even less.
        let known = words(&records.iter().collect::<Vec<_>>());
        assert!(known.is_subset(&found), "{:#?}", known.difference(&found).collect::<Vec<_>>());
        for ask in [
            json!({"ask": "lookup", "service": "vault/safe"}),
            json!({"ask": "lookup", "service": "labs/x"}),
            json!({"ask": "attach", "service": "vault/safe"}),
            json!({"ask": "attach", "service": "till/pay"}),
            json!({"ask": "attach", "service": "labs/x", "client": true}),
            json!({"ask": "attach", "service": "shop/nothing"}),
            json!({"ask": "drain", "instance": pay.id}),
            json!({"ask": "why", "caller": "vault/safe", "callee": "till/books", "port": 1}),
        ] {
            let result = control.ask(&ask);
            assert!(result["Err"]["error"].is_string(), "{ask}: {result:#}");
            let text = result.to_string();
            assert!(!text.contains("r-") && !text.contains("100."), "{ask} tells more than that it is refused: {text}");
        }
        // The records of others disappear from its view, and stay where they are.
        let detached = control.ask(&json!({"ask": "detach", "instance": pay.id}));
        assert!(detached["Ok"].is_object(), "{detached:#}");
        let attached = control.ask(&json!({"ask": "attach", "service": "shop/db"}));
        assert!(attached["Ok"]["instance"].is_string(), "what is in its scope: {attached:#}");
        let instances = coordinator.json(&["instances"]);
        let foreign = instances["instances"].as_array().expect("an array").iter().filter(|instance| {
            instance["runner"] == "hostile"
                && !instance["service"].as_str().is_some_and(|path| path.starts_with("shop/"))
        });
        assert_eq!(foreign.count(), 0, "{instances:#}");
        let is_pay = |instance: &&Value| instance["id"] == pay.id.as_str() && instance["state"] == "live";
        let standing = instances["instances"].as_array().expect("an array").iter().filter(is_pay).count();
        assert_eq!(standing, 1, "it ended nothing: {instances:#}");
    });
}

#[test]
fn after_its_removal_it_has_nothing() {
    isolated(|| {
        let world = World::new();
        let (coordinator, mut scene) = Scene::set(&world);
        let standing = Crowd::gather(&scene.own.namespace, scene.db.service_address, 9000, 7);
        // When it claims to hold no instances, as it does next, none of them may stand.
        let ended = scene.server.ended().len();
        scene.hostile.stop();
        let mut outlaw = Outlaw::new(&scene.hostile, "victim");
        outlaw.connect();
        let mut control = stream(&scene.hostile).expect("its credential is good");
        assert_eq!(control.hear().expect("a greeting")["type"], "welcome");

        coordinator.command(&["node", "remove", "hostile", "--force"]).done();
        while control.hear().is_some() {}
        let (status, words) = stream(&scene.hostile).err().expect("an unknown credential");
        assert!(status == 401 || status == 403, "{status}: {words}");
        wait::until_true("the far ends of its connections to be reset", || scene.server.ended().len() >= ended + 7);
        assert!(scene.server.resets() >= 7, "{:?}", scene.server.ended());
        // Its session is useless, and it gets no new one. (The coordinator knows that it has just left, and counts its
        // messages apart from strangers'.)
        let before = scene.victim.drops("departed");
        outlaw.smuggle(&[0x45; 60]);
        wait::until_true("its session to be refused", || scene.victim.drops("departed") > before);
        let before = scene.victim.drops("departed");
        assert!(outlaw.ask().is_none(), "a handshake with one that was removed");
        wait::until_true("it to be counted", || scene.victim.drops("departed") > before);
        scene.assert_unharmed();
        drop(standing);
    });
}
