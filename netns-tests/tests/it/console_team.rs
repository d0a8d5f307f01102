//! `serve --console`: browsers sign in with an admin token, and can do what the token allows.

use mesh_netns_tests::{Coordinator, Stack, World, isolated, wait};

use crate::{
    browser::Browser,
    common::{SHOP, declare},
};

const ACME: &str = "deployment = \"billing\"\nteam = \"acme\"\n[services.api]\n";

fn admin(coordinator: &Coordinator, flags: &[&str]) -> (String, String) {
    let made = coordinator.json(&[&["token", "create", "--admin"], flags].concat());
    let text = |field: &str| made[field].as_str().expect("a text").to_owned();
    (text("token"), text("id"))
}

fn origin(coordinator: &Coordinator) -> String {
    coordinator.url(false).replace("7443", "8443")
}

#[test]
fn a_session_begins_with_a_token_and_ends_with_it() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&["--console", "[::]:8443"]);
        declare(&coordinator, &[SHOP]);
        let (token, id) = admin(&coordinator, &["--name", "alice"]);
        let browser = Browser::at(&coordinator, &origin(&coordinator));
        let stranger = browser.page("/");
        assert!(stranger.starts_with("HTTP/1.1 303") && stranger.contains("location: /sign-in\r\n"), "{stranger}");
        assert!(!stranger.contains("shop") && browser.page("/sign-in").contains("type=\"password\""));
        let polled = browser.with("/", &["-H", "Sec-Fetch-Mode: cors", "-H", "Sec-Fetch-Site: same-origin"]);
        assert!(polled.starts_with("HTTP/1.1 401"), "{polled}");

        // A session that another has planted is never taken up.
        browser.show("__Host-mesh-8443=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
        let answer = browser.sign_in(&token);
        assert!(answer.starts_with("HTTP/1.1 303"), "{answer}");
        let cookie = browser.keep(&answer);
        assert!(cookie.starts_with("__Host-mesh-8443=") && !cookie.contains("=AAAAAAAA"), "{cookie}");
        assert!(cookie.ends_with("; Secure; HttpOnly; SameSite=Strict; Path=/"), "{cookie}");
        let page = browser.page("/");
        assert!(page.contains("alice · admin") && page.contains("Sign out"), "{page}");
        let first = browser.cookie();
        browser.keep(&browser.sign_in(&token));
        let second = browser.cookie();
        assert_ne!(first, second);
        browser.show(&first);
        assert!(browser.page("/").starts_with("HTTP/1.1 303"), "signing in again has ended it");

        browser.show(&second);
        let gone = browser.post("/sign-out", &[]);
        assert!(gone.starts_with("HTTP/1.1 303") && browser.page("/").contains("location: /sign-in"), "{gone}");
        browser.keep(&browser.sign_in(&token));
        assert!(browser.page("/").starts_with("HTTP/1.1 200"));
        coordinator.command(&["token", "revoke", &id]).done();
        assert!(browser.page("/").contains("location: /sign-in"), "its token is revoked");
        let log = coordinator.log();
        assert!(!log.contains(&token) && log.contains("the console is served"), "{log}");
    });
}

#[test]
fn a_session_has_the_rights_of_its_token_whatever_is_forged() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&["--console", "[::]:8443"]);
        declare(&coordinator, &[SHOP, ACME]);
        let (_, other) = admin(&coordinator, &[]);
        let (token, _) = admin(&coordinator, &["--team", "acme"]);
        let browser = Browser::at(&coordinator, &origin(&coordinator));
        browser.keep(&browser.sign_in(&token));
        let deployments = browser.page("/deployments");
        assert!(deployments.contains("of team acme") && deployments.contains("billing"), "{deployments}");
        assert!(!deployments.contains("shop") && browser.page("/d/shop").starts_with("HTTP/1.1 404"));
        for fields in [
            &[("do", "give"), ("deployment", "shop"), ("caller", "billing")][..],
            &[("do", "switch"), ("offload", "udp-gso"), ("on", "off"), ("node", "aws")],
            &[("do", "remove-relay"), ("relay", "fra-1"), ("typed", "fra-1")],
            &[("do", "revoke"), ("token", &other)],
        ] {
            let answer = browser.post("/act", fields);
            assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("role=\"alert\""), "{fields:?}: {answer}");
        }
        let answer = browser.post("/tokens", &[("scope", "any"), ("ttl", "1h"), ("uses", "1")]);
        assert!(answer.contains("role=\"alert\""), "{answer}");
        let trusted = browser.act("/act", &[("do", "give"), ("deployment", "billing"), ("caller", "billing2")]);
        assert!(trusted.contains("billing2 may call billing as soon as"), "{trusted}");
    });
}

#[test]
fn a_viewer_looks_and_each_forged_write_is_refused() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&["--console", "[::]:8443"]);
        declare(&coordinator, &[SHOP, ACME]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let db = aws.attach("shop/db");
        let (_, other) = admin(&coordinator, &[]);
        let (token, _) = admin(&coordinator, &["--role", "viewer"]);
        let browser = Browser::at(&coordinator, &origin(&coordinator));
        browser.keep(&browser.sign_in(&token));
        for path in ["/", "/d/shop", "/d/shop/db", "/r/aws", "/tokens", "/relays"] {
            let page = browser.page(path);
            assert!(page.starts_with("HTTP/1.1 200") && page.contains("may look"), "{path}: {page}");
            assert_eq!(page.matches("<button").count(), 2, "to search and to sign out: {path}: {page}");
            assert!(!page.contains("href=\"/act"), "{path}: {page}");
        }
        let before = coordinator.json(&["nodes"])["nodes"].clone();
        for fields in [
            &[("do", "give"), ("deployment", "shop"), ("caller", "billing")][..],
            &[("do", "take"), ("deployment", "shop"), ("caller", "billing")],
            &[("do", "drain"), ("instance", &db.id)],
            &[("do", "undrain"), ("instance", &db.id)],
            &[("do", "drain-node"), ("node", "aws")],
            &[("do", "undrain-node"), ("node", "aws")],
            &[("do", "remove-node"), ("node", "aws"), ("typed", "aws")],
            &[("do", "revoke"), ("token", &other)],
            &[("do", "revoke-all"), ("token", &other), ("typed", &other)],
            &[("do", "remove-relay"), ("relay", "fra-1"), ("typed", "fra-1")],
            &[("do", "switch"), ("offload", "udp-gso"), ("on", "off"), ("node", "aws")],
        ] {
            let answer = browser.post("/act", fields);
            assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("role=\"alert\""), "{fields:?}: {answer}");
            assert!(answer.contains("viewer"), "{fields:?}: {answer}");
        }
        for scope in ["any", "admin"] {
            let form = [("scope", scope), ("role", "admin"), ("ttl", "1h"), ("uses", "1")];
            let answer = browser.post("/tokens", &form);
            assert!(answer.contains("role=\"alert\"") && answer.contains("viewer"), "{answer}");
        }
        let after = coordinator.json(&["nodes"])["nodes"].clone();
        assert_eq!((&before[0]["drained"], &before[0]["off"]), (&after[0]["drained"], &after[0]["off"]));
        assert_eq!(after[0]["state"], "online");
    });
}

#[test]
fn guesses_are_slowed_down_and_other_names_and_plain_http_are_refused() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&["--console", "[::]:8443", "--name", "console.example"]);
        let (token, _) = admin(&coordinator, &[]);
        let browser = Browser::at(&coordinator, &origin(&coordinator));
        for host in ["evil.example", "evil.example:8443", "127.0.0.1.evil.example"] {
            let answer = browser.with("/sign-in", &["-H", &format!("Host: {host}")]);
            assert!(answer.starts_with("HTTP/1.1 421"), "{host}: {answer}");
        }
        assert!(browser.with("/sign-in", &["-H", "Host: console.example"]).starts_with("HTTP/1.1 200"));
        assert_ne!(browser.curl(&browser.origin.replace("https", "http"), &[]).code, Some(0));
        let forged = browser.forge("/sign-in", &["-H", "Sec-Fetch-Site: cross-site"], &[("token", &token)]);
        assert!(forged.starts_with("HTTP/1.1 403") && !forged.contains("set-cookie"), "{forged}");
        let wrong = browser.sign_in("mesha1.nonsense");
        assert!(wrong.starts_with("HTTP/1.1 401") && wrong.contains("role=\"alert\""), "{wrong}");
        wait::until_true("the brake", || browser.sign_in("x").starts_with("HTTP/1.1 429"));
        assert!(browser.sign_in(&token).starts_with("HTTP/1.1 303"), "a good token is taken at once");
    });
}
