//! Trust that is added and removed, by command and by file: what it permits, what stays forbidden, and what is printed.

use mesh_netns_tests::{
    Stack, World, isolated,
    traffic::{Answer, ping},
    wait,
};

use crate::common::{BILLING, SHOP, declare, is_refused, reaches, wait_refused_at_home};

#[test]
fn given_and_taken_away() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP, BILLING]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let ovh = world.runner(&coordinator, "ovh", Stack::Dual);
        let (app, api) = (aws.attach("shop/app"), ovh.attach("billing/api"));
        let server = api.serve(80, Answer::Echo);
        let _own = app.serve(80, Answer::Echo);
        is_refused(&app, api.service_address, 80);
        let said = coordinator.command(&["trust", "shop", "--app", "billing"]).done();
        let said = said.stdout + &said.stderr;
        assert!(said.contains("shop may now call billing") && said.contains("billing may not call shop"), "{said}");
        wait::until_true("the trust to be known", || app.connect(api.service_address, 80).is_ok());
        is_refused(&api, app.service_address, 80);
        // Names are written after the map is in use.
        for name in ["api.billing.warp", "api.billing", "billing-api"] {
            let line = format!("{} {name}", api.service_address);
            wait::until_true(&line, || app.hosts_lines().contains(&line));
        }

        let mut standing = app.connect(api.service_address, 80).expect("a connection");
        ping(&mut standing, b"before").expect("an echo");
        let said = coordinator.command(&["trust", "shop", "--app", "billing", "--remove"]).done();
        let said = said.stdout + &said.stderr;
        assert!(
            said.contains("shop may no longer call billing") || said.contains("shop may not call billing"),
            "{said}"
        );
        wait_refused_at_home(&app, api.service_address, 80);
        ping(&mut standing, b"after").expect_err("nothing passes that stood on it");
        let accepted = server.accepted();
        is_refused(&app, api.service_address, 80);
        assert_eq!(server.accepted(), accepted);
        wait::until_true("the names to be gone", || !app.hosts_lines().iter().any(|line| line.contains("billing")));
    });
}

#[test]
fn of_some_services_and_ports_only() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(
            &coordinator,
            &[SHOP, "deployment = \"apis\"\nexpose = [\"*-tcp\"]\n[services.grpc-tcp]\n[services.web]\n"],
        );
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let app = aws.attach("shop/app");
        let (grpc, web) = (aws.attach("apis/grpc-tcp"), aws.attach("apis/web"));
        let _servers: Vec<_> =
            [&grpc, &web].iter().flat_map(|i| [80, 81].map(|port| i.serve(port, Answer::Echo))).collect();
        // Without services: what `expose` says.
        coordinator.command(&["trust", "shop", "--app", "apis"]).done();
        wait::until_true("the trust", || app.connect(grpc.service_address, 80).is_ok());
        reaches(&app, grpc.service_address, 81);
        is_refused(&app, web.service_address, 80);
        // Named services and ports instead.
        coordinator.command(&["trust", "--app", "apis", "--clear"]).done();
        coordinator.command(&["trust", "shop", "--app", "apis", "--service", "w*", "--port", "81"]).done();
        wait::until_true("the other trust", || app.connect(web.service_address, 81).is_ok());
        is_refused(&app, web.service_address, 80);
        is_refused(&app, grpc.service_address, 81);
        let shown = coordinator.json(&["trust", "--app", "apis"]);
        assert_eq!((&shown["version"], &shown["deployment"]), (&1.into(), &"apis".into()), "{shown:#}");
        let entry = &shown["trust"][0];
        assert_eq!(entry["caller"], "shop", "{shown:#}");
        assert_eq!(entry["services"], serde_json::json!(["w*"]), "{shown:#}");
        assert_eq!(entry["ports"], serde_json::json!([81]), "{shown:#}");
    });
}

#[test]
fn the_file_rules_where_it_says_so() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        let file = coordinator.file("mesh.toml", "deployment = \"shop\"\ntrust = [\"billing\"]\n[services.db]\n");
        coordinator.command(&["apply", &file]).done();
        coordinator.command(&["trust", "other", "--app", "shop"]).refused(&["mesh.toml"]);
        coordinator.command(&["trust", "billing", "--app", "shop", "--remove"]).refused(&["mesh.toml"]);
        // The trusted deployment need not exist yet: the entry waits.
        let shown = coordinator.json(&["trust", "--app", "shop"]);
        assert_eq!(shown["trust"][0]["caller"], "billing", "{shown:#}");
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        declare(&coordinator, &[BILLING]);
        let (db, api) = (aws.attach("shop/db"), aws.attach("billing/api"));
        let _server = db.serve(5432, Answer::Echo);
        reaches(&api, db.service_address, 5432);
        // Deleting a deployment removes its name from all lists.
        aws.command(&["detach", &api.id]).done();
        coordinator.command(&["delete", "billing"]).done();
        let shown = coordinator.json(&["trust", "--app", "shop"]);
        assert_eq!(shown["trust"], serde_json::json!([]), "{shown:#}");
    });
}

#[test]
fn across_teams_it_is_refused() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP, "deployment = \"labs\"\nteam = \"research\"\n[services.x]\n"]);
        coordinator.command(&["trust", "labs", "--app", "shop"]).refused(&["labs", "research"]);
        coordinator.apply("deployment = \"shop\"\ntrust = [\"labs\"]\n[services.db]\n").refused(&["labs", "research"]);
        coordinator.command(&["trust", "shop", "--app", "nowhere"]).refused(&["nowhere"]);
        let shown = coordinator.json(&["trust", "--app", "shop"]);
        assert_eq!(shown["trust"], serde_json::json!([]), "{shown:#}");
    });
}
