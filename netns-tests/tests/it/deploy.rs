//! Declaring: the files describe the whole state, which is applied completely or not at all. Each mistake has a helpful
//! message.

use mesh_netns_tests::{Coordinator, Stack, World, isolated, wait};
use serde_json::Value;

use crate::common::{SHOP, declare};

/// All services as `deployment/service`.
fn services(coordinator: &Coordinator) -> Vec<String> {
    let all = coordinator.json(&["services"]);
    assert_eq!(all["version"], 1);
    let path =
        |s: &Value| format!("{}/{}", s["deployment"].as_str().unwrap_or("?"), s["service"].as_str().unwrap_or("?"));
    let mut paths: Vec<String> = all["services"].as_array().expect("an array").iter().map(path).collect();
    paths.sort();
    paths
}

#[test]
fn services_are_added_changed_and_removed_and_keep_their_addresses() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        let first = "deployment = \"shop\"\nteam = \"acme\"\n[services.app]\n[services.db]\npublic_port = 65500\n";
        let dry = coordinator.command(&["apply", "--dry-run", &coordinator.file("mesh.toml", first)]).done();
        assert!(dry.stdout.contains("app") && dry.stdout.contains("db"), "the plan: {}", dry.stdout);
        assert_eq!(services(&coordinator), [""; 0], "nothing is done by --dry-run");
        let done = coordinator.apply(first).done();
        assert!(done.stdout.contains("app") && done.stdout.contains("db"), "the plan: {}", done.stdout);
        assert_eq!(services(&coordinator), ["shop/app", "shop/db"]);
        let db = coordinator.address_of("shop/db");
        let second = "deployment = \"shop\"\nteam = \"acme\"\n[services.cache]\n[services.db]\nport = 5432\n";
        coordinator.apply(second).done();
        assert_eq!(services(&coordinator), ["shop/cache", "shop/db"]);
        assert_eq!(coordinator.address_of("shop/db"), db, "kept until the service is deleted");
        let entry = coordinator.json(&["services"])["services"][0].clone();
        for field in ["deployment", "service", "team", "address", "public_port", "instances"] {
            assert!(entry.get(field).is_some(), "no {field}: {entry:#}");
        }
        let deployments = coordinator.json(&["deployments"]).to_string();
        assert!(deployments.contains("shop") && deployments.contains("acme"), "{deployments}");
        let audit = coordinator.command(&["audit"]).done().stdout;
        assert!(audit.contains("shop"), "{audit}");
    });
}

#[test]
fn all_files_of_one_call_or_none() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        let good = coordinator.file("mesh.toml", SHOP);
        let bad = coordinator.file("mesh.toml", "deployment = \"billing\"\n[services.\"my db\"]\n[services.my-db]\n");
        coordinator.command(&["apply", &good, &bad]).refused(&["my db", "my-db"]);
        assert_eq!(services(&coordinator), [""; 0]);
        coordinator.command(&["apply", &good, "/run/nothing.toml"]).refused(&["/run/nothing.toml"]);
        assert_eq!(services(&coordinator), [""; 0]);
        coordinator.command(&["apply"]).expect_code(2);
    });
}

#[test]
fn mistakes_in_a_file_are_named_with_line_and_way_out() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        let cases: &[(&str, &[&str])] = &[
            ("deployment = \"shop\"\n[services.db]\nalias = [\"x\"]\n", &["mesh.toml:3", "alias", "aliases"]),
            ("deploymnt = \"shop\"\n", &["mesh.toml:1", "deploymnt", "deployment"]),
            ("deployment = \"shop\"\n[service.db]\n", &["mesh.toml:2", "service", "services"]),
            ("deployment = \"shop\"\nthrust = [\"x\"]\n", &["mesh.toml:2", "thrust", "trust"]),
            ("deployment = \"shop\"\n[services.db]\nport = 70000\n", &["mesh.toml:3", "70000"]),
            ("deployment = \"shop\"\n[services.db]\nport = \"x\"\n", &["mesh.toml:3"]),
            ("deployment = \"shop\"\n[services.db\n", &["mesh.toml:2"]),
            ("[services.db]\n", &["mesh.toml", "deployment"]),
            ("deployment = \"My Shop\"\n", &["mesh.toml", "My Shop"]),
            ("deployment = \"localhost\"\n", &["localhost"]),
            ("deployment = \"shop\"\nteam = \"a.b\"\n", &["a.b"]),
            ("deployment = \"shop\"\n[services.\"a/b\"]\n", &["a/b"]),
            ("deployment = \"shop\"\n[services.\"---\"]\n", &["---", "manual"]),
            ("deployment = \"shop\"\n[services.\"-x\"]\n", &["-x", "manual"]),
            ("deployment = \"shop\"\n[services.\"xn--zz\u{fc}\"]\n", &["xn--", "manual"]),
            (
                "deployment = \"shop\"\n[services.\"my db\"]\n[services.\"my=db\"]\n",
                &["my db", "my=db", "my-db", "manual"],
            ),
            ("deployment = \"shop\"\n[services.a]\nist = [{ service = \"b\" }]\n", &["b"]),
            ("deployment = \"shop\"\n[services.a]\nist = [{ service = \"a\", variables = [\"1X\"] }]\n", &["1X"]),
            ("deployment = \"shop\"\n[services.a]\nist = [{ service = \"a\", hostnames = [\"a b\"] }]\n", &["a b"]),
            ("deployment = \"shop\"\n[services.a]\nist = [{ service = \"a\" }, { service = \"a\" }]\n", &["a"]),
            ("deployment = \"shop\"\ntrust = [{ deployment = \"x\", ports = [0] }]\n", &["0"]),
            ("deployment = \"shop\"\ntrust = [\"shop\"]\n", &["shop"]),
        ];
        for (text, words) in cases {
            coordinator.apply(text).refused(words);
        }
        let long = "x".repeat(64);
        coordinator.apply(&format!("deployment = \"shop\"\n[services.{long}]\n")).refused(&["63"]);
        assert_eq!(services(&coordinator), [""; 0]);
        let exact = "x".repeat(63);
        coordinator.apply(&format!("deployment = \"shop\"\n[services.{exact}]\n")).done();
        let manual = "deployment = \"shop\"\n[services.\"my db\"]\n[services.\"my=db\"]\nnames = \"manual\"\naliases = [\"other\"]\n";
        coordinator.apply(manual).done();
    });
}

#[test]
fn what_cannot_change_and_what_needs_force() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        coordinator.apply("deployment = \"shop\"\nteam = \"others\"\n[services.app]\n").refused(&["team"]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let db = aws.attach("shop/db");
        let without = "deployment = \"shop\"\n[services.app]\n";
        coordinator.apply(without).refused(&["shop", "db", "--force"]);
        assert_eq!(services(&coordinator), ["shop/app", "shop/db"]);
        coordinator.command(&["delete", "shop"]).refused(&["--force"]);
        coordinator.command(&["delete", "nowhere"]).refused(&["nowhere"]);
        coordinator.command(&["apply", "--force", &coordinator.file("mesh.toml", without)]).done();
        assert_eq!(services(&coordinator), ["shop/app"]);
        wait::until_true("the instance to be ended by its runner", || {
            aws.json(&["status"])["instances"].as_array().is_some_and(Vec::is_empty)
        });
        wait::until_true("mesh0 to be gone", || db.namespace.interface("mesh0").is_none());
        // The address rests before it is reused.
        let address = db.service_address;
        declare(&coordinator, &["deployment = \"new\"\n[services.a]\n[services.b]\n[services.c]\n"]);
        for service in ["new/a", "new/b", "new/c"] {
            assert_ne!(coordinator.address_of(service), address);
        }
        coordinator.command(&["delete", "shop", "--force"]).done();
        assert_eq!(services(&coordinator), ["new/a", "new/b", "new/c"]);
    });
}

#[test]
fn warp_config_js_declares_the_one_service_it_names() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &["deployment = \"shop\"\n[services.cache]\nport = 6379\n"]);
        let js = |text: &str| coordinator.file("warp.config.js", text);
        let good = js(concat!(
            "// the app\nmodule.exports = {\n  container: 'my-app',\n  runtime: \"node\",\n  deployment: { port: 65500 },\n",
            "  ist: [{ service: 'my-db', variables: ['DB_HOST'], hostnames: ['db.local'] }],\n};\n"
        ));
        let outcome = coordinator.command(&["apply", &good, "--deployment", "shop"]).done();
        assert!(outcome.stderr.contains("runtime"), "other keys pass with a warning: {}", outcome.stderr);
        assert_eq!(
            services(&coordinator),
            ["shop/cache", "shop/my-app"],
            "the others stay, and what ist names may come later"
        );
        coordinator.command(&["apply", &good]).refused(&["--deployment"]);
        for (text, words) in [
            ("module.exports = {\n  container: name(),\n};\n", &["warp.config.js:2"][..]),
            ("module.exports = {\n  container: 'x',\n  port: process.env.PORT,\n};\n", &["warp.config.js:3"]),
            ("const a = 1;\nmodule.exports = { container: a };\n", &["warp.config.js:1"]),
            ("module.exports = { container: `x${1}` };\n", &["warp.config.js:1"]),
            ("module.exports = {\n", &["warp.config.js"]),
            ("", &["warp.config.js", "module.exports"]),
            ("module.exports = { ist: [] };\n", &["container"]),
        ] {
            coordinator.command(&["apply", &js(text), "--deployment", "shop"]).refused(words);
        }
        let array = js("module.exports = [{ docker: 'one' }, { container: 'two' }];\n");
        let outcome = coordinator.command(&["apply", &array, "--deployment", "shop"]);
        assert!(matches!(outcome.code, Some(0 | 1)), "{}", outcome.stderr);
    });
}

#[test]
fn the_examples_are_good() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        let example = |path: &str| format!("{}/../examples/{path}", env!("CARGO_MANIFEST_DIR"));
        coordinator.command(&["apply", &example("shop/mesh.toml"), &example("billing/mesh.toml")]).done();
        coordinator.command(&["apply", &example("warp-config/warp.config.js"), "--deployment", "shop"]).done();
        let expected = ["billing/api", "billing/ledger", "shop/app", "shop/cache", "shop/db", "shop/worker"];
        assert_eq!(services(&coordinator), expected);
    });
}
