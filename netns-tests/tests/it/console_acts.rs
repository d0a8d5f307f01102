//! Changes in the console: each is shown with its effect first, is made by its form, and works on the mesh at once.

use mesh_netns_tests::{Stack, World, isolated, traffic::Answer, wait};

use crate::{
    browser::Browser,
    common::{REPORTS, SHOP, declare, is_refused, reaches},
};

#[test]
fn trust_is_given_and_taken_back_with_its_effect_before_ones_eyes() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP, REPORTS]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let gcp = world.runner(&coordinator, "gcp", Stack::Dual);
        let (sales, db) = (aws.attach("reports/sales"), gcp.attach("shop/db"));
        let _server = db.serve(5432, Answer::Echo);
        let console = Browser::beside(&coordinator).entered();
        let give = [("do", "give"), ("deployment", "shop"), ("caller", "reports"), ("ports", "5432")];
        let take = [("do", "take"), ("deployment", "shop"), ("caller", "reports"), ("ports", "5432")];

        let shown = console.page("/act?do=give&deployment=shop&caller=reports&ports=5432");
        assert!(shown.contains("reports may now call shop (all services on port 5432)"), "{shown}");
        sales.connect(db.service_address, 5432).expect_err("nothing has changed yet");
        let page = console.act("/act", &give);
        assert!(page.contains("Done: reports may now call shop"), "{page}");
        wait::until_true("it is in force everywhere", || console.page("/d/shop").contains("● In force 2/2"));
        reaches(&sales, db.service_address, 5432);
        let open = sales.connect(db.service_address, 5432).expect("a connection");

        wait::until_true("the use in the preview", || {
            let shown = console.page("/act?do=take&deployment=shop&caller=reports&ports=5432");
            shown.contains("in use: reports/sales → shop/db") && shown.contains("1 connection would end")
        });
        console.act("/act", &take);
        wait::until_true("it is in force everywhere", || console.page("/d/shop").contains("● In force"));
        is_refused(&sales, db.service_address, 5432);
        drop(open);

        for (fields, error) in [
            (&[("do", "give"), ("deployment", "nope"), ("caller", "reports")][..], "nope"),
            (&[("do", "give"), ("deployment", "shop"), ("caller", "a b!")], "b!"),
            (&[("do", "give"), ("deployment", "shop"), ("caller", "reports"), ("ports", "0")], "1 to 65535"),
            (&[("do", "drain"), ("instance", "i-999")], "i-999"),
        ] {
            let answer = console.post("/act", fields);
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            assert!(
                answer.contains("role=\"alert\"") && answer.contains("Next: ") && answer.contains(error),
                "{answer}"
            );
        }
    });
}

#[test]
fn what_is_drained_removed_or_revoked_is_shown_first_and_done_when_it_was_confirmed() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let gcp = world.runner(&coordinator, "gcp", Stack::Dual);
        let (app, db) = (aws.attach("shop/app"), gcp.attach("shop/db"));
        let _server = db.serve(5432, Answer::Echo);
        let console = Browser::beside(&coordinator).entered();

        let service = console.act("/act", &[("do", "drain"), ("instance", &db.id)]);
        assert!(service.contains("shop/db") && service.contains("</span> draining"), "{service}");
        wait::until_true("no new connections", || app.connect(db.service_address, 5432).is_err());
        console.act("/act", &[("do", "undrain"), ("instance", &db.id)]);
        wait::until_true("new connections", || app.connect(db.service_address, 5432).is_ok());
        let runner = console.act("/act", &[("do", "drain-node"), ("node", "gcp")]);
        assert!(runner.contains(", drained") && runner.contains("Undrain gcp"), "{runner}");
        console.act("/act", &[("do", "undrain-node"), ("node", "gcp")]);
        let runner = console.act("/act", &[("do", "switch"), ("offload", "udp-gso"), ("on", "off"), ("node", "gcp")]);
        assert!(runner.contains("udp-gso is off at gcp") && runner.contains("Turn on udp-gso"), "{runner}");

        let shown = console.page("/act?do=remove-node&node=gcp");
        assert!(shown.contains("ended: ") && shown.contains("without a live instance: shop/db"), "{shown}");
        for typed in ["", "aws"] {
            let answer = console.post("/act", &[("do", "remove-node"), ("node", "gcp"), ("typed", typed)]);
            assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("nothing has changed"), "{answer}");
        }
        assert!(coordinator.node("gcp").is_some_and(|node| node["state"] == "online"));
        console.act("/act", &[("do", "remove-node"), ("node", "gcp"), ("typed", "gcp")]);
        assert!(coordinator.node("gcp").is_none_or(|node| node["state"] == "removed"));

        let form = [("scope", "any"), ("ttl", "2h"), ("uses", "3"), ("name", "late ones")];
        let made = console.act("/tokens", &form);
        assert!(made.contains("mesh-node up https://") && made.contains(" mesh1."), "{made}");
        let again = console.page("/tokens/made");
        assert!(again.contains("was shown already") && !again.contains("mesh1."), "{again}");
        let id = coordinator.json(&["token", "list"])["tokens"]
            .as_array()
            .and_then(|all| all.iter().find(|token| token["name"] == "late ones"))
            .and_then(|token| token["id"].as_str().map(ToOwned::to_owned))
            .expect("the token");
        let tokens = console.act("/act", &[("do", "revoke"), ("token", &id)]);
        assert!(tokens.contains(&format!("Done: {id} is revoked")), "{tokens}");
        let refused = console.post("/tokens", &[("scope", "teams"), ("names", "A!"), ("ttl", "soon"), ("uses", "1")]);
        assert!(refused.contains("role=\"alert\"") && refused.contains("value=\"soon\""), "{refused}");
    });
}

#[test]
fn a_runner_tries_a_connection_from_the_console_and_by_the_command() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let (aws, gcp) =
            (world.runner(&coordinator, "aws", Stack::Dual), world.runner(&coordinator, "gcp", Stack::Dual));
        let (_app, db) = (aws.attach("shop/app"), gcp.attach("shop/db"));
        let server = db.serve(5432, Answer::Echo);
        let console = Browser::beside(&coordinator).entered();
        let page = console.page("/why?from=shop/app&to=shop/db&port=5432");
        assert!(page.contains("Probe now"), "{page}");
        let tried = console.post("/why", &[("from", "shop/app"), ("to", "shop/db"), ("port", "5432")]);
        assert!(tried.starts_with("HTTP/1.1 200") && tried.contains("Tried by"), "{tried}");
        assert!(tried.contains("a connection to port 5432 was answered"), "{tried}");
        let said = coordinator.command(&["why", "shop/app", "shop/db", "5432", "--probe"]).done();
        assert!(said.stderr.contains("tried by aws") && said.stdout.contains("was answered"), "{said:?}");
        drop(server);
        let outcome = coordinator.command(&["why", "shop/app", "shop/db", "5433", "--probe"]);
        assert!(outcome.expect_code(1).stdout.contains("no program listens on port 5433"));
        coordinator.command(&["why", "shop/cache", "shop/db", "5432", "--probe"]).expect_code(1);
    });
}
